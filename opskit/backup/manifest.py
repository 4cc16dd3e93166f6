"""What an archive says of itself: when it was made, of what, and the checksum of every member."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from opskit import __version__
from opskit.backup.member import Kind, Member

SCHEMA_VERSION = 1
#: A manifest that is larger is refused before it is read: about 300,000 members.
MAX_BYTES = 64 * 1024 * 1024
MAX_MEMBERS = 200_000
#: What `chown` takes for "leave it".
_NO_OWNER = 2**32 - 1

Purpose = Literal["backup", "replaced"]


class InvalidManifestError(ValueError):
    """The text is no manifest; the message says why."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was selected and is not in the archive, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`purpose` "replaced" marks an archive of what a restoration replaced. `created` is in UTC."""

    purpose: Purpose
    version: str
    host: str
    root: str
    created: datetime
    members: tuple[Member, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def files(self) -> int:
        return sum(1 for member in self.members if member.kind != "folder")

    @property
    def content_bytes(self) -> int:
        return sum(member.size for member in self.members)


def drafted(purpose: Purpose, root: Path, now: datetime, skipped: Sequence[Skipped] = ()) -> Manifest:
    """The manifest of an archive that this machine begins now, without members."""
    return Manifest(purpose, __version__, platform.node(), str(root), now, (), tuple(skipped))


def encode(manifest: Manifest) -> bytes:
    """JSON; names that are no UTF-8 keep their bytes as escaped surrogates."""
    content = {
        "schema_version": SCHEMA_VERSION,
        **{field.name: getattr(manifest, field.name) for field in fields(manifest)},
        "created": manifest.created.isoformat(timespec="milliseconds"),
        "members": [_lean(member) for member in manifest.members],
        "skipped": [asdict(one) for one in manifest.skipped],
    }
    return json.dumps(content, indent=1).encode("ascii")


def _lean(member: Member) -> dict[str, Any]:
    """Without what the kind of member does not have."""
    content = asdict(member)
    for field in fields(member):
        if content[field.name] == field.default and field.name not in ("uid", "gid", "size"):
            del content[field.name]
    return content


def decode(text: bytes) -> Manifest:
    """Raises InvalidManifestError. That members may be put back is for `member.problems` to say."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidManifestError("its manifest is no JSON") from exc
    table = _Table(content, "the manifest")
    version = table.number("schema_version")
    if version != SCHEMA_VERSION:
        raise InvalidManifestError(f"its manifest has schema version {version}; known is {SCHEMA_VERSION}")
    members = table.items("members")
    if len(members) > MAX_MEMBERS:
        raise InvalidManifestError(f"its manifest has more than {MAX_MEMBERS} members")
    try:
        created = datetime.fromisoformat(table.text("created"))
    except ValueError as exc:
        raise InvalidManifestError("its manifest has no valid date") from exc
    if created.tzinfo is None:
        raise InvalidManifestError("its manifest has a date without a time zone")
    return Manifest(
        purpose="replaced" if table.choice("purpose", ("backup", "replaced")) == "replaced" else "backup",
        version=table.text("version"),
        host=table.text("host"),
        root=table.text("root"),
        created=created,
        members=tuple(_member(one, f"member {place}") for place, one in enumerate(members, 1)),
        skipped=tuple(_skipped(one) for one in table.items("skipped")),
    )


def _member(content: object, where: str) -> Member:
    table = _Table(content, where)
    kind: Kind
    match table.choice("kind", ("file", "folder", "link")):
        case "file":
            kind = "file"
        case "folder":
            kind = "folder"
        case _:
            kind = "link"
    member = Member(
        path=table.text("path"),
        kind=kind,
        mode=table.number("mode"),
        mtime_ns=table.number("mtime_ns", below=2**90),
        uid=table.number("uid", below=_NO_OWNER),
        gid=table.number("gid", below=_NO_OWNER),
        size=table.number("size"),
        sha256=table.text("sha256") if kind == "file" else "",
        target=table.text("target") if kind == "link" else "",
        changed=table.get("changed", False) is True,
    )
    if member.size and kind != "file":
        raise InvalidManifestError(f"{where} of the manifest is no file and has a size")
    if min(member.mode, member.uid, member.gid, member.size) < 0:
        raise InvalidManifestError(f"{where} of the manifest has a negative number")
    return member


def _skipped(content: object) -> Skipped:
    table = _Table(content, "what was skipped")
    return Skipped(table.text("path"), table.text("reason"))


class _Table:
    """An object of the JSON, read key by key with the type that is due."""

    def __init__(self, content: object, where: str) -> None:
        if not isinstance(content, dict):
            raise InvalidManifestError(f"{where} is no object")
        self._content = content
        self._where = where

    def get(self, key: str, default: object = None) -> object:
        return self._content.get(key, default)

    def text(self, key: str) -> str:
        found = self.get(key)
        if not isinstance(found, str):
            raise InvalidManifestError(f"{self._where} has no text for `{key}`")
        return found

    def number(self, key: str, *, below: int = 2**62) -> int:
        found = self.get(key)
        if not isinstance(found, int) or isinstance(found, bool) or abs(found) >= below:
            raise InvalidManifestError(f"{self._where} has no usable number for `{key}`")
        return found

    def items(self, key: str) -> list[Any]:
        found = self.get(key)
        if not isinstance(found, list):
            raise InvalidManifestError(f"{self._where} has no list for `{key}`")
        return found

    def choice(self, key: str, known: tuple[str, ...]) -> str:
        found = self.text(key)
        if found not in known:
            raise InvalidManifestError(f"{self._where} has {found!r} for `{key}`")
        return found
