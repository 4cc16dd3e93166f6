"""Which paths below a folder are selected: patterns as a person writes them. Pure.

`pathspec` is not used: in its rules `.env*` means every folder, and it cannot tell that nothing below a
folder is selected, so that a backup of `~` would walk all of it.
"""

import fnmatch
import glob
from collections.abc import Iterable
from dataclasses import dataclass

from opskit.config.schema import Config
from opskit.errors import ConfigError, UsageError

#: What a pattern still asks for, name by name; `()` is a pattern that has matched.
_Steps = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Patterns:
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
            if not patterns.leads_on:
                return False
        return patterns.selected

    def with_paths(self, paths: Iterable[str]) -> "Patterns":
        """Return these patterns and the paths as they stand; `!` still takes them out."""
        literal = {tuple(map(glob.escape, path.split("/"))) for path in paths}
        return Patterns(self.wanted | literal, self.unwanted)


def of_config(config: Config) -> Patterns:
    """Return the patterns of the configuration. Raises ConfigError."""
    try:
        return parse(config.backup.files)
    except UsageError as exc:
        raise ConfigError(f"backup.files: {exc.message}", remedy=exc.remedy) from exc


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


def _below(steps: Iterable[_Steps], name: str) -> frozenset[_Steps]:
    below: set[_Steps] = set()
    for pattern in steps:
        remaining = pattern
        while remaining and remaining[0] == "**":
            below.add(remaining)
            remaining = remaining[1:]
        if not remaining:
            below.add(())
        elif fnmatch.fnmatchcase(name, remaining[0]):
            below.add(remaining[1:])
    return frozenset(below)
