"""Making an archive: whole, private and durable, or not at all."""

import contextlib
import gzip
import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from opskit.backup.folder import RootFolder, flush
from opskit.backup.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    ArchiveEntry,
    EntryKind,
    Manifest,
    SkippedFile,
    encode,
    problem_of_link,
)
from opskit.errors import OpskitError

#: What the name of a file ends with that is being written.
TEMPORARY = ".tmp"
_CHUNK = 1024 * 1024
#: A quarter of the time of zlib's default, for 15 % more bytes of text.
_LEVEL = 1
#: How often a file that changes while it is read is read again.
_ATTEMPTS = 3
_TYPES = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}


@dataclass(frozen=True, slots=True)
class WrittenArchive:
    path: Path
    manifest: Manifest
    size_bytes: int


def not_written(path: Path | str, exc: OSError) -> OpskitError:
    """Return the error for what the system would not do."""
    return OpskitError("BACKUP_003", f"{path}: {exc.strerror or exc}")


def write_archive(
    folder: RootFolder,
    selected: Iterable[tuple[str, EntryKind]],
    draft: Manifest,
    path: Path,
    *,
    max_file_bytes: int,
) -> WrittenArchive:
    """Put what was selected into the archive `path`, which must not exist.

    `draft` is the manifest without entries and with what was skipped so far; what goes away, changes its kind
    or cannot be read meanwhile joins that. Raises BACKUP_003; nothing is left of the archive then.
    """
    entries: list[ArchiveEntry] = []
    skipped = list(draft.skipped)
    try:
        # The checksums are known when everything is read, and the manifest stands in front of it.
        with tempfile.TemporaryFile(dir=path.parent) as file, contextlib.closing(_Packer(file)) as packer:
            writer = _EntryWriter(folder, packer, max_file_bytes)
            for name, kind in selected:
                entry = writer.add(name, kind)
                if isinstance(entry, str):
                    skipped.append(SkippedFile(name, entry))
                else:
                    entries.append(entry)
            size = writer.end()
            manifest = replace(draft, entries=tuple(entries), skipped=tuple(skipped), packed_bytes=size)
            head = _manifest_member(manifest)
            file.seek(0)
            with written_whole(path) as archive:
                archive.write(head)
                while chunk := file.read(_CHUNK):
                    archive.write(chunk)
    except (_PackingError, OSError) as exc:
        raise not_written(path, exc if isinstance(exc, OSError) else exc.cause) from exc
    return WrittenArchive(path, manifest, len(head) + size)


def _manifest_member(manifest: Manifest) -> bytes:
    text = encode(manifest)
    if len(text) > MAX_MANIFEST_BYTES:
        why = "the paths of so many files do not fit into a manifest"
        raise OpskitError("BACKUP_003", why, remedy="narrow `backup.files`")
    mtime_ns = round(manifest.created.timestamp()) * 10**9
    info = tar_info(ArchiveEntry(MANIFEST_NAME, "file", 0o600, mtime_ns, size=len(text)))
    head = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return gzip.compress(head + text + bytes(-len(text) % tarfile.BLOCKSIZE), _LEVEL, mtime=0)


def temporary_of(path: Path) -> Path:
    """Return the name that a file has while it is written."""
    return path.with_name(f".{path.name.removeprefix('.')}{TEMPORARY}")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Give a file that has its name only when it is complete and on the disk."""
    temporary = temporary_of(path)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        flush(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def tar_info(entry: ArchiveEntry) -> tarfile.TarInfo:
    info = tarfile.TarInfo(entry.path)
    info.type = _TYPES[entry.kind]
    info.mode, info.size, info.linkname = entry.mode, entry.size, entry.target
    info.uid, info.gid, info.mtime = entry.uid, entry.gid, max(0, entry.mtime_ns // 10**9)
    return info


class _PackingError(Exception):
    """The archive's own file could not be written: every other OSError comes from what is archived."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Packer:
    """Packs what tarfile writes as gzip streams in a row, so that the last one can be taken back.

    Every gzip reader takes them for one stream. Raises _PackingError.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._gzip = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0)

    def tell(self) -> int:
        return 0

    def write(self, data: bytes) -> int:
        try:
            return self._gzip.write(data)
        except OSError as exc:
            raise _PackingError(exc) from exc

    def cut(self, position: int | None = None) -> int:
        """Begin another stream; forget what lies behind `position`, if given. Return where it begins."""
        begin = self.end()
        try:
            if position is not None:
                self._file.seek(position)
                self._file.truncate()
                begin = position
            self._gzip = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=_LEVEL, mtime=0)
        except OSError as exc:
            raise _PackingError(exc) from exc
        return begin

    def end(self) -> int:
        """End the stream; return where the file ends."""
        try:
            self._gzip.close()
            return self._file.tell()
        except OSError as exc:
            raise _PackingError(exc) from exc

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._gzip.close()


class _EntryWriter:
    """Writes entries, each as it is at one moment."""

    def __init__(self, folder: RootFolder, packer: _Packer, max_file_bytes: int) -> None:
        self._folder = folder
        self._packer = packer
        self._max_file_bytes = max_file_bytes
        self._tar = tarfile.TarFile(
            fileobj=packer,  # type: ignore[arg-type] # tarfile calls only tell and write
            mode="w",
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
            copybufsize=_CHUNK,
        )

    def end(self) -> int:
        """End the archive; return its size."""
        self._tar.close()
        return self._packer.end()

    def add(self, path: str, kind: EntryKind) -> ArchiveEntry | str:
        """Write one entry; or write nothing, and return why not."""
        try:
            if kind != "file":
                return self._add_other(path, kind)
            for last in (*(False,) * (_ATTEMPTS - 1), True):
                entry = self._add_file(path, last=last)
                if entry is not None:
                    return entry
        except OSError as exc:
            return f"it cannot be read: {exc.strerror}"
        return "it was cut shorter each time it was read"

    def _add_file(self, path: str, *, last: bool) -> ArchiveEntry | str | None:
        """Return None when the file changed meanwhile and is to be read again. What is added is not read."""
        with os.fdopen(self._folder.open(path), "rb") as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                return "it is no longer a regular file"
            if before.st_size > self._max_file_bytes:
                return f"it has {before.st_size} bytes, more than the {self._max_file_bytes} of --max-size"
            entry = _entry_of(path, "file", before)
            if entry.size <= _CHUNK:
                data = file.read(entry.size)
                changed = _has_changed(file, before)
                if changed and not last:
                    return None
                digest = hashlib.sha256(data).hexdigest()
                entry = replace(entry, size=len(data), sha256=digest, changed=changed)
                self._write(entry, io.BytesIO(data))
                return entry
            position, source = self._packer.cut(), _HashingReader(file)
            try:
                self._write(entry, source)
                changed = _has_changed(file, before)
            except OSError as exc:
                self._packer.cut(position)
                if exc.errno is None:  # so tarfile says that the file became shorter
                    return None
                raise
            if changed and not last:
                self._packer.cut(position)
                return None
            return replace(entry, sha256=source.digest.hexdigest(), changed=changed)

    def _add_other(self, path: str, kind: EntryKind) -> ArchiveEntry | str:
        status = self._folder.stat(path)
        fits = stat.S_ISLNK if kind == "link" else stat.S_ISDIR
        if status is None or not fits(status.st_mode):
            return "it went away while the backup was made"
        target = self._folder.read_link(path) if kind == "link" else ""
        if kind == "link" and (why := problem_of_link(path, target)):
            return why
        entry = replace(_entry_of(path, kind, status), size=0, target=target)
        self._write(entry, None)
        return entry

    def _write(self, entry: ArchiveEntry, content: "io.BytesIO | _HashingReader | None") -> None:
        self._tar.addfile(tar_info(entry), content)  # type: ignore[arg-type] # tarfile calls only read
        self._tar.members.clear()  # type: ignore[attr-defined] # tarfile would keep them all in memory


class _HashingReader:
    """Reads a file for tarfile; `digest` is that of what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _entry_of(path: str, kind: EntryKind, status: os.stat_result) -> ArchiveEntry:
    mode = stat.S_IMODE(status.st_mode) & 0o777
    return ArchiveEntry(path, kind, mode, status.st_mtime_ns, status.st_uid, status.st_gid, status.st_size)


def _has_changed(file: BinaryIO, before: os.stat_result) -> bool:
    after = os.fstat(file.fileno())
    return (after.st_size, after.st_mtime_ns, after.st_ctime_ns) != (
        before.st_size,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
