"""What an archive holds: its entries with their checksums, and what may not be in one. Pure."""

import json
import platform
import stat
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, ValidationError, convert, to_builtins

from opskit import __version__
from opskit.facts.unfinished_restore import TRACE
from opskit.records import Record, field

#: The name of the manifest inside an archive.
MANIFEST_NAME = ".opskit-manifest.json"
#: A manifest that is larger is refused before it is read: room for twice as many entries as there may be.
MAX_MANIFEST_BYTES = 128 * 1024 * 1024
MAX_ENTRIES = 200_000
#: Folders within folders; nothing that people make comes near.
MAX_DEPTH = 100
_NAME_BYTES = 255
_LINK_BYTES = 4095

EntryKind = Literal["file", "folder", "link"]
Purpose = Literal["backup", "replaced"]
_Count = Annotated[int, Meta(ge=0, lt=2**62)]
#: `chown` takes 2^32 - 1 for "leave it".
_Id = Annotated[int, Meta(ge=0, lt=2**32 - 1)]


class DamagedArchiveError(Exception):
    """The file is damaged, or is not an archive; the message says how."""


class NotAnArchiveError(DamagedArchiveError):
    """The file never was an archive."""


class ArchiveEntry(Record):
    """A file, a folder or a link. `path` is relative to the root, with `/` between its names.

    `mode` are the nine permission bits, `size` is that of a file, `target` that of a link. `changed` says
    that the file was written to each time it was read, so that its parts may not fit together. `special` are
    its setuid, setgid and sticky bits, which no restore sets.
    """

    path: str
    kind: EntryKind
    mode: _Count
    mtime_ns: int
    uid: _Id = 0
    gid: _Id = 0
    size: _Count = 0
    sha256: str = ""
    target: str = ""
    changed: bool = False
    special: _Count = 0


class SkippedFile(Record):
    """What should be in the archive and is not, and why."""

    path: str
    reason: str


class RestoreRecord(Record):
    """What a restore was asked for, and the `entries` that it changes. `made_target` says that it is new."""

    archive: str
    only: tuple[str, ...]
    made_target: bool
    entries: Annotated[tuple[ArchiveEntry, ...], Meta(max_length=MAX_ENTRIES)]

    @property
    def files(self) -> list[ArchiveEntry]:
        """Return the files and links that get their place."""
        return [entry for entry in self.entries if entry.kind != "folder"]

    @property
    def folders(self) -> list[ArchiveEntry]:
        """Return the folders that are made or get another mode, the outermost first."""
        return [entry for entry in self.entries if entry.kind == "folder"]

    def staged(self, suffix: str) -> dict[str, str]:
        """Return where the file for each path lies, beside it, before it is put in place."""
        return {
            entry.path: f"{''.join(entry.path.rpartition('/')[:2])}{TRACE}-{number}.{suffix}"
            for number, entry in enumerate(self.files, 1)
        }


class Manifest(Record):
    """`purpose` "replaced" marks an archive of what a restore replaced, and `restore` is that restore.

    `packed_bytes` is the size of what follows the manifest in the archive, 0 for unknown.
    """

    purpose: Purpose
    version: str
    host: str
    root: str
    created: Annotated[datetime, Meta(tz=True)]
    entries: Annotated[tuple[ArchiveEntry, ...], Meta(max_length=MAX_ENTRIES)] = field(name="members")
    skipped: tuple[SkippedFile, ...] = ()
    packed_bytes: _Count = 0
    restore: RestoreRecord | None = None
    schema_version: Literal[1] = 1

    @property
    def files(self) -> int:
        return sum(1 for entry in self.entries if entry.kind != "folder")

    @property
    def content_bytes(self) -> int:
        return sum(entry.size for entry in self.entries)


def empty_manifest(purpose: Purpose, root: Path, now: datetime) -> Manifest:
    """Return the manifest of an archive that this machine begins now, without entries."""
    return Manifest(purpose, __version__, platform.node(), str(root), now, ())


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as JSON; names that are not UTF-8 keep their bytes as escaped surrogates."""
    content = to_builtins(manifest, builtin_types=(datetime,))
    return json.dumps(content, default=datetime.isoformat).encode("ascii")


def decode(text: bytes) -> Manifest:
    """Read a manifest. Raises DamagedArchiveError. `check_entries` says whether they may be restored."""
    try:
        manifest = convert(json.loads(text), Manifest)
    except ValidationError as exc:
        raise DamagedArchiveError(f"its manifest is not valid: {exc}") from None
    except (ValueError, RecursionError) as exc:
        raise DamagedArchiveError("its manifest is not JSON") from exc
    if any(entry.size and entry.kind != "file" for entry in manifest.entries):
        raise DamagedArchiveError("its manifest gives a size to what is not a file")
    return manifest


def special_bits(mode: int) -> str:
    """Return the names of the setuid, setgid and sticky bits in a mode; nothing where it has none."""
    bits = {stat.S_ISUID: "setuid", stat.S_ISGID: "setgid", stat.S_ISVTX: "sticky"}
    return " and ".join(name for bit, name in bits.items() if mode & bit)


def printable_path(path: str) -> str:
    """Return a path as it may be printed: bytes that are not UTF-8 are spelled out."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def parents(path: str) -> Iterator[str]:
    """Return the folders that a path lies in, the outermost first, without the root."""
    names = path.split("/")[:-1]
    for count in range(1, len(names) + 1):
        yield "/".join(names[:count])


def problem_of_path(path: str) -> str | None:
    """Return why a path cannot be that of an entry, or None."""
    names = path.split("/")
    if any(unicodedata.category(char) == "Cc" for char in path):
        return "its name holds control characters"
    if path.startswith("/"):
        return "its path is absolute"
    if ".." in names:
        return "its path leaves the folder by `..`"
    if "" in names or "." in names:
        return "its path has an empty name in it"
    if path == MANIFEST_NAME:
        return "its name is kept for the manifest"
    if any(name.startswith(TRACE) for name in names):
        return "it is left over from an interrupted restoration"
    if len(names) > MAX_DEPTH:
        return f"it lies more than {MAX_DEPTH} folders deep"
    if any(len(name.encode("utf-8", "surrogateescape")) > _NAME_BYTES for name in names):
        return f"its name is longer than {_NAME_BYTES} bytes"
    return None


def problem_of_link(path: str, target: str) -> str | None:
    """Return why a link may not be kept (it leads, or could lead, out of the root), or None.

    `..` is taken only in front: behind a name that is itself a link it climbs from where that link leads.
    """
    names = target.split("/")
    climbs = next((number for number, name in enumerate(names) if name != ".."), len(names))
    if not target or len(target.encode("utf-8", "surrogateescape")) > _LINK_BYTES:
        return "it is a link with no usable target"
    if any(unicodedata.category(char) == "Cc" for char in target):
        return "it is a link whose target holds control characters"
    if target.startswith("/"):
        return "it is an absolute link: only relative ones stay in the folder"
    if climbs > path.count("/"):
        return "it is a link that leads out of the folder"
    if ".." in names[climbs:]:
        return "it is a link with `..` behind a name, which may lead out of the folder"
    return None


def check_entries(entries: Sequence[ArchiveEntry], *, ignores_case: bool = False) -> None:
    """Raise DamagedArchiveError for what keeps these entries from being restored safely, in their order.

    `ignores_case` says that the file system takes `A` and `a` for one name.
    """
    kinds: dict[str, EntryKind] = {}
    spellings: dict[str, str] = {}
    for entry in entries:
        key = entry.path
        if ignores_case:
            key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", key).casefold())
        other = spellings.setdefault(key, entry.path)
        why = problem_of_path(entry.path) or _problem_of_place(entry.path, kinds)
        if entry.mode & ~0o777:
            why = why or "it has setuid, setgid or sticky bits"
        if entry.kind == "link":
            why = why or problem_of_link(entry.path, entry.target)
        if other != entry.path:
            why = why or f"on this file system it is the same as {printable_path(other)}"
        if why is not None:
            raise DamagedArchiveError(f"{printable_path(entry.path)}: {why}")
        kinds[entry.path] = entry.kind


def _problem_of_place(path: str, kinds: Mapping[str, EntryKind]) -> str | None:
    """`kinds` are the kinds of the entries before it."""
    if path in kinds:
        return "it is there twice"
    for folder in parents(path):
        kind = kinds.get(folder)
        if kind is None:
            return f"its folder {printable_path(folder)} is not there before it"
        if kind != "folder":
            return f"it lies below the {kind} {printable_path(folder)}"
    return None
