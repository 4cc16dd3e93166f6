"""What an archive holds: its entries with their checksums, and what may not be in one. Pure.

An entry describes a file, a folder or a link alike where the manifest lists it, where the tar holds it and
where it lies on the disk: `difference` compares any two.
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, ValidationError, convert, to_builtins

from opskit.errors import OpskitError
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

    `mode` are the nine permission bits, `special` the setuid, setgid and sticky bits, which no restore sets.
    `changed` says that the file was written to while it was read, so that its parts may not fit together.
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


_Entries = Annotated[tuple[ArchiveEntry, ...], Meta(max_length=MAX_ENTRIES)]


class SkippedFile(Record):
    """What should be in the archive and is not, and why."""

    path: str
    reason: str


class RestoreRecord(Record):
    """What a restore was asked for, and the `entries` that it changes. `made_target` says that it is new."""

    archive: str
    only: tuple[str, ...]
    made_target: bool
    entries: _Entries


class Manifest(Record):
    """`purpose` "replaced" marks an archive of what a restore replaced, and `restore` is that restore.

    `packed_bytes` is the size of what follows the manifest in the archive, 0 for unknown.
    """

    purpose: Purpose
    version: str
    host: str
    root: str
    created: Annotated[datetime, Meta(tz=True)]
    entries: _Entries = field(name="members")
    skipped: tuple[SkippedFile, ...] = ()
    packed_bytes: _Count = 0
    restore: RestoreRecord | None = None
    schema_version: Literal[1] = 1

    @property
    def files(self) -> int:
        return sum(entry.kind != "folder" for entry in self.entries)

    @property
    def content_bytes(self) -> int:
        return sum(entry.size for entry in self.entries)


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as JSON; names that are not UTF-8 keep their bytes as escaped surrogates.

    Raises BACKUP_003 when it would be too large to be read again.
    """
    content = to_builtins(manifest, builtin_types=(datetime,))
    text = json.dumps(content, default=datetime.isoformat).encode("ascii")
    if len(text) > MAX_MANIFEST_BYTES:
        why = "the paths of so many files do not fit into a manifest"
        raise OpskitError("BACKUP_003", why, remedy="narrow `backup.files`")
    return text


def decode(text: bytes) -> Manifest:
    """Read a manifest. Raises DamagedArchiveError. `check_entries` says whether they may be restored."""
    try:
        manifest = convert(json.loads(text), Manifest)
    except (ValueError, RecursionError) as exc:
        why = str(exc) if isinstance(exc, ValidationError) else "it is not JSON"
        raise DamagedArchiveError(f"its manifest is not valid: {why}") from None
    if any(entry.size and entry.kind != "file" for entry in manifest.entries):
        raise DamagedArchiveError("its manifest gives a size to what is not a file")
    return manifest


def difference(there: ArchiveEntry, wanted: ArchiveEntry, texts: Mapping[str, str]) -> str:
    """Return the text, filled in, of the first field in which the entries differ; nothing where none does."""
    pairs = ((text, getattr(there, name), getattr(wanted, name)) for name, text in texts.items())
    return next((text.format(*values) for text, *values in pairs if values[0] != values[1]), "")


def special_bits(mode: int) -> str:
    """Return the names of the setuid, setgid and sticky bits in a mode; nothing where it has none."""
    bits = {0o4000: "setuid", 0o2000: "setgid", 0o1000: "sticky"}
    return " and ".join(name for bit, name in bits.items() if mode & bit)


def printable_path(path: str) -> str:
    """Return a path as it may be printed: bytes that are not UTF-8 are spelled out."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def parents(path: str) -> Iterator[str]:
    """Return the folders that a path lies in, the innermost first, without the root."""
    while path := path.rpartition("/")[0]:
        yield path


def _problem_of_text(text: str, limit_bytes: int) -> str | None:
    if any(unicodedata.category(char) == "Cc" for char in text):
        return "holds control characters"
    is_long = any(len(name.encode("utf-8", "surrogateescape")) > limit_bytes for name in text.split("/"))
    return f"is longer than {limit_bytes} bytes" if is_long else None


def problem_of_path(path: str) -> str | None:
    """Return why a path cannot be that of an entry, or None."""
    names = path.split("/")
    if path.startswith("/"):
        return "its path is absolute"
    if ".." in names:
        return "its path leaves the folder by `..`"
    if "" in names or "." in names:
        return "its path has an empty name in it"
    if why := _problem_of_text(path, _NAME_BYTES):
        return f"its name {why}"
    if path == MANIFEST_NAME:
        return "its name is kept for the manifest"
    if any(name.startswith(TRACE) for name in names):
        return "it is left over from an interrupted restoration"
    return f"it lies more than {MAX_DEPTH} folders deep" if len(names) > MAX_DEPTH else None


def problem_of_link(path: str, target: str) -> str | None:
    """Return why a link may not be kept (it leads, or could lead, out of the root), or None.

    `..` is taken only in front: behind a name that is itself a link it climbs from where that link leads.
    """
    names = target.split("/")
    climbs = next((number for number, name in enumerate(names) if name != ".."), len(names))
    if not target or (why := _problem_of_text(target, _LINK_BYTES)):
        return f"it is a link with no usable target: it {why if target else 'is empty'}"
    if target.startswith("/"):
        return "it is an absolute link: only relative ones stay in the folder"
    if climbs > path.count("/"):
        return "it is a link that leads out of the folder"
    has_later = ".." in names[climbs:]
    return "it is a link with `..` behind a name, which may lead out of the folder" if has_later else None


def check_entries(entries: Sequence[ArchiveEntry]) -> None:
    """Raise DamagedArchiveError for what keeps these entries from being restored safely, in their order."""
    kinds: dict[str, EntryKind] = {"": "folder"}
    for entry in entries:
        folder = entry.path.rpartition("/")[0]
        if (why := problem_of_path(entry.path)) is None:
            if entry.path in kinds:
                why = "it is there twice"
            elif folder not in kinds:
                why = f"its folder {printable_path(folder)} is not there before it"
            elif kinds[folder] != "folder":
                why = f"it lies below the {kinds[folder]} {printable_path(folder)}"
            elif entry.mode & ~0o777:
                why = "it has setuid, setgid or sticky bits"
            elif entry.kind == "link":
                why = problem_of_link(entry.path, entry.target)
        if why is not None:
            raise DamagedArchiveError(f"{printable_path(entry.path)}: {why}")
        kinds[entry.path] = entry.kind
