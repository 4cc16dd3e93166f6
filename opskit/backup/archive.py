"""An archive, open to be read: what it says of itself, and whether that is true."""

import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from opskit.backup import gzip_file, member, tar_file
from opskit.backup.manifest import MAX_BYTES, InvalidManifestError, Manifest, decode
from opskit.backup.member import MANIFEST_NAME, Member, shown
from opskit.backup.tar_file import DamagedError, Header

#: Problems of one archive that are told; one that is cut off has as many as members.
_MOST_PROBLEMS = 50
#: What a header with its extension and padding may take beside the content.
_OVERHEAD = 8 * 1024


class UnreadableError(Exception):
    """The file is no archive of opskit, or is damaged where its manifest should be."""


def _size_bytes(handle: int) -> int:
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        raise DamagedError("it is not a regular file")
    return found.st_size


@dataclass(frozen=True, slots=True)
class Content:
    """A file of the archive. `chunks` are gone when the next one is asked for."""

    member: Member
    chunks: Iterator[bytes]


class Archive:
    """Reads one archive through one descriptor, so that nobody can put another in its place meanwhile."""

    def __init__(self, path: Path) -> None:
        """Reads the manifest. Raises UnreadableError, and OSError when the file cannot be opened."""
        self.path = path
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._file: BinaryIO = os.fdopen(handle, "rb")
        try:
            self.size_bytes = _size_bytes(handle)
            self._raw_manifest = self._read_manifest()
            self.manifest: Manifest = decode(self._raw_manifest)
        except (DamagedError, InvalidManifestError) as exc:
            self._file.close()
            raise UnreadableError(str(exc)) from exc
        except (zlib.error, EOFError, gzip.BadGzipFile) as exc:
            self._file.close()
            raise UnreadableError("its manifest is damaged") from exc
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _read_manifest(self) -> bytes:
        self._file.seek(max(0, self.size_bytes - gzip_file.TRAILER_BYTES))
        place = gzip_file.manifest_at(self._file.read())
        if place is None or place >= self.size_bytes:
            raise DamagedError(
                "it is cut off, or not an archive of opskit: its last bytes are not those of one"
            )
        stream = self._stream(place)
        head = next(tar_file.headers(stream), None)
        if head is None or head.path != MANIFEST_NAME or head.kind != "file":
            raise DamagedError("its manifest is not where it should be")
        if head.size > MAX_BYTES:
            raise DamagedError(f"its manifest is larger than {MAX_BYTES} bytes")
        return b"".join(tar_file.content(stream, head.size))

    def _stream(self, place: int) -> BinaryIO:
        self._file.seek(place)
        unpacked = gzip.GzipFile(fileobj=self._file, mode="rb")
        return io.BufferedReader(unpacked, 1024 * 1024)

    def problems(self, *, ignores_case: bool = False) -> list[str]:
        """Everything that is wrong with it; every byte is read. Empty when it can be restored."""
        found = member.problems(self.manifest.members, ignores_case=ignores_case)
        if self.manifest.content_bytes > self.size_bytes * gzip_file.MAX_RATIO:
            return [*found, "its manifest tells of more than can be packed into its size"]
        found += self._problems_of_content()
        return found[:_MOST_PROBLEMS]

    def _problems_of_content(self) -> list[str]:
        found: list[str] = []
        missing = {one.path: one for one in self.manifest.members}
        try:
            for why in self._differences(missing):
                found.append(why)
                if len(found) >= _MOST_PROBLEMS:
                    return found
        except DamagedError as exc:
            return [*found, str(exc)]
        except (OSError, EOFError, zlib.error):
            return [*found, "the packed data is damaged"]
        return found + [f"{shown(path)}: it is missing" for path in missing]

    def _differences(self, missing: dict[str, Member]) -> Iterator[str]:
        """Read all of it and take from `missing` what is there. Raises DamagedError where that ends early."""
        known = set(missing)
        room = self.manifest.content_bytes
        stream = self._stream(0)
        complete = False
        for head in tar_file.headers(stream):
            if complete:
                raise DamagedError("there is a member behind the manifest")
            if head.path == MANIFEST_NAME:
                complete = self._same_manifest(head, stream)
                continue
            room -= head.size
            if room < 0:
                raise DamagedError("it unpacks to more than its manifest says")
            one = missing.pop(head.path, None)
            why = self._problem_of(one, head, known)
            digest = hashlib.sha256()
            for chunk in tar_file.content(stream, head.size):
                digest.update(chunk)
            if why is None and one is not None and one.kind == "file" and digest.hexdigest() != one.sha256:
                why = "its content does not have the checksum of the manifest"
            if why is not None:
                yield f"{shown(head.path)}: {why}"

    def _same_manifest(self, head: Header, stream: BinaryIO) -> bool:
        """Raises DamagedError: a manifest that is not the one read from the end would be a second truth."""
        if head.size != len(self._raw_manifest):
            raise DamagedError("it has two manifests")
        if b"".join(tar_file.content(stream, head.size)) != self._raw_manifest:
            raise DamagedError("it has two manifests")
        return True

    @staticmethod
    def _problem_of(one: Member | None, head: Header, known: set[str]) -> str | None:
        """Why a tar header does not fit its member, or None."""
        if one is None:
            if head.path in known:
                return "it is there twice"
            return member.problem_of_path(head.path) or f"it is a {head.kind} that the manifest does not have"
        if head.kind != one.kind:
            return f"it is a {head.kind} where the manifest has a {one.kind}"
        if head.mode != one.mode:
            return f"it has mode {head.mode:04o} where the manifest has {one.mode:04o}"
        if head.size != one.size:
            return f"it has {head.size} bytes where the manifest has {one.size}"
        if head.target != one.target:
            return "it leads elsewhere than the manifest says"
        return None

    def contents(self) -> Iterator[Content]:
        """The files, in the order of the archive. Only for one without problems.

        Raises UnreadableError when it has changed since it was judged.
        """
        members = {one.path: one for one in self.manifest.members}
        stream = self._stream(0)
        try:
            for head in tar_file.headers(stream):
                one = members.get(head.path)
                if head.path == MANIFEST_NAME:
                    return
                if one is None or self._problem_of(one, head, set()):
                    raise UnreadableError("it has changed since it was read")
                chunks = tar_file.content(stream, head.size)
                if one.kind == "file":
                    yield Content(one, chunks)
                for _ in chunks:  # nobody wanted it
                    pass
        except (DamagedError, EOFError, zlib.error, gzip.BadGzipFile) as exc:
            raise UnreadableError("it has changed since it was read") from exc
