"""What a backup holds: files that patterns select below a folder, and files that a stack is started from.

`pathspec` is not used: in its rules `.env*` means every folder, and it cannot tell that nothing below a
folder is selected, so that a backup of `~` would walk all of it.
"""

import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from opskit.backup.folder import NotKeptError, RootFolder
from opskit.backup.manifest import ArchiveEntry, SkippedFile, problem_of_link, problem_of_path
from opskit.config.schema import Config
from opskit.errors import UsageError
from opskit.facts.compose_project import project_files
from opskit.records import MutableRecord, Record, field

#: What a pattern still asks for, name by name; `()` is a pattern that has matched.
_Steps = tuple[str, ...]


class Patterns(Record):
    """What is selected below one folder, seen from that folder.

    `*` stands for any part of a name, dots in front included, `**` for any number of folders. A pattern
    that matches a folder means everything in it. What a pattern behind `!` matches is never selected.
    """

    wanted: frozenset[_Steps]
    unwanted: frozenset[_Steps] = frozenset()

    @property
    def selected(self) -> bool:
        """Say whether the folder itself is selected."""
        return () in self.wanted and () not in self.unwanted

    @property
    def leads_on(self) -> bool:
        """Say whether something below the folder may be selected."""
        return bool(self.wanted) and () not in self.unwanted

    def below(self, name: str) -> "Patterns":
        """Return the same patterns, seen from the entry `name` of this folder."""
        return Patterns(_below(self.wanted, name), _below(self.unwanted, name))

    def match(self, path: str) -> bool:
        """Return True when the path (with `/` between its names) is selected."""
        patterns = self
        for name in path.split("/"):
            patterns = patterns.below(name)
        return patterns.selected

    def with_paths(self, paths: Iterable[str]) -> "Patterns":
        """Return these patterns and the paths as they stand; `!` still takes them out."""
        literal = {tuple(map(glob.escape, path.split("/"))) for path in paths}
        return Patterns(self.wanted | literal, self.unwanted)


def parse(texts: Iterable[str]) -> Patterns:
    """Read patterns. Raises UsageError for one that leaves the folder, and when nothing at all is wanted."""
    texts = tuple(texts)
    wanted = frozenset(_steps(text) for text in texts if not text.startswith("!"))
    if not wanted:
        raise UsageError("no pattern says what is wanted", remedy="name a pattern such as `results/**`")
    return Patterns(wanted, frozenset(_steps(text[1:]) for text in texts if text.startswith("!")))


def _steps(text: str) -> _Steps:
    names = text.removeprefix("./").rstrip("/").split("/")
    if text.startswith(("/", "~")) or any(name in ("", ".", "..") for name in names):
        raise UsageError(
            f"the pattern {text!r} does not stay below the folder",
            remedy="write it from the folder on, such as `results/**` or `.env*`",
        )
    while names and names[-1] == "**":
        names.pop()
    return tuple(names)


def _below(patterns: Iterable[_Steps], name: str) -> frozenset[_Steps]:
    below: set[_Steps] = set()
    for steps in patterns:
        remaining = steps
        while remaining and remaining[0] == "**":
            below.add(remaining)
            remaining = remaining[1:]
        if not remaining:
            below.add(())
        elif fnmatch.fnmatchcase(name, remaining[0]):
            below.add(remaining[1:])
    return frozenset(below)


class Selection(MutableRecord):
    """What is selected, each folder before what is in it, sorted by name; and what is not kept, and why.

    Links are not followed, and the folder `archives` is passed over.
    """

    folder: RootFolder
    archives: Path
    skipped: list[SkippedFile] = field(default_factory=list)

    def below(self, path: str, patterns: Patterns) -> Iterator[ArchiveEntry]:
        """Walk a folder (`""` is the root). Raises OSError when it cannot be read."""
        for name in self.folder.names(path):
            inner = patterns.below(name)
            below = f"{path}/{name}" if path else name
            if not inner.leads_on or self.folder.root / below == self.archives:
                continue
            try:
                yield from self._entries(below, inner)
            except NotKeptError as exc:
                if inner.selected:
                    self.skipped.append(SkippedFile(below, str(exc)))
            except OSError as exc:
                if inner.selected or not isinstance(exc, NotADirectoryError | FileNotFoundError):
                    self.skipped.append(SkippedFile(below, f"it cannot be read: {exc.strerror}"))

    def _entries(self, path: str, patterns: Patterns) -> Iterator[ArchiveEntry]:
        entry = self.folder.entry(path)
        if entry is None:
            return  # it went away since its folder was read: nothing is missing
        why = problem_of_path(path)
        if entry.kind == "folder" and why is None:
            inside = list(self.below(path, patterns))
            if inside or patterns.selected:
                yield entry
                yield from inside
            return
        if entry.kind == "link":
            real = self.folder.root / path
            if patterns.selected:
                why = why or problem_of_link(path, entry.target)
                if why is None and not Path(os.path.realpath(real)).is_relative_to(self.folder.root):
                    why = "it is a link that leads out of the folder by way of another"
            elif real.is_dir():
                # Patterns go on into it: what they select lies elsewhere.
                why = "it is a link to a folder, and links are not followed"
                self.skipped.append(SkippedFile(path, why))
        if why is not None:
            raise NotKeptError(why)
        if patterns.selected:
            yield entry


def stack_files(config: Config, environ: Mapping[str, str]) -> dict[Path, str]:
    """Return the files that the stack is started from, and where each is named.

    They are the files of `stack.compose` and `stack.env_files`, and what the Compose files name.
    """
    files = {config.located(path): "stack.env_files" for path in config.stack.env_files}
    for project, paths in config.compose_files().items():
        files |= dict.fromkeys(project_files(paths, environ), f"stack.compose.{project}")
    return files


def by_place(root: Path, files: Mapping[Path, str]) -> tuple[list[str], list[SkippedFile]]:
    """Return the paths of files below the root, and the files that cannot be in an archive of it."""
    inside: list[str] = []
    outside: list[SkippedFile] = []
    for path, key in files.items():
        real = Path(os.path.realpath(path.parent), path.name)
        if "$" in str(path):
            why = f"its name holds a variable without a value ({key})"
        elif not path.exists():
            why = f"it is not there ({key})"
        elif not real.is_relative_to(root):
            why = f"it lies outside {root} ({key}): set `backup.root` to a folder that holds both"
        else:
            inside.append(str(real.relative_to(root)))
            continue
        outside.append(SkippedFile(str(path), why))
    return inside, outside
