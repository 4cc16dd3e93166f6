"""The work of a restoration: stage, keep, swap, settle; and the rest of it after a kill."""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from opskit.backup import staging, undoing
from opskit.backup.archive import Archive
from opskit.backup.change import Change
from opskit.backup.journal import Journal, JournalFile, Step
from opskit.backup.manifest import drafted
from opskit.backup.member import Member, above, shown
from opskit.backup.selection import Selected
from opskit.backup.tree import Tree
from opskit.backup.writing import write
from opskit.errors import OpskitError

_NO_LIMIT = 2**62


class Work:
    """One restoration under way. `journal` is what the disk knows, or is about to know."""

    def __init__(
        self,
        archive: Archive,
        changes: Sequence[Change],
        target: Path,
        file: JournalFile,
        *,
        only: tuple[str, ...],
        token: str,
    ) -> None:
        self._archive = archive
        self._file = file
        self._members = {one.member.path: one.member for one in changes}
        todo = [one for one in changes if one.action != "same"]
        steps = [one for one in todo if one.member.kind != "folder"]
        folders = [one for one in todo if one.member.kind == "folder"]
        self._replaced = [one.member.path for one in steps if one.action == "changed"]
        self._other_modes = [one.member for one in folders if one.action == "changed"]
        made = [one.member for one in folders if one.action == "new"]
        self.journal = Journal(
            phase="staging",
            archive=str(archive.path),
            target=str(target),
            only=only,
            steps=tuple(staging.step_of(one, token, number) for number, one in enumerate(steps, 1)),
            folders=tuple(member.path for member in made),
            finals={member.path: (member.mode, member.mtime_ns) for member in made},
            modes={},
            made_target=not target.exists(),
        )

    def run(self, replaced: Path, now: datetime) -> None:
        """All of it; what is replaced goes into the archive `replaced`. Raises OSError and OpskitError."""
        target = Path(self.journal.target)
        self._check_room(target)
        self._note(
            replace(
                self.journal,
                modes=self._modes(target),
                replaced=str(replaced) if self._replaced else None,
            )
        )
        if self.journal.made_target:
            target.mkdir(mode=0o700)
        with Tree(target) as tree:
            kept = self._keep(tree, replaced, now) if self._replaced else {}
            self._make_folders(tree)
            staging.stage(
                tree, self._archive, self._members, {step.path: step for step in self.journal.steps}
            )
            measured = tuple(staging.measured(tree, step) for step in self.journal.steps)
            self._note(replace(self.journal, phase="swapping", steps=measured))
            for step in measured:
                _check_unchanged(tree, step, kept)
                _swap(tree, step)
            _settle(tree, self.journal)
        self._note(replace(self.journal, phase="done"))

    def _note(self, journal: Journal) -> None:
        self.journal = journal
        self._file.write(journal)

    def _check_room(self, target: Path) -> None:
        need = sum(self._members[step.path].size for step in self.journal.steps)
        with Tree(target if target.exists() else target.parent) as tree:
            room = tree.free_bytes()
        if need > room:
            raise OpskitError(
                "BACKUP_003", f"{target}: {need} bytes are needed and {room} are free; nothing was changed"
            )

    def _modes(self, target: Path) -> dict[str, tuple[int, int]]:
        if not self._other_modes:
            return {}
        with Tree(target) as tree:
            return {one.path: (_mode(tree, one.path), one.mode) for one in self._other_modes}

    def _keep(self, tree: Tree, path: Path, now: datetime) -> dict[str, Member]:
        """Archive what will be replaced, every bit of it. The members by their paths."""
        chosen = [_as_it_is(tree, one) for one in _with_folders(self._replaced)]
        draft = drafted("replaced", tree.root, now)
        manifest = write(tree, chosen, draft, path, max_file_bytes=_NO_LIMIT).manifest
        if manifest.skipped:
            first = manifest.skipped[0]
            raise OpskitError(
                "BACKUP_003",
                f"{shown(first.path)} would be replaced and cannot be kept: {first.reason}",
                remedy="move it away yourself, or leave it out with --only",
            )
        return {member.path: member for member in manifest.members}

    def _make_folders(self, tree: Tree) -> None:
        for path, (before, _) in self.journal.modes.items():
            tree.set_mode(path, before | 0o700)
        for path in self.journal.folders:
            tree.make_folder(path)
            if os.geteuid() == 0:
                tree.set_owner(path, self._members[path].uid, self._members[path].gid)


def resume(journal: Journal, file: JournalFile) -> None:
    """Bring a restoration that was killed while it swapped to its end. Only under the lock.

    Raises BACKUP_003 when a file was changed since; nothing is done then.
    """
    try:
        with Tree(Path(journal.target)) as tree:
            if journal.phase == "swapping":
                waiting = _waiting(tree, journal)
                for step in waiting:
                    _swap(tree, step)
                _settle(tree, journal)
                journal = replace(journal, phase="done")
                file.write(journal)
    except OSError as exc:
        raise OpskitError(
            "BACKUP_003",
            f"{journal.target}: {exc.strerror}; the restoration is still interrupted",
            remedy="when its cause is gone: `opskit backup restore --resume`, or `--rollback`",
        ) from exc
    undoing.finish(journal, file)


def _waiting(tree: Tree, journal: Journal) -> list[Step]:
    waiting = []
    for step in journal.steps:
        if undoing.look(tree, step.staged) is not None:
            waiting.append(step)
            continue
        there = undoing.look(tree, step.path)
        if there is None or not undoing.is_ours(step, there):
            raise OpskitError(
                "BACKUP_003",
                f"the restoration cannot be finished: {shown(step.path)} was changed since",
                remedy="`opskit backup restore --rollback`",
            )
    return waiting


def _swap(tree: Tree, step: Step) -> None:
    if step.saved is not None:
        tree.remove(step.saved)  # after a kill, a copy that may not be whole
        staging.save(tree, step)
    tree.rename(step.staged, step.path)


def _check_unchanged(tree: Tree, step: Step, kept: Mapping[str, Member]) -> None:
    """What somebody has written since it was kept is not swept away."""
    there = tree.look(step.path)
    member = kept.get(step.path)
    if member is None:
        same = there is None
    else:
        same = there is not None and not member.changed and there.st_mtime_ns == member.mtime_ns
        same = same and there is not None and (member.kind == "link" or there.st_size == member.size)
    if not same:
        raise OpskitError(
            "BACKUP_003",
            f"{shown(step.path)} was written to meanwhile; nothing was changed",
            remedy="stop what writes to it (`docker compose stop`), or leave it out with --only",
        )


def _settle(tree: Tree, journal: Journal) -> None:
    """Names on the disk, and folders with their own permissions and times; the innermost first."""
    for path in {step.path.rpartition("/")[0] for step in journal.steps} | set(journal.folders):
        tree.sync(path)
    for path in reversed(journal.folders):
        mode, mtime_ns = journal.finals[path]
        tree.set_time(path, mtime_ns)
        tree.set_mode(path, mode)
    for path in reversed(journal.modes):
        tree.set_mode(path, journal.modes[path][1])


def _with_folders(paths: Iterable[str]) -> list[str]:
    """The paths and the folders they lie in, each folder before what is in it."""
    every = {folder for path in paths for folder in above(path)} | set(paths)
    return sorted(every, key=lambda path: path.split("/"))


def _as_it_is(tree: Tree, path: str) -> Selected:
    found = tree.look(path)
    mode = found.st_mode if found is not None else stat.S_IFREG
    return Selected(path, "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file")


def _mode(tree: Tree, path: str) -> int:
    found = tree.look(path)
    return stat.S_IMODE(found.st_mode) if found is not None else 0o700
