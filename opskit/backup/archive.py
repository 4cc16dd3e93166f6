"""An archive: written whole or not at all, read with distrust.

It is a plain tar.gz whose first member is the manifest. One that has none has no checksums.
"""

import contextlib
import gzip
import hashlib
import os
import platform
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO, Self

from opskit import __version__
from opskit.backup.folder import CREATE, NotKeptError, RootFolder, entry_of, not_written, sha256_of
from opskit.backup.manifest import (
    MANIFEST_NAME,
    MAX_ENTRIES,
    MAX_MANIFEST_BYTES,
    ArchiveEntry,
    DamagedArchiveError,
    EntryKind,
    Manifest,
    NotAnArchiveError,
    Purpose,
    RestoreRecord,
    SkippedFile,
    check_entries,
    decode,
    difference,
    encode,
    parents,
    printable_path,
    problem_of_path,
)
from opskit.errors import OpskitError
from opskit.records import replace

#: What the name of an archive ends with that is being written.
TEMPORARY = ".tmp"
_CHUNK = 1024 * 1024
#: A quarter of the time of zlib's default, for 15 % more bytes of text.
_LEVEL = 1
#: No deflate stream unpacks to more than 1032 times its size.
_MAX_RATIO = 1032
#: How much the headers of one member may take: a path and a link target of a few kilobytes each.
_HEADER_BYTES = 128 * 1024
#: How much may follow the last member: zeros that fill a record.
_MOST_PADDING = 4 * _CHUNK
_GZIP = b"\x1f\x8b"
_TYPES: dict[EntryKind, bytes] = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}
_KINDS: dict[bytes, EntryKind] = {kind: name for name, kind in _TYPES.items()} | {tarfile.AREGTYPE: "file"}
_DIFFERENCES = {
    "kind": "it is a {} where the manifest has a {}",
    "mode": "it has mode {:04o} where the manifest has {:04o}",
    "size": "it has {} bytes where the manifest has {}",
    "target": "it leads elsewhere than the manifest says",
    "sha256": "its content does not have the checksum of the manifest",
}
_REFUSED = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a FIFO",
}
#: What tarfile raises for damaged headers, besides its own errors.
_DAMAGE = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError)


class _Unpacked:
    """What an archive unpacks to, for tarfile a file that only goes forward. Raises DamagedArchiveError.

    Nothing is read beyond `limit`: a header that claims more than it may have is never held in memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._gzip = gzip.GzipFile(fileobj=file, mode="rb")
        self._position, self.limit, self.last = 0, _HEADER_BYTES, b""

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
        self.last = self.unpack(size)
        self._position += size
        if len(self.last) < size:
            raise DamagedArchiveError("it is cut off, or is not a tar archive")
        return self.last

    def unpack(self, size: int) -> bytes:
        try:
            return self._gzip.read(size)
        except EOFError as exc:
            raise DamagedArchiveError("it is cut off") from exc
        except (gzip.BadGzipFile, zlib.error) as exc:
            raise DamagedArchiveError("it is not packed by gzip, or is damaged") from exc


class Archive:
    """An archive that is read through one descriptor, so that nobody can put another in its place meanwhile.

    `manifest` is None for a tar.gz that does not begin with one.
    """

    def __init__(self, path: Path) -> None:
        """Read the manifest. Raises DamagedArchiveError, and OSError when the file cannot be opened."""
        self.path = path
        self._file: BinaryIO = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        try:
            self._status = os.fstat(self._file.fileno())
            self.manifest = self._first_manifest()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _first_manifest(self) -> Manifest | None:
        if not stat.S_ISREG(self._status.st_mode):
            raise NotAnArchiveError("it is not a regular file")
        if self._status.st_size and self._file.read(2) != _GZIP:
            raise NotAnArchiveError("it is not packed by gzip: it is no backup")
        info, content = next(self.members(), (None, None))
        if info is None or content is None or info.name != MANIFEST_NAME:
            return None
        if info.size > MAX_MANIFEST_BYTES:
            raise DamagedArchiveError(f"its manifest is larger than {MAX_MANIFEST_BYTES} bytes")
        manifest = decode(content.read())
        # What follows the manifest begins as gzip does, or it is not all there.
        begin = self._status.st_size - manifest.packed_bytes
        self._file.seek(max(0, begin))
        if begin <= 0 or self._file.read(2) != _GZIP:
            raise DamagedArchiveError("it is cut off, or something was added to it")
        return manifest

    def members(self) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
        """Return every member; its content, which only a file has, is gone when the next one is asked for.

        Raises DamagedArchiveError.
        """
        self._file.seek(0)
        stream = _Unpacked(self._file)
        try:
            tar = tarfile.TarFile(fileobj=stream, encoding="utf-8")  # type: ignore[arg-type] # it is enough
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # tarfile would keep them all in memory
                # tarfile knows by now where the next header begins. `tar czf FILE .` writes `./` in front.
                stream.limit = tar.offset + _HEADER_BYTES
                info.name = info.name.removeprefix("./")
                yield info, tar.extractfile(info) if info.isreg() else None
        except _DAMAGE as exc:
            raise DamagedArchiveError("a tar header is damaged, or it is not a tar archive") from exc
        # Read to the last checksum of gzip; tarfile takes whatever is not a header for the end.
        if stream.last.strip(b"\0"):
            raise DamagedArchiveError("a tar header is damaged")
        if stream.unpack(_MOST_PADDING).strip(b"\0") or stream.unpack(1):
            raise DamagedArchiveError("there is something behind its end")

    def check(self) -> Manifest:
        """Read every byte and return the manifest; that of a tar.gz without one is made of what is in it.

        Raises DamagedArchiveError for anything that keeps the archive from being restored, and OSError.
        """
        room_bytes = self._status.st_size * _MAX_RATIO
        if self.manifest is None:
            manifest = self._made_of({entry.path: entry for entry in self._read(room_bytes)})
            check_entries(manifest.entries)
            return manifest
        check_entries(self.manifest.entries)
        if self.manifest.content_bytes > room_bytes:
            raise DamagedArchiveError("its manifest lists more than can be packed into its size")
        missing = {entry.path: entry for entry in self.manifest.entries}
        for entry in self._read(self.manifest.content_bytes):
            listed, why = (
                missing.pop(entry.path, None),
                f"it is a {entry.kind} that the manifest does not have",
            )
            if listed is None or (why := difference(entry, listed, _DIFFERENCES)):
                raise DamagedArchiveError(f"{printable_path(entry.path)}: {why}")
        for path in missing:
            raise DamagedArchiveError(f"{printable_path(path)}: it is missing")
        return self.manifest

    def _read(self, room_bytes: int) -> Iterator[ArchiveEntry]:
        """Return every member with its checksum. Raises DamagedArchiveError for one that is refused."""
        paths: set[str] = set()
        for number, (info, content) in enumerate(self.members()):
            # Without a manifest in front, one at the end (as opskit once wrote it) is only not restored.
            if info.name == "." or (info.name == MANIFEST_NAME and (number == 0 or self.manifest is None)):
                continue
            room_bytes -= info.size
            if room_bytes < 0 or number > MAX_ENTRIES:
                raise DamagedArchiveError("it unpacks to more than its manifest says, or than is allowed")
            if info.type not in _KINDS or info.issparse():
                why: str | None = f"it is {_REFUSED.get(info.type, f'a tar member of type {info.type!r}')}"
            elif info.size and not info.isreg():
                why = "it is not a file and has a size"
            else:
                why = "it is there twice" if info.name in paths else problem_of_path(info.name)
            if why is not None:
                raise DamagedArchiveError(f"{printable_path(info.name)}: {why}")
            paths.add(info.name)
            yield ArchiveEntry(
                path=info.name,
                kind=_KINDS[info.type],
                mode=info.mode,
                mtime_ns=int(info.mtime) * 10**9,
                uid=info.uid,
                gid=info.gid,
                size=info.size,
                sha256="" if content is None else sha256_of(content),
                target=info.linkname if info.issym() else "",
            )

    def _made_of(self, members: Mapping[str, ArchiveEntry]) -> Manifest:
        """Return the manifest of a tar.gz without one. Folders that are not in it are added."""
        modified_s = int(self._status.st_mtime)
        new = ArchiveEntry("", "folder", 0o755, modified_s * 10**9, uid=os.geteuid(), gid=os.getegid())
        entries = {folder: replace(new, path=folder) for path in members for folder in parents(path)}
        for path, entry in members.items():
            entries[path] = replace(entry, mode=entry.mode & 0o777, special=entry.mode & 0o7000)
        ordered = sorted(entries.values(), key=lambda entry: entry.path.split("/"))
        return Manifest("backup", "", "", "", datetime.fromtimestamp(modified_s, UTC), tuple(ordered))


def opened(path: Path) -> Archive:
    """Open an archive. Raises BACKUP_002 for a file that is not readable as one, BACKUP_001 for no file."""
    try:
        return Archive(path)
    except DamagedArchiveError as exc:
        raise OpskitError("BACKUP_002", f"{path}: {exc}") from exc
    except OSError as exc:
        raise OpskitError("BACKUP_001", f"{path}: {exc.strerror}") from exc


def write_archive(
    folder: RootFolder,
    selected: Iterable[ArchiveEntry],
    path: Path,
    purpose: Purpose,
    now: datetime,
    *,
    skipped: Iterable[SkippedFile] = (),
    max_file_bytes: int | None = None,
    restore: RestoreRecord | None = None,
) -> Manifest:
    """Put what was selected into the archive `path`, which must not exist, and return its manifest.

    A file that goes away or cannot be read joins what was `skipped` so far. Raises BACKUP_003; nothing is
    left of the archive then.
    """
    entries: list[ArchiveEntry] = []
    skipped = list(skipped)
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        # The checksums are known when everything is read, and the manifest stands in front of it.
        with tempfile.TemporaryFile(dir=path.parent) as body:
            with (
                gzip.GzipFile(fileobj=body, mode="wb", compresslevel=_LEVEL, mtime=0) as packed,
                tarfile.TarFile(fileobj=packed, mode="w", encoding="utf-8", copybufsize=_CHUNK) as tar,
                tempfile.SpooledTemporaryFile(_CHUNK, dir=str(path.parent)) as copy,
            ):
                for entry in selected:
                    try:
                        kept = (
                            _copied(folder, entry.path, copy, max_file_bytes)
                            if entry.kind == "file"
                            else entry
                        )
                    except NotKeptError as exc:
                        skipped.append(SkippedFile(entry.path, str(exc)))
                        continue
                    entries.append(kept)
                    copy.seek(0)
                    tar.addfile(tar_info(kept), copy)
                    tar.members.clear()  # type: ignore[attr-defined] # tarfile would keep them all in memory
            manifest = Manifest(
                purpose,
                __version__,
                platform.node(),
                str(folder.root),
                now,
                tuple(entries),
                tuple(skipped),
                packed_bytes=body.tell(),
                restore=restore,
            )
            text = encode(manifest)
            created_ns = round(now.timestamp()) * 10**9
            info = tar_info(ArchiveEntry(MANIFEST_NAME, "file", 0o600, created_ns, size=len(text)))
            head = info.tobuf() + text + bytes(-len(text) % tarfile.BLOCKSIZE)
            body.seek(0)
            with os.fdopen(os.open(temporary, CREATE, 0o600), "wb") as archive:
                archive.write(gzip.compress(head, _LEVEL, mtime=0))
                shutil.copyfileobj(body, archive, _CHUNK)
                archive.flush()
                os.fsync(archive.fileno())
        temporary.rename(path)
        with RootFolder(path.parent) as archives:
            os.fsync(archives.handle(""))
    except BaseException as exc:
        temporary.unlink(missing_ok=True)
        if isinstance(exc, OSError):
            raise not_written(path, exc) from exc
        raise
    return manifest


def _copied(folder: RootFolder, path: str, copy: IO[bytes], max_file_bytes: int | None) -> ArchiveEntry:
    """Fill `copy` with a file as it is at one moment, and return its entry. Raises NotKeptError.

    A file is copied because it may be written to, or cut shorter, while it is packed. What is added meanwhile
    is not read.
    """
    copy.seek(0)
    copy.truncate()
    digest = hashlib.sha256()
    with _reading():
        file = folder.open(path)
    with file:
        before = os.fstat(file.fileno())
        entry = entry_of(path, before)
        if entry.kind != "file":
            raise NotKeptError("it is no longer a regular file")
        if max_file_bytes is not None and entry.size > max_file_bytes:
            raise NotKeptError(f"it has {entry.size} bytes, more than the {max_file_bytes} of --max-size")
        while True:
            with _reading():
                data = file.read(min(_CHUNK, entry.size - copy.tell()))
            if not data:
                break
            digest.update(data)
            copy.write(data)
        after = os.fstat(file.fileno())
    is_same = (before.st_ctime_ns, copy.tell()) == (after.st_ctime_ns, after.st_size)
    return replace(entry, size=copy.tell(), sha256=digest.hexdigest(), changed=not is_same)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Tell what cannot be read from an archive that cannot be written."""
    try:
        yield
    except OSError as exc:
        raise NotKeptError(f"it cannot be read: {exc.strerror}") from exc


def tar_info(entry: ArchiveEntry) -> tarfile.TarInfo:
    info = tarfile.TarInfo(entry.path)
    info.type = _TYPES[entry.kind]
    info.mode, info.size, info.linkname = entry.mode, entry.size, entry.target
    info.uid, info.gid, info.mtime = entry.uid, entry.gid, max(0, entry.mtime_ns // 10**9)
    return info
