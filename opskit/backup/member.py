"""One thing in an archive, and what may not be in one. Pure."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["file", "folder", "link"]

#: The name of the manifest inside an archive.
MANIFEST_NAME = ".opskit-manifest.json"
#: Folders within folders; nothing that people make comes near.
MAX_DEPTH = 100
_NAME_BYTES = 255
_LINK_BYTES = 4095


@dataclass(frozen=True, slots=True)
class Member:
    """A file, a folder or a link. `path` is relative to the root, with `/` between its names.

    `mode` are the nine permission bits, `size` is that of a file, `target` that of a link. `changed` tells
    that the file was written to each time it was read, so that the parts of it may not fit together.
    """

    path: str
    kind: Kind
    mode: int
    mtime_ns: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    sha256: str = ""
    target: str = ""
    changed: bool = False


def shown(path: str) -> str:
    """A path as it may be printed: bytes that are no UTF-8 are spelled out."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def above(path: str) -> Iterator[str]:
    """The folders that a path lies in, the outermost first, without the root."""
    names = path.split("/")[:-1]
    for count in range(1, len(names) + 1):
        yield "/".join(names[:count])


def problem_of_path(path: str) -> str | None:
    """Why a path cannot be a member's, or None."""
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
    if len(names) > MAX_DEPTH:
        return f"it lies more than {MAX_DEPTH} folders deep"
    if any(len(name.encode("utf-8", "surrogateescape")) > _NAME_BYTES for name in names):
        return f"its name is longer than {_NAME_BYTES} bytes"
    return None


def problem_of_link(path: str, target: str) -> str | None:
    """Why a link may not be kept: it leads, or could lead, out of the root; or None.

    `..` is taken only in front: behind a name that is a link itself it climbs from where that one leads to.
    """
    names = target.split("/")
    climbs = 0
    while climbs < len(names) and names[climbs] == "..":
        climbs += 1
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


def problems(members: Sequence[Member], *, ignores_case: bool = False) -> list[str]:
    """Everything that keeps these members from being put back safely, in their order; empty when all is well.

    `ignores_case` tells that the file system takes `A` and `a` for one name.
    """
    found: list[str] = []
    kinds: dict[str, Kind] = {}
    alike: dict[str, str] = {}
    for member in members:
        why = problem_of_path(member.path) or _problem_of_kind(member) or _problem_of_place(member, kinds)
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", member.path).casefold())
        if why is None and ignores_case and key in alike:
            why = f"on this file system it is the same as {shown(alike[key])}"
        if why is not None:
            found.append(f"{shown(member.path)}: {why}")
        kinds.setdefault(member.path, member.kind)
        alike.setdefault(key, member.path)
    return found


def _problem_of_kind(member: Member) -> str | None:
    if member.mode & ~0o777:
        return "it has setuid, setgid or sticky bits"
    return problem_of_link(member.path, member.target) if member.kind == "link" else None


def _problem_of_place(member: Member, kinds: dict[str, Kind]) -> str | None:
    """`kinds` are those of the members before it."""
    if member.path in kinds:
        return "it is there twice"
    for folder in above(member.path):
        kind = kinds.get(folder)
        if kind is None:
            return f"its folder {shown(folder)} is not there before it"
        if kind != "folder":
            return f"it lies below the {kind} {shown(folder)}"
    return None
