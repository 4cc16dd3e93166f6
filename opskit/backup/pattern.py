"""Which paths below a folder are meant: patterns as a person writes them. Pure."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from opskit.config.schema import Config
from opskit.errors import ConfigError, UsageError

#: What a pattern still asks for, name by name; `()` is a pattern that has matched.
_Steps = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Patterns:
    """What is wanted of one folder, seen from that folder.

    `*` stands for any part of a name, dots in front included, `**` for any number of folders. A pattern
    that matches a folder means everything in it. What a pattern behind `!` matches is never meant.
    """

    wanted: frozenset[_Steps]
    unwanted: frozenset[_Steps] = frozenset()

    @property
    def selected(self) -> bool:
        """The place itself is meant."""
        return () in self.wanted and () not in self.unwanted

    @property
    def leads_on(self) -> bool:
        """Something below the place may be meant."""
        return bool(self.wanted) and () not in self.unwanted

    def below(self, name: str) -> "Patterns":
        """The same, seen from the entry `name` of this folder."""
        return Patterns(_below(self.wanted, name), _below(self.unwanted, name))

    def match(self, path: str) -> bool:
        """True when the path (with `/` between its names) is meant."""
        place = self
        for name in path.split("/"):
            place = place.below(name)
            if not place.leads_on:
                return False
        return place.selected


def of_config(config: Config) -> Patterns:
    """The patterns of the configuration. Raises ConfigError."""
    try:
        return parse(config.backup.files)
    except UsageError as exc:
        raise ConfigError(f"backup.files: {exc.message}", remedy=exc.remedy) from exc


def parse(texts: Iterable[str]) -> Patterns:
    """Raises UsageError for a pattern that leaves the folder, and when nothing at all is wanted."""
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
    found: set[_Steps] = set()
    for one in steps:
        rest = one
        while rest and rest[0] == "**":
            found.add(rest)
            rest = rest[1:]
        if not rest:
            found.add(())
        elif fnmatch.fnmatchcase(name, rest[0]):
            found.add(rest[1:])
    return frozenset(found)
