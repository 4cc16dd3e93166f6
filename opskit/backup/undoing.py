"""Taking a restoration back, or bringing one that was killed to its end.

Every function looks at what is there and does what is left to do, so that it may itself be killed and run
again.
"""

import contextlib
import os
import stat
from pathlib import Path

from opskit.backup.journal import Journal, JournalFile, Step
from opskit.backup.member import shown
from opskit.backup.place import not_written
from opskit.backup.tree import Tree
from opskit.errors import OpskitError


def roll_back(journal: Journal, file: JournalFile) -> list[str]:
    """Everything is as it was before. Returns the paths that somebody has changed since: they stay so.

    Raises BACKUP_003; the journal then stays.
    """
    changed: list[str] = []
    try:
        with contextlib.suppress(FileNotFoundError), Tree(Path(journal.target)) as tree:
            for path in journal.folders:
                _open_up(tree, path)
            changed += [shown(step.path) for step in reversed(journal.steps) if _take_back(tree, step)]
            for path in reversed(journal.folders):
                # One in which somebody has put something since stays.
                with contextlib.suppress(OSError):
                    tree.remove_folder(path)
            for path, (before, _) in journal.modes.items():
                with contextlib.suppress(FileNotFoundError):
                    tree.set_mode(path, before)
        if journal.made_target:
            with contextlib.suppress(OSError):
                Path(journal.target).rmdir()
        if journal.replaced is not None and not changed:
            Path(journal.replaced).unlink(missing_ok=True)
        file.remove()
    except OSError as exc:
        raise OpskitError(
            "BACKUP_003",
            f"{journal.target}: {exc.strerror}; the restoration is only partly taken back",
            remedy="when its cause is gone: `opskit backup restore --rollback`",
        ) from exc
    return changed


def _open_up(tree: Tree, path: str) -> None:
    """A folder of ours may have its final permissions already, which may not let us in."""
    with contextlib.suppress(FileNotFoundError):
        found = tree.look(path)
        if found is not None and stat.S_ISDIR(found.st_mode):
            tree.set_mode(path, 0o700)


def _take_back(tree: Tree, step: Step) -> bool:
    """True when somebody else has changed the file since it was put in place."""
    staged = look(tree, step.staged)
    saved = look(tree, step.saved) if step.saved is not None else None
    if staged is not None or (step.saved is None and step.size < 0):
        # It was not put in place yet. The saved name goes first: without it the staged one still tells so.
        if step.saved is not None and saved is not None:
            tree.remove(step.saved)
        if staged is not None:
            tree.remove(step.staged)
        return False
    there = look(tree, step.path)
    if step.saved is None:
        if there is None or not is_ours(step, there):
            return there is not None
        tree.remove(step.path)
        return False
    if saved is None:
        return False  # it never came to that, or was taken back before
    if there is not None and (there.st_dev, there.st_ino) == (saved.st_dev, saved.st_ino):
        tree.remove(step.saved)
        return False
    if there is None or is_ours(step, there):
        tree.rename(step.saved, step.path)
        return False
    tree.remove(step.saved)
    return True


def is_ours(step: Step, there: os.stat_result) -> bool:
    """True when the file is as the restoration has put it there."""
    return (there.st_size, there.st_mtime_ns) == (step.size, step.mtime_ns)


def look(tree: Tree, path: str) -> os.stat_result | None:
    """What is there; nothing where the folder is not there either."""
    try:
        return tree.look(path)
    except NotADirectoryError:
        return None


def finish(journal: Journal, file: JournalFile) -> None:
    """Remove what was saved for the way back, then the journal. Raises BACKUP_003."""
    try:
        with contextlib.suppress(FileNotFoundError), Tree(Path(journal.target)) as tree:
            for step in journal.steps:
                if step.saved is not None:
                    with contextlib.suppress(NotADirectoryError):
                        tree.remove(step.saved)
        file.remove()
    except OSError as exc:
        raise not_written(journal.target, exc) from exc
