"""What a restoration would change: the archive against what is there now."""

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opskit.backup.member import Member, above, shown
from opskit.backup.pattern import Patterns
from opskit.backup.place import not_written
from opskit.backup.tree import Tree
from opskit.errors import OpskitError, UsageError

Action = Literal["new", "changed", "same"]
_CHUNK = 1024 * 1024
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Change:
    """`why` tells what differs. A file that differs only in its time is the same."""

    member: Member
    action: Action
    why: str = ""


def chosen(members: Sequence[Member], only: Patterns | None) -> tuple[Member, ...]:
    """Those that are meant, with the folders they lie in. Raises UsageError when nothing is."""
    if only is None:
        return tuple(members)
    meant = {member.path for member in members if only.match(member.path)}
    if not meant:
        raise UsageError("nothing in the backup matches --only", remedy="`--dry-run` shows what it holds")
    meant |= {folder for path in meant for folder in above(path)}
    return tuple(member for member in members if member.path in meant)


def changes(members: Iterable[Member], target: Path) -> tuple[Change, ...]:
    """Compare; nothing is written. The members are sound (`member.problems`) and folders come first.

    Raises BACKUP_003 when something stands in the way: a folder where a file belongs, a link where a folder
    belongs (what it leads to may lie anywhere), a device.
    """
    try:
        if not target.exists():
            return tuple(Change(member, "new") for member in members)
        obstacles: list[str] = []
        found: list[Change] = []
        absent: set[str] = set()
        with Tree(target) as tree:
            for member in members:
                if any(folder in absent for folder in above(member.path)):
                    found.append(Change(member, "new"))
                    continue
                one = _change(tree, member)
                if isinstance(one, str):
                    obstacles.append(f"{shown(member.path)} {one}")
                    absent.add(member.path)
                    continue
                if one.action == "new" and member.kind == "folder":
                    absent.add(member.path)
                found.append(one)
    except OSError as exc:
        raise not_written(target, exc) from exc
    if obstacles:
        more = f" and {len(obstacles) - _MOST_NAMED} more" if len(obstacles) > _MOST_NAMED else ""
        raise OpskitError(
            "BACKUP_003",
            f"something stands in the way in {target}: {'; '.join(obstacles[:_MOST_NAMED])}{more}",
            remedy="move it away, or restore elsewhere with --to FOLDER",
        )
    return tuple(found)


def _change(tree: Tree, member: Member) -> Change | str:
    """The change, or what stands in the way."""
    found = tree.look(member.path)
    if found is None:
        return Change(member, "new")
    mode = stat.S_IMODE(found.st_mode) & 0o777
    modes = f"mode {mode:04o}, was {member.mode:04o}"
    if member.kind == "folder":
        if stat.S_ISLNK(found.st_mode):
            return "is a link now, and was a folder"
        if not stat.S_ISDIR(found.st_mode):
            return "is no folder now, and was one"
        return Change(member, "same") if mode == member.mode else Change(member, "changed", modes)
    if stat.S_ISDIR(found.st_mode):
        return f"is a folder now, and was a {member.kind}"
    if stat.S_ISLNK(found.st_mode):
        if member.kind == "file":
            return Change(member, "changed", "is a link now")
        same = tree.read_link(member.path) == member.target
        return Change(member, "same") if same else Change(member, "changed", "leads elsewhere")
    if not stat.S_ISREG(found.st_mode):
        return "is a device, a FIFO or a socket now"
    if member.kind == "link":
        return Change(member, "changed", "is a file now")
    if found.st_size != member.size:
        return Change(member, "changed", f"{found.st_size} bytes, had {member.size}")
    if _sha256(tree, member.path) != member.sha256:
        return Change(member, "changed", "content")
    return Change(member, "same") if mode == member.mode else Change(member, "changed", modes)


def _sha256(tree: Tree, path: str) -> str:
    handle = tree.open(path)
    with os.fdopen(handle, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
