"""What a check is made of: a kind, what it saw, and the check itself as a checklist describes it."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.records import Record, field
from opskit.result import Finding
from opskit.text import listing

if TYPE_CHECKING:
    from opskit.checks.matchers import Matcher
    from opskit.facts.survey import Survey


class Severity(StrEnum):
    """How much a failure means. A failed `warning` or `info` is a warning of the whole run."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def fails(self) -> bool:
        return self in (Severity.CRITICAL, Severity.ERROR)


class Expectation(Record):
    matchers: Mapping[str, "Matcher"]

    def mismatches(self, values: Mapping[str, Any]) -> list[str]:
        sentences = []
        for key, matcher in self.matchers.items():
            # A value that was not seen is not null.
            reason = matcher.mismatch(values[key]) if key in values else matcher.absent()
            if reason is not None:
                # How sure a reason is, is in its type.
                sentences.append(type(reason)(f"{key} {reason}"))
        return sentences


class Observation(Record):
    """What a kind saw.

    `values` are what expectations are compared with. `problem` says why nothing could be seen of the target;
    it fails the check unless its value `error`, or one of `settled`, is expected: values that are known in
    spite of the problem, as `open` is where a connection was refused. Any other value that is False under a
    problem is unknown: expecting it is inconclusive. `undecided` says why a mismatch proves nothing, which is
    inconclusive too. `unseen` are values that could not be seen: a check that asks for one is inconclusive
    whatever it expects, unless another value does not match. `state` is the target's condition in one word.
    """

    values: Mapping[str, Any]
    detail: str = ""
    problem: str = ""
    undecided: str = ""
    unseen: frozenset[str] = frozenset()
    state: str = ""
    code: str | None = None
    remedy: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    settled: Collection[str] = ()


@dataclass(eq=False)
class Unjudged(Exception):  # noqa: N818 - an answer, not an error
    """The check cannot be judged now: inconclusive, because of `reason`."""

    reason: str
    remedy: str | None = None
    code: str | None = None


def unknown_member(what: str, name: str, known: Sequence[str]) -> Unjudged:
    """Say that the configuration has no such node or agent, and which there are."""
    return Unjudged(
        f"the configuration has no {what} {name!r} (known: {listing(known) or 'none'})",
        remedy=f"`opskit config show` lists the {what}s",
    )


@dataclass(eq=False)
class NotHere(Exception):  # noqa: N818 - an answer, not an error
    """What the check is about does not exist on this machine, which is no failure: skipped."""

    reason: str


class CheckContext(Record):
    """One attempt of one check: where it runs, what is expected, and since when its facts must be fresh."""

    survey: "Survey"
    folder: Path
    timeout_s: float
    wanted: frozenset[str] = frozenset()
    not_before: float = field(default_factory=time.monotonic)

    def path(self, text: str) -> Path:
        """A path of a checklist: `~` is the home folder, a relative one belongs to the checklist's folder."""
        return self.folder / Path(text).expanduser()


#: A kind whose facts have an assessment of their own gives the finding itself.
Observe = Callable[[Any, CheckContext], Awaitable[Observation | Finding]]


class Kind(Record):
    """A kind of check: an async function, whose first argument is declared by the parameters of the kind.

    `values` explains each value: `error` is null where it is not explained. `expects` is the expectation of a
    check without one, as it would stand in a checklist. `imports` are loaded before the clock runs. A kind
    that `judges_itself` gives findings, whose status and state may be expected.
    """

    observe: Observe
    summary: str
    values: Mapping[str, str]
    expects: Mapping[str, Any]
    target: Callable[[Any], str]
    called: str = ""
    timeout_s: float = 10.0
    imports: tuple[str, ...] = ()
    judges_itself: bool = False

    @property
    def name(self) -> str:
        return self.called or self.observe.__name__

    @property
    def params(self) -> type:
        declared: type = next(iter(self.observe.__annotations__.values()))
        return declared

    @property
    def yields(self) -> Mapping[str, str]:
        is_complete = self.judges_itself or not self.values or "error" in self.values
        return self.values if is_complete else {**self.values, "error": "null"}


def kind(
    summary: str,
    values: Mapping[str, str],
    expects: Mapping[str, Any],
    target: Callable[[Any], str],
    **options: Any,
) -> Callable[[Observe], Kind]:
    """Make a function a kind of its name; `options` are the other fields of Kind."""
    return lambda observe: Kind(observe, summary, values, expects, target, **options)


class Check(Record):
    """One check, ready to run. `where` is `file:line`, `retries` come on top of the first attempt.

    It is judged after the checks of `requires`, which must pass, and of `after`, which may end in any way.
    """

    name: str
    kind: Kind
    params: Any
    expect: Expectation
    where: str = ""
    folder: Path = field(default_factory=Path)
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    retries: int = 0
    delay_s: float = 1.0
    timeout_s: float = 10.0
    severity: Severity = Severity.ERROR
    tags: tuple[str, ...] = ()
    skip: str | None = None
    remedy: str | None = None

    @property
    def target(self) -> str:
        return self.kind.target(self.params)


def assessing(
    kind: str,
    assess: Observe,
    params: Any,
    target: str,
    *,
    name: str = "",
    requires: Sequence[str] = (),
    after: Sequence[str] = (),
    timeout_s: float = 10.0,
    tags: tuple[str, ...] = (),
    imports: tuple[str, ...] = (),
) -> Check:
    """Return a check that no checklist names, called `kind target` by default: it assesses facts."""
    return Check(
        name or f"{kind} {target}",
        Kind(assess, "", {}, {}, lambda _: target, kind, imports=imports),
        params,
        Expectation({}),
        requires=tuple(requires),
        after=tuple(after),
        timeout_s=timeout_s,
        tags=tags,
    )
