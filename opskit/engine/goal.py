"""A goal, how it is run, and what comes of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from opskit.errors import OpskitError
from opskit.llm.answer import Attempt, Session
from opskit.llm.prompt import PromptCut
from opskit.llm.wording import goal_category
from opskit.providers.base import Message
from opskit.records import MutableRecord, Record, asdict, field, replace
from opskit.result import SCHEMA_VERSION

#: The model and the node of an answer that opskit's tools gave without a model.
NO_MODEL, HERE = "none", "opskit"


class Goal(Record):
    """A goal and how it is to be run. `where`: auto (Victoria, else here), local, remote.

    `strict_context` refuses an answer to a prompt that was cut, which only the router here can tell. `method`
    is auto or one of `opskit.agent.method`. `history` are the lines of the conversation before it, else those
    of `session_id`; `traceparent` is the span of a caller elsewhere. `project` is whose memory is used, None
    for the main one; `use_cache` takes an answer that was given before. `session_id` and `patience_s` are for
    an agent too (`AgentClient.run`). `task_id` is the run of a server that it is.
    """

    text: str
    where: str = "auto"
    model: str | None = None
    category: str | None = None
    strict_context: bool = False
    method: str = "auto"
    history: tuple[Message, ...] = ()
    traceparent: str | None = None
    session_id: str | None = None
    patience_s: float = 0.0
    project: str | None = None
    use_cache: bool = False
    task_id: str | None = None


class RunResult(Record):
    """What `opskit run` shows. `node` is a model node, or the agent that answered.

    `prompt_cut` is there when the model read only part of the prompt, with what to type against it. `steps`
    are steps of the agent in this process (tool, args, ok, seconds), `notes` what a person should know.
    `agreement` is the part of several answers that agree with this one. `remote` is what an agent elsewhere
    tells of its answer.
    """

    output: str
    method: str
    model: str
    node: str
    correlation_id: str
    seconds: float
    attempts: tuple[Attempt, ...]
    prompt_cut: PromptCut | None = None
    cut_remedy: str | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    category: str = "general"
    cached: bool = False
    agreement: float | None = None
    delegated_to: str | None = None
    remote: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answered_by(self) -> str:
        """Who gave the answer, for a person."""
        return "opskit's tools" if self.model == NO_MODEL else f"{self.model} on {self.node}"

    @property
    def metadata(self) -> dict[str, Any]:
        """Who answered and how (SPEC D6); of an answer from elsewhere as it is told there."""
        here = {
            "model": self.model,
            "source": self.node,
            "attempts": [attempt.as_json() for attempt in self.attempts],
            "delegated_to": self.delegated_to,
            "task_id": None,
            "cached": self.cached,
            "category": self.category,
            "agreement": self.agreement,
        }
        return here | {key: self.remote[key] for key in here.keys() & self.remote.keys() - {"attempts"}}

    def as_json(self) -> dict[str, Any]:
        cut = None if self.prompt_cut is None else {**asdict(self.prompt_cut), "remedy": self.cut_remedy}
        return {
            "schema_version": SCHEMA_VERSION,
            "ok": True,
            "output": self.output,
            "method": self.method,
            "model": self.model,
            "node": self.node,
            "correlation_id": self.correlation_id,
            "seconds": round(self.seconds, 4),
            "prompt_cut": cut,
            "attempts": [attempt.as_json() for attempt in self.attempts],
            "steps": list(self.steps),
            "notes": list(self.notes),
            "metadata": self.metadata,
        }


class RunFailed(OpskitError):  # noqa: N818 - it reads as what it is
    """No answer. `document` holds what `run --json` shows besides the error."""

    def __init__(
        self,
        problem: OpskitError,
        *,
        attempts: Sequence[Attempt],
        correlation_id: str,
        seconds: float,
        partial: str = "",
    ) -> None:
        super().__init__(problem.code, problem.message, remedy=problem.remedy)
        self.attempts = tuple(attempts)
        self.document: dict[str, Any] = {
            "output": None,
            "method": None,
            "model": None,
            "node": None,
            "correlation_id": correlation_id,
            "seconds": round(seconds, 4),
            "attempts": [attempt.as_json() for attempt in attempts],
        }
        if partial:
            self.document["partial"] = partial
        self.document |= getattr(problem, "document", {})


class GoalRun(MutableRecord):
    """A goal that is worked on in this process. `category` is what the router chooses models for.

    `failed` are attempts made elsewhere before; once there are some, all that follow are fallbacks. `started`
    is monotonic seconds.
    """

    goal: Goal
    category: str
    identifier: str
    session: Session | None
    on_note: Callable[[str], None]
    failed: list[Attempt] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def result(
        self, output: str, method: str, model: str, node: str, attempts: Sequence[Attempt] = (), **more: Any
    ) -> RunResult:
        """Return the answer; `more` are further fields of it."""
        category = self.goal.category or goal_category(self.goal.text)
        answered = (output, method, model, node, self.identifier, time.monotonic() - self.started)
        return RunResult(*answered, self._all(attempts), category=category, **more)

    def failure(self, problem: OpskitError, attempts: Sequence[Attempt] = (), partial: str = "") -> RunFailed:
        return RunFailed(problem, partial=partial, **self.account(attempts))

    def account(self, attempts: Sequence[Attempt]) -> dict[str, Any]:
        """Return what every failure tells of its run."""
        seconds = time.monotonic() - self.started
        return {"attempts": self._all(attempts), "correlation_id": self.identifier, "seconds": seconds}

    def _all(self, attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
        further = (replace(attempt, fallback=True) for attempt in attempts) if self.failed else attempts
        return (*self.failed, *further)


class Sessions(Protocol):
    """The lines of conversations, by the id of their session."""

    def session(self, session_id: str) -> list[tuple[str, str]]:
        """Return role and content of the lines, the oldest first. Raises StateError."""
        ...

    def remember(self, session_id: str, goal: str, answer: str) -> None:
        """Add a goal with its answer. Raises StateError."""
        ...


class Solver(Protocol):
    """Works on goals that one question to a model does not answer."""

    async def solve(self, run: GoalRun) -> RunResult | None:
        """Return what came of it; None where one question is enough. Raises RunFailed."""
        ...

    async def keep(self, goal: Goal, result: RunResult) -> None:
        """Remember an answer that was given here."""
        ...
