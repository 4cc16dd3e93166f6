"""Nodes and agents as a watch looks at them: their life and what is loaded, never a token, never a load."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from opskit.checks.agent_probe import probe_agent
from opskit.checks.model_rows import LoadedModel, read_loaded
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.facts.node import NodeFacts, ReadingStep, read_metadata, with_default
from opskit.facts.survey import Survey
from opskit.providers.base import CallCause, CallError
from opskit.records import Record, replace
from opskit.result import Finding, Status
from opskit.watch.polling import Poller
from opskit.watch.view import Emit

#: How often the list of models of a node is read again.
RELIST_S = 60.0


class TargetReply(Record):
    """What a target answered. `at` is monotonic, `loaded_at` when `loaded` was read, None for never."""

    finding: Finding
    at: float
    loaded: tuple[LoadedModel, ...] = ()
    loaded_at: float | None = None
    levels: Mapping[str, bool] | None = None


class Target(Protocol):
    """Something that can be looked at. `required` makes its failure one of the watch."""

    kind: Literal["node", "agent"]
    name: str
    required: bool

    async def read(self) -> TargetReply:
        """Read its state; ends within its own deadline. Raises nothing for what the target does."""


class NodeTarget:
    kind: Literal["node", "agent"] = "node"

    def __init__(self, node: NodeConfig, survey: Survey, *, required: bool) -> None:
        self.name = node.name
        self.required = required
        self._node = survey.node(node)
        self._survey = survey
        budgets = survey.config.budgets
        self._deadline_s = budgets.connect_s + budgets.metadata_s
        self._well: NodeFacts | None = None
        self._listed_at = float("-inf")
        self._loaded: tuple[tuple[LoadedModel, ...], float | None] = ((), None)

    async def read(self) -> TargetReply:
        """Its metadata: the list of models now and then, each time what is loaded and what it works on."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._deadline_s):
                facts = await self._read()
        except TimeoutError:
            error = CallError(CallCause.TIMEOUT, f"no reply within {self._deadline_s:g} s")
            took_s = time.monotonic() - began
            facts = NodeFacts(config=self._node.config, failed=ReadingStep.HTTP, error=error, http_s=took_s)
        now = time.monotonic()
        if facts.failed is not None:
            # Another server may have the port next time.
            self._well = None
            self._node.forget()
        rows, report = await read_loaded(self._survey, [facts])
        if facts.failed is None and facts.residency_known:
            self._loaded = (tuple(rows), now)
        warnings = [finding for finding in report.findings[1:] if finding.status is Status.WARN]
        finding = report.findings[0]
        if warnings and finding.status is Status.PASS:
            warning = warnings[0]
            finding = replace(warning, target=finding.target, detail=f"{warning.target}: {warning.detail}")
        return TargetReply(replace(finding, seconds=facts.seconds), now, *self._loaded)

    async def _read(self) -> NodeFacts:
        now = time.monotonic()
        if self._well is None or now - self._listed_at >= RELIST_S:
            facts = await with_default(await read_metadata(self._node))
            self._listed_at = now
        else:
            facts = await read_metadata(self._node, self._well)
        self._well = facts
        return facts


class AgentTarget:
    """An agent: its status page and its levels (SPEC D1)."""

    kind: Literal["node", "agent"] = "agent"

    def __init__(self, agent: AgentConfig, survey: Survey, *, required: bool) -> None:
        self.name = agent.name
        self.required = required
        self._agent = agent
        self._survey = survey

    async def read(self) -> TargetReply:
        """Its own deadlines bound it: connect, status page, and a moment for evidence of a silence."""
        probe = await probe_agent(self._survey, self._agent)
        return TargetReply(probe.finding(), time.monotonic(), levels=probe.facts.levels)


class TargetView(Record, kw_only=True):
    """A target as it is shown. Ages are seconds; `age_s` None means that it has not answered yet.

    `late` means that the answer to the newest question is awaited: what is shown is the one before.
    """

    kind: Literal["node", "agent"]
    name: str
    required: bool
    answer: TargetReply | None
    age_s: float | None
    late: bool

    @property
    def state(self) -> str:
        return self.answer.finding.state if self.answer is not None else "unknown"

    @property
    def status(self) -> Status:
        return self.answer.finding.status if self.answer is not None else Status.INCONCLUSIVE

    @property
    def answers(self) -> bool:
        """Whether it can be seen at all: something there answered."""
        return self.state not in ("unknown", "refused", "unreachable", "silent")

    @property
    def failed(self) -> bool:
        """Whether it is not well: a required target that is only missing has failed too."""
        return self.status is Status.FAIL or self.state in ("refused", "unreachable")

    def loaded_now(self, now: float) -> tuple[tuple[LoadedModel, ...], float | None]:
        """What is loaded, with its expiry counted down to `now` (monotonic), and how old that news is."""
        if self.answer is None or self.answer.loaded_at is None:
            return (), None
        age = max(0.0, now - self.answer.loaded_at)
        rows = tuple(
            row
            if row.expires_in_s is None or row.expires_in_s < 0
            else replace(row, expires_in_s=max(0.0, row.expires_in_s - age))
            for row in self.answer.loaded
        )
        return rows, age

    def as_json(self, now: float) -> dict[str, Any]:
        rows, loaded_age = self.loaded_now(now)
        finding = self.answer.finding if self.answer is not None else None
        document: dict[str, Any] = {
            "name": self.name,
            "required": self.required,
            "status": self.status.value,
            "state": self.state,
            "detail": finding.detail if finding is not None else "it has not answered yet",
            "remedy": finding.remedy if finding is not None else None,
            "seconds": round(finding.seconds, 4) if finding is not None else None,
            "age_s": None if self.age_s is None else round(self.age_s, 2),
            "late": self.late,
        }
        if self.kind == "node":
            document["loaded"] = [row.as_json() for row in rows]
            document["loaded_age_s"] = None if loaded_age is None else round(loaded_age, 2)
        else:
            levels = self.answer.levels if self.answer is not None else None
            document["levels"] = None if levels is None else dict(levels)
            document["queue"] = None if finding is None else finding.evidence.get("queue")
        return document


class TargetWatch:
    """Asks each target on each tick, and tells which states changed."""

    def __init__(self, targets: Sequence[Target], *, clock: Callable[[], float], emit: Emit) -> None:
        self._emit = emit
        self._polled = [(target, Poller(target.read, clock)) for target in targets]
        self._states: dict[tuple[str, str], tuple[str, str]] = {}

    @property
    def pollers(self) -> list[Poller[TargetReply]]:
        return [poller for _, poller in self._polled]

    def loaded(self) -> list[LoadedModel]:
        return [row for poller in self.pollers if poller.answer is not None for row in poller.answer.loaded]

    def view(self, now: float) -> tuple[TargetView, ...]:
        return tuple(
            TargetView(
                kind=target.kind,
                name=target.name,
                required=target.required,
                answer=poller.answer,
                age_s=None if poller.at is None else now - poller.at,
                late=poller.late,
            )
            for target, poller in self._polled
        )

    def compare(self) -> None:
        """Tell each state that is not the one before."""
        for target, poller in self._polled:
            if poller.answer is None:
                continue
            finding, key = poller.answer.finding, (target.kind, target.name)
            state, before = (finding.status.value, finding.state), self._states.get(key)
            if state == before:
                continue
            self._states[key] = state
            body = {
                "kind": target.kind,
                "target": target.name,
                "from": None if before is None else before[1],
                "to": finding.state,
                "status": finding.status.value,
                "detail": finding.detail,
                "remedy": finding.remedy,
            }
            self._emit("state", body)
