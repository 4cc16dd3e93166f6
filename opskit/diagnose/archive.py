"""A bundle as a file: written whole or not at all, for its owner alone, always in the same order."""

import contextlib
import gzip
import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.diagnose.quantities import size
from opskit.errors import UsageError

_FOLDER = "opskit-diagnose"


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the archive; `note` says what was cut."""

    name: str
    content: bytes
    note: str = ""

    @property
    def shown_size(self) -> str:
        return size(len(self.content))


@dataclass(frozen=True, slots=True)
class BundleEntry:
    """A member as it was written."""

    name: str
    size_bytes: int
    note: str

    @property
    def shown_size(self) -> str:
        return size(self.size_bytes)


@dataclass(frozen=True, slots=True)
class Written:
    """The archive that was written."""

    path: Path
    size_bytes: int
    members: tuple[BundleEntry, ...]

    @property
    def shown_size(self) -> str:
        return size(self.size_bytes)

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "size_bytes": self.size_bytes,
            "members": [
                {"name": one.name, "size_bytes": one.size_bytes, "note": one.note} for one in self.members
            ],
        }


def check(path: Path, *, force: bool) -> None:
    """Raises UsageError for a place where `written` could not write, before anything is gathered."""
    try:
        if path.exists() and not force:
            raise UsageError(f"{path} exists", remedy="give --force to replace it, or another name")
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no regular file", remedy="name a file, such as bundle.tar.gz")
        temporary = _beside(path)
        os.close(_create(temporary))
        temporary.unlink()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a usable path"
        raise UsageError(
            f"--bundle {path}: {reason}", remedy="name a file in a folder that can be written"
        ) from exc


def written(path: Path, members: Sequence[Member], at: datetime, *, force: bool) -> Written:
    """The members in their order. Raises OSError, FileExistsError among them; then nothing is left behind."""
    temporary = _beside(path)
    handle = _create(temporary)
    try:
        with os.fdopen(handle, "wb") as file:
            _fill(file, members, at)
            file.flush()
            os.fsync(file.fileno())
            size_bytes = file.tell()
        if force:
            temporary.replace(path)
        else:
            # Unlike a rename, a link does not replace what somebody put there meanwhile.
            os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    entries = tuple(BundleEntry(one.name, len(one.content), one.note) for one in members)
    return Written(path, size_bytes, entries)


def _fill(file: Any, members: Sequence[Member], at: datetime) -> None:
    # No name and no time in the frame: the same members give the same bytes.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for one in members:
            info = tarfile.TarInfo(f"{_FOLDER}/{one.name}")
            info.size, info.mode, info.mtime = len(one.content), 0o600, int(at.timestamp())
            archive.addfile(info, io.BytesIO(one.content))


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
