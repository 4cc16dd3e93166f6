"""What an archive holds: its entries with their checksums, and what may not be in one. Pure."""

import json
import platform
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from opskit import __version__

SCHEMA_VERSION = 1
#: The name of the manifest inside an archive.
MANIFEST_NAME = ".opskit-manifest.json"
#: What a restore writes beside the files that it replaces has names that begin so; none is ever archived.
TRACE = ".opskit-restore"
#: A manifest that is larger is refused before it is read: about 300,000 entries.
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
MAX_ENTRIES = 200_000
#: Folders within folders; nothing that people make comes near.
MAX_DEPTH = 100
_NAME_BYTES = 255
_LINK_BYTES = 4095
#: The first number that is too large. `chown` takes 2^32 - 1 for "leave it".
_LIMITS = {"mode": 2**62, "size": 2**62, "uid": 2**32 - 1, "gid": 2**32 - 1}
_OPTIONAL: dict[str, Any] = {"sha256": "", "target": "", "changed": False}
_ENTRY_TYPES: dict[str, type] = {
    **dict.fromkeys(("path", "kind", "sha256", "target"), str),
    **dict.fromkeys(("mode", "mtime_ns", "uid", "gid", "size"), int),
    "changed": bool,
}
_MANIFEST_TYPES: dict[str, type] = {
    **dict.fromkeys(("purpose", "version", "host", "root", "created"), str),
    **dict.fromkeys(("schema_version", "packed_bytes"), int),
    **dict.fromkeys(("members", "skipped"), list),
}

EntryKind = Literal["file", "folder", "link"]
Purpose = Literal["backup", "replaced"]


class InvalidManifestError(ValueError):
    """The text is not a manifest; the message says why."""


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """A file, a folder or a link. `path` is relative to the root, with `/` between its names.

    `mode` are the nine permission bits, `size` is that of a file, `target` that of a link. `changed` says
    that the file was written to each time it was read, so that its parts may not fit together.
    """

    path: str
    kind: EntryKind
    mode: int
    mtime_ns: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    sha256: str = ""
    target: str = ""
    changed: bool = False


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """What should be in the archive and is not, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`purpose` "replaced" marks an archive of what a restore replaced. `created` is in UTC.

    `packed_bytes` is the size of what follows the manifest in the archive, 0 for unknown.
    """

    purpose: Purpose
    version: str
    host: str
    root: str
    created: datetime
    entries: tuple[ArchiveEntry, ...]
    skipped: tuple[SkippedFile, ...] = ()
    packed_bytes: int = 0

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
    content = {
        "schema_version": SCHEMA_VERSION,
        "purpose": manifest.purpose,
        "version": manifest.version,
        "host": manifest.host,
        "root": manifest.root,
        "created": manifest.created.isoformat(timespec="milliseconds"),
        "packed_bytes": manifest.packed_bytes,
        "members": [encode_entry(entry) for entry in manifest.entries],
        "skipped": [asdict(skipped) for skipped in manifest.skipped],
    }
    return json.dumps(content, indent=1).encode("ascii")


def encode_entry(entry: ArchiveEntry) -> dict[str, Any]:
    """Return the entry without what its kind does not have."""
    content = {name: getattr(entry, name) for name in _ENTRY_TYPES}
    return {name: value for name, value in content.items() if name not in _OPTIONAL or value}


def decode(text: bytes) -> Manifest:
    """Read a manifest. Raises InvalidManifestError. `problems` says whether its entries may be restored."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidManifestError("its manifest is not JSON") from exc
    if isinstance(content, dict):
        content = {"packed_bytes": 0, **content}
    _check_types(content, _MANIFEST_TYPES, "the manifest")
    if content["schema_version"] != SCHEMA_VERSION:
        version = content["schema_version"]
        raise InvalidManifestError(f"its manifest has schema version {version}; known is {SCHEMA_VERSION}")
    if content["purpose"] not in ("backup", "replaced"):
        raise InvalidManifestError(f"its manifest has {content['purpose']!r} for `purpose`")
    if len(content["members"]) > MAX_ENTRIES:
        raise InvalidManifestError(f"its manifest has more than {MAX_ENTRIES} members")
    try:
        created = datetime.fromisoformat(content["created"])
    except ValueError as exc:
        raise InvalidManifestError("its manifest has no valid date") from exc
    if created.tzinfo is None:
        raise InvalidManifestError("its manifest has a date without a time zone")
    for skipped in content["skipped"]:
        _check_types(skipped, {"path": str, "reason": str}, "what was skipped")
    members = enumerate(content["members"], 1)
    return Manifest(
        **{name: content[name] for name in ("purpose", "version", "host", "root", "packed_bytes")},
        created=created,
        entries=tuple(decode_entry(entry, f"member {number}") for number, entry in members),
        skipped=tuple(SkippedFile(skipped["path"], skipped["reason"]) for skipped in content["skipped"]),
    )


def decode_entry(content: object, where: str) -> ArchiveEntry:
    """Read one entry. Raises InvalidManifestError."""
    values = {**_OPTIONAL, **content} if isinstance(content, dict) else {}
    _check_types(values, _ENTRY_TYPES, where)
    entry = ArchiveEntry(**{name: values[name] for name in _ENTRY_TYPES})
    if entry.kind not in ("file", "folder", "link"):
        raise InvalidManifestError(f"{where} of the manifest has {entry.kind!r} for `kind`")
    if entry.size and entry.kind != "file":
        raise InvalidManifestError(f"{where} of the manifest is not a file and has a size")
    if any(not 0 <= getattr(entry, name) < limit for name, limit in _LIMITS.items()):
        raise InvalidManifestError(f"{where} of the manifest has a number that cannot be")
    if abs(entry.mtime_ns) >= 2**90:
        raise InvalidManifestError(f"{where} of the manifest has a time that cannot be")
    return entry


def _check_types(content: Any, types: Mapping[str, type], where: str) -> None:
    if not isinstance(content, dict):
        raise InvalidManifestError(f"{where} is not an object")
    for key, kind in types.items():
        if type(content.get(key)) is not kind:
            raise InvalidManifestError(f"{where} has no {kind.__name__} for `{key}`")


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


def problems(entries: Sequence[ArchiveEntry], *, ignores_case: bool = False) -> list[str]:
    """Return everything that keeps these entries from being restored safely, in their order.

    `ignores_case` says that the file system takes `A` and `a` for one name.
    """
    found: list[str] = []
    kinds: dict[str, EntryKind] = {}
    spellings: dict[str, str] = {}
    for entry in entries:
        why = problem_of_path(entry.path) or _problem_of_kind(entry) or _problem_of_order(entry, kinds)
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", entry.path).casefold())
        if why is None and ignores_case and key in spellings:
            why = f"on this file system it is the same as {printable_path(spellings[key])}"
        if why is not None:
            found.append(f"{printable_path(entry.path)}: {why}")
        kinds.setdefault(entry.path, entry.kind)
        spellings.setdefault(key, entry.path)
    return found


def _problem_of_kind(entry: ArchiveEntry) -> str | None:
    if entry.mode & ~0o777:
        return "it has setuid, setgid or sticky bits"
    return problem_of_link(entry.path, entry.target) if entry.kind == "link" else None


def _problem_of_order(entry: ArchiveEntry, kinds: Mapping[str, EntryKind]) -> str | None:
    """`kinds` are those of the entries before it."""
    if entry.path in kinds:
        return "it is there twice"
    for folder in parents(entry.path):
        kind = kinds.get(folder)
        if kind is None:
            return f"its folder {printable_path(folder)} is not there before it"
        if kind != "folder":
            return f"it lies below the {kind} {printable_path(folder)}"
    return None
