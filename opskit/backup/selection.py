"""What the patterns select below a folder, and what of it cannot be kept."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from opskit.backup.manifest import Skipped
from opskit.backup.member import Kind, problem_of_link, problem_of_path
from opskit.backup.pattern import Patterns
from opskit.backup.tree import Tree

_UNFIT = (
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISFIFO, "it is a FIFO"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISCHR, "it is a device"),
)


@dataclass(frozen=True, slots=True)
class Selected:
    path: str
    kind: Kind


@dataclass(slots=True)
class Selection:
    """`chosen` has each folder before what lies in it, in an order that depends on nothing but the names."""

    chosen: list[Selected] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Folders alone are nothing to keep."""
        return not self.skipped and all(one.kind == "folder" for one in self.chosen)


def select(tree: Tree, patterns: Patterns, *, without: Path) -> Selection:
    """Links are not followed. What lies in `without`, the backups themselves, is passed over.

    Raises OSError when the folder of the tree itself cannot be read.
    """
    found = Selection()
    hidden = str(without.relative_to(tree.root)) if without.is_relative_to(tree.root) else None
    found.chosen += _folder(tree, "", patterns, hidden, found.skipped)
    return found


def _folder(
    tree: Tree, path: str, patterns: Patterns, hidden: str | None, skipped: list[Skipped]
) -> Iterator[Selected]:
    for name in tree.entries(path):
        here = f"{path}/{name}" if path else name
        below = patterns.below(name)
        if not below.leads_on or here == hidden:
            continue
        try:
            yield from _entry(tree, here, below, hidden, skipped)
        except OSError as exc:
            if below.selected or not isinstance(exc, NotADirectoryError | FileNotFoundError):
                skipped.append(Skipped(here, f"it cannot be read: {exc.strerror}"))


def _entry(
    tree: Tree, path: str, patterns: Patterns, hidden: str | None, skipped: list[Skipped]
) -> Iterator[Selected]:
    found = tree.look(path)
    if found is None:
        return  # it went away since its folder was read: nothing is missing
    if stat.S_ISDIR(found.st_mode):
        yield from _sub_folder(tree, path, patterns, hidden, skipped)
        return
    if not patterns.selected:
        # A link where patterns want to go on into a folder: what they mean lies elsewhere.
        if stat.S_ISLNK(found.st_mode) and (tree.root / path).is_dir():
            skipped.append(Skipped(path, "it is a link to a folder, and links are not followed"))
        return
    why = problem_of_path(path) or next((why for test, why in _UNFIT if test(found.st_mode)), None)
    kind: Kind = "file"
    if why is None and stat.S_ISLNK(found.st_mode):
        kind, why = "link", _problem_of_link(tree, path)
    if why is not None:
        skipped.append(Skipped(path, why))
    else:
        yield Selected(path, kind)


def _sub_folder(
    tree: Tree, path: str, patterns: Patterns, hidden: str | None, skipped: list[Skipped]
) -> Iterator[Selected]:
    """The folder itself is kept when it is selected or something in it is."""
    why = problem_of_path(path)
    if why is not None:
        if patterns.selected:
            skipped.append(Skipped(path, why))
        return
    inside = list(_folder(tree, path, patterns, hidden, skipped))
    if inside or patterns.selected:
        yield Selected(path, "folder")
        yield from inside


def _problem_of_link(tree: Tree, path: str) -> str | None:
    why = problem_of_link(path, tree.read_link(path))
    if why is None and not Path(os.path.realpath(tree.root / path)).is_relative_to(tree.root):
        why = "it is a link that leads out of the folder by way of another"
    return why
