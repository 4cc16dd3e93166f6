"""An archive, read with distrust.

It is a plain tar.gz whose first member is the manifest. One that has none has no checksums.
"""

import gzip
import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, Self

from opskit.backup.manifest import (
    MANIFEST_NAME,
    MAX_ENTRIES,
    MAX_MANIFEST_BYTES,
    ArchiveEntry,
    EntryKind,
    InvalidManifestError,
    Manifest,
    decode,
    parents,
    printable_path,
    problem_of_path,
    problems,
)
from opskit.errors import OpskitError

_CHUNK = 1024 * 1024
#: No deflate stream unpacks to more than 1032 times its size.
_MAX_RATIO = 1032
#: How much the headers of one member may take: a path and a link target of a few kilobytes each.
_HEADER_BYTES = 128 * 1024
#: How much may follow the last member: zeros that fill a record.
_MOST_PADDING = 4
#: Problems of one archive that are reported; one that is cut off has as many as members.
_MOST_PROBLEMS = 50
_KINDS: dict[bytes, EntryKind] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
}
_REFUSED = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a FIFO",
}
#: What tarfile raises for damaged headers, besides its own errors.
_DAMAGE = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError)


class DamagedArchiveError(Exception):
    """The file is damaged, or is not an archive; the message says how."""


class _UnpackedStream:
    """What an archive unpacks to, for tarfile a file that only goes forward.

    Nothing is read beyond `limit`: a header that claims more than it may have is damage, and is never held
    in memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._gzip = gzip.GzipFile(fileobj=file, mode="rb")
        self._position = 0
        self._last = b""
        self.limit = _HEADER_BYTES

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise DamagedArchiveError("a tar header leads back")
        while self._position < position:
            self.read(min(position - self._position, _CHUNK))

    def read(self, size: int) -> bytes:
        if size < 0 or self._position + size > self.limit:
            raise DamagedArchiveError(f"a tar header is larger than {_HEADER_BYTES} bytes")
        self._last = self._unpack(size)
        self._position += size
        if len(self._last) < size:
            raise DamagedArchiveError("it is cut off, or is not a tar archive")
        return self._last

    def _unpack(self, size: int) -> bytes:
        try:
            return self._gzip.read(size)
        except EOFError as exc:
            raise DamagedArchiveError("it is cut off") from exc
        except gzip.BadGzipFile as exc:
            raise DamagedArchiveError("it is not packed by gzip, or is damaged") from exc
        except zlib.error as exc:
            raise DamagedArchiveError("the packed data is damaged") from exc

    def check_end(self) -> None:
        """Read to the last checksum of gzip. tarfile takes whatever is not a header for the end."""
        if self._last.strip(b"\0"):
            raise DamagedArchiveError("a tar header is damaged")
        for _ in range(_MOST_PADDING):
            chunk = self._unpack(_CHUNK)
            if not chunk:
                return
            if chunk.strip(b"\0"):
                break
        raise DamagedArchiveError("there is something behind its end")


class Archive:
    """An archive that is read through one descriptor, so that nobody can put another in its place meanwhile.

    `manifest` is None for a tar.gz that does not begin with one.
    """

    def __init__(self, path: Path) -> None:
        """Read the manifest. Raises DamagedArchiveError, and OSError when the file cannot be opened."""
        self.path = path
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._file: BinaryIO = os.fdopen(handle, "rb")
        try:
            status = os.fstat(handle)
            self.size_bytes = status.st_size
            self._modified = datetime.fromtimestamp(int(status.st_mtime), UTC)
            self.manifest = self._first_manifest(status)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _first_manifest(self, status: os.stat_result) -> Manifest | None:
        if not stat.S_ISREG(status.st_mode):
            raise DamagedArchiveError("it is not a regular file")
        info, content = next(self._members(), (None, None))
        if info is None or content is None or info.name != MANIFEST_NAME:
            return None
        manifest = _manifest_in(info, content)
        # What follows the manifest begins as gzip does, or it is not all there.
        self._file.seek(max(0, self.size_bytes - manifest.packed_bytes))
        if self.size_bytes <= manifest.packed_bytes or self._file.read(2) != b"\x1f\x8b":
            raise DamagedArchiveError("it is cut off, or something was added to it")
        return manifest

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
        """Return every tar member; its content is gone when the next one is asked for."""
        self._file.seek(0)
        stream = _UnpackedStream(self._file)
        try:
            tar = tarfile.TarFile(
                fileobj=stream,  # type: ignore[arg-type] # tarfile calls only tell, seek and read
                encoding="utf-8",
                errors="surrogateescape",
            )
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # tarfile would keep them all in memory
                # tarfile knows by now where the next header begins.
                stream.limit = tar.offset + _HEADER_BYTES
                yield info, tar.extractfile(info) if info.isreg() else None
        except _DAMAGE as exc:
            raise DamagedArchiveError("a tar header is damaged, or it is not a tar archive") from exc
        stream.check_end()

    def check(self, *, ignores_case: bool = False) -> tuple[Manifest, list[str]]:
        """Read every byte; return the manifest and everything that keeps the archive from being restored.

        The manifest of a tar.gz without one is made of what is in it. Raises OSError.
        """
        manifest = self.manifest
        if manifest is not None and manifest.content_bytes > self.size_bytes * _MAX_RATIO:
            return manifest, ["its manifest lists more than can be packed into its size"]
        entries: list[ArchiveEntry] = []
        refused: list[str] = []
        found: list[str] = []
        try:
            self._read(entries, refused)
        except DamagedArchiveError as exc:
            found.append(str(exc))
        except _DAMAGE:
            found.append("a tar header is damaged")
        if manifest is None:
            found += _twice(entries)
            manifest = self._made_of(entries)
        elif not found:
            found += _differences(manifest, entries)
        found = [*problems(manifest.entries, ignores_case=ignores_case), *refused, *found]
        return manifest, found[:_MOST_PROBLEMS]

    def _read(self, entries: list[ArchiveEntry], refused: list[str]) -> None:
        """Fill both lists. Raises DamagedArchiveError where reading on would be of no use."""
        room = self.size_bytes * _MAX_RATIO if self.manifest is None else self.manifest.content_bytes
        for number, (info, content) in enumerate(self._members()):
            # Without a manifest in front, one at the end (as opskit once wrote it) is only not restored.
            if info.name == "." or (info.name == MANIFEST_NAME and (number == 0 or self.manifest is None)):
                continue
            room -= info.size
            if room < 0 or number > MAX_ENTRIES:
                raise DamagedArchiveError("it unpacks to more than its manifest says, or than is allowed")
            why = _refusal(info)
            if why is not None:
                refused.append(f"{printable_path(info.name)}: {why}")
            else:
                entries.append(_entry(info, content))

    def _made_of(self, read: Iterable[ArchiveEntry]) -> Manifest:
        """Return the manifest of a tar.gz without one. Folders that are not in it are added."""
        entries = {entry.path: replace(entry, mode=entry.mode & 0o777) for entry in read}
        mtime_ns = round(self._modified.timestamp()) * 10**9
        for folder in {folder for path in entries for folder in parents(path)} - set(entries):
            entries[folder] = ArchiveEntry(folder, "folder", 0o755, mtime_ns, os.geteuid(), os.getegid())
        in_order = sorted(entries.values(), key=lambda entry: entry.path.split("/"))
        return Manifest("backup", "", "", "", self._modified, tuple(in_order))

    def contents(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Return path and content of every file, in the order of the archive.

        Raises DamagedArchiveError when the archive has changed since it was checked.
        """
        for info, content in self._members():
            if content is not None:
                yield _path(info), content


def opened(path: Path) -> Archive:
    """Open an archive. Raises BACKUP_002 for a file that is not readable as one, BACKUP_001 for no file."""
    if not hasattr(tarfile, "data_filter"):
        remedy = "use Python 3.11.4 or newer"
        raise OpskitError("BACKUP_003", "this Python cannot judge tar archives safely", remedy=remedy)
    try:
        return Archive(path)
    except DamagedArchiveError as exc:
        raise OpskitError("BACKUP_002", f"{path}: {exc}") from exc
    except OSError as exc:
        raise OpskitError("BACKUP_001", f"{path}: {exc.strerror}") from exc


def _manifest_in(info: tarfile.TarInfo, content: IO[bytes]) -> Manifest:
    if info.size > MAX_MANIFEST_BYTES:
        raise DamagedArchiveError(f"its manifest is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        return decode(content.read())
    except InvalidManifestError as exc:
        raise DamagedArchiveError(str(exc)) from exc


def _path(info: tarfile.TarInfo) -> str:
    """Return the path of a member: `tar czf FILE .` writes `./` in front of each."""
    return info.name.removeprefix("./")


def _refusal(info: tarfile.TarInfo) -> str | None:
    """Return why a member may not be in any archive, or None."""
    if info.type not in _KINDS or info.issparse():
        return f"it is {_REFUSED.get(info.type, f'a tar member of type {info.type!r}')}"
    if info.size and not info.isreg():
        return "it is not a file and has a size"
    why = problem_of_path(_path(info))
    if why is None and not info.issym():
        try:
            tarfile.data_filter(info, "/")
        except tarfile.FilterError as exc:
            return f"tarfile refuses it ({type(exc).__name__})"
    return why


def _entry(info: tarfile.TarInfo, content: Any) -> ArchiveEntry:
    return ArchiveEntry(
        path=_path(info),
        kind=_KINDS[info.type],
        mode=info.mode,
        mtime_ns=int(info.mtime) * 10**9,
        uid=info.uid,
        gid=info.gid,
        size=info.size,
        sha256="" if content is None else hashlib.file_digest(content, "sha256").hexdigest(),
        target=info.linkname if info.issym() else "",
    )


def _twice(entries: Iterable[ArchiveEntry]) -> Iterator[str]:
    seen: set[str] = set()
    for entry in entries:
        if entry.path in seen:
            yield f"{printable_path(entry.path)}: it is there twice"
        seen.add(entry.path)


def _differences(manifest: Manifest, entries: Iterable[ArchiveEntry]) -> Iterator[str]:
    """Return where the tar members are not what the manifest lists."""
    missing = {entry.path: entry for entry in manifest.entries}
    yield from _twice(entries)
    for entry in entries:
        listed = missing.pop(entry.path, None)
        why = None if listed is None else _difference(listed, entry)
        if listed is None:
            why = f"it is a {entry.kind} that the manifest does not have"
        if why is not None:
            yield f"{printable_path(entry.path)}: {why}"
    yield from (f"{printable_path(path)}: it is missing" for path in missing)


def _difference(listed: ArchiveEntry, entry: ArchiveEntry) -> str | None:
    if entry.kind != listed.kind:
        return f"it is a {entry.kind} where the manifest has a {listed.kind}"
    if entry.mode != listed.mode:
        return f"it has mode {entry.mode:04o} where the manifest has {listed.mode:04o}"
    if entry.size != listed.size:
        return f"it has {entry.size} bytes where the manifest has {listed.size}"
    if entry.target != listed.target:
        return "it leads elsewhere than the manifest says"
    if entry.sha256 != listed.sha256:
        return "its content does not have the checksum of the manifest"
    return None
