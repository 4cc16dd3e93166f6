"""Which checks of a checklist are run."""

import fnmatch
from collections.abc import Sequence

from opskit.checks.checklist import Checklist
from opskit.checks.graph import closure
from opskit.checks.spec import Check
from opskit.config.problems import printable
from opskit.config.shape import unknown
from opskit.errors import ConfigError


def choose(checklist: Checklist, *, tags: Sequence[str] = (), names: Sequence[str] = ()) -> list[Check]:
    """The checks that have one of the tags and one of the names (`*` is allowed), with all they require.

    Raises ConfigError for a tag or a name that nothing has, and when nothing is left.
    """
    known_tags = sorted({tag for check in checklist.checks for tag in check.tags})
    for tag in tags:
        if tag not in known_tags:
            raise ConfigError(
                f"no check has the tag {printable(tag)!r}: {_near(tag, known_tags)}",
                remedy="`opskit verify --list FILE` shows names and tags",
            )
    for name in names:
        if not any(_named(check, name) for check in checklist.checks):
            known = [check.name for check in checklist.checks]
            raise ConfigError(
                f"no check is called {printable(name)!r}: {_near(name, known)}",
                remedy="`opskit verify --list FILE` shows names and tags",
            )
    chosen = [
        check.name
        for check in checklist.checks
        if (not tags or set(tags) & set(check.tags))
        and (not names or any(_named(check, one) for one in names))
    ]
    if not chosen:
        first = checklist.checks[0].where if checklist.checks else "the checklist"
        raise ConfigError(
            f"{first}: no check is selected by these tags and names, and nothing checked is not a pass",
            remedy="`opskit verify --list FILE` shows names and tags",
        )
    wanted = closure(chosen, {check.name: check.requires for check in checklist.checks})
    return [check for check in checklist.checks if check.name in wanted]


def _near(word: str, known: Sequence[str]) -> str:
    return unknown(printable(word), list(known) or ["none"]).removeprefix("unknown key; ")


def _named(check: Check, pattern: str) -> bool:
    return check.name == pattern or fnmatch.fnmatchcase(check.name, pattern)
