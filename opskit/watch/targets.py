"""Nodes and agents as a watch looks at them: their life and what is loaded, never a token, never a load."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from opskit.checks.agent_probe import probe_agent
from opskit.checks.model_rows import LoadedModel, read_loaded
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.facts.node import NodeFacts, ReadingStep, read_metadata, with_default
from opskit.facts.survey import Survey
from opskit.providers.base import CallCause, CallError
from opskit.records import Record, replace
from opskit.result import Finding, Status
from opskit.watch.event import Emit

#: How often the list of models of a node is read again.
RELIST_S = 60.0
TargetKind = Literal["node", "agent"]


class TargetReply(Record):
    """What a target answered. `at` is monotonic, `loaded_at` when `loaded` was read, None for never."""

    finding: Finding
    at: float
    loaded: tuple[LoadedModel, ...] = ()
    loaded_at: float | None = None
    levels: Mapping[str, bool] | None = None


class Target(Record):
    """Something that can be looked at. `required` makes its failure one of the watch.

    `read` reads its state; it ends within its own deadline and raises nothing for what the target does.
    """

    kind: TargetKind
    name: str
    required: bool
    read: Callable[[], Awaitable[TargetReply]]


class NodeReader:
    """Reads one node again and again: its list of models now and then, what is loaded each time."""

    def __init__(self, survey: Survey, node: NodeConfig) -> None:
        self._node, self._survey = survey.node(node), survey
        self._deadline_s = survey.config.budgets.connect_s + survey.config.budgets.metadata_s
        self._well: NodeFacts | None = None
        self._listed_at = float("-inf")
        self._loaded: tuple[tuple[LoadedModel, ...], float | None] = ((), None)

    async def read(self) -> TargetReply:
        """Return its state and what it works on; ends within its deadline."""
        began = time.monotonic()
        known = self._well if began - self._listed_at < RELIST_S else None
        try:
            async with asyncio.timeout(self._deadline_s):
                facts = await read_metadata(self._node, known)
                facts = await with_default(facts) if known is None else facts
        except TimeoutError:
            error = CallError(CallCause.TIMEOUT, f"no reply within {self._deadline_s:g} s")
            facts = NodeFacts(config=self._node.config, failed=ReadingStep.HTTP, error=error)
            facts = replace(facts, http_s=time.monotonic() - began)
        now = time.monotonic()
        self._well, self._listed_at = facts, began if known is None else self._listed_at
        if facts.failed is not None:
            # Another server may have the port next time.
            self._well = None
            self._node.forget()
        rows, report = await read_loaded(self._survey, [facts])
        if facts.failed is None and facts.residency_known:
            self._loaded = (tuple(rows), now)
        finding, *others = report.findings
        warning = next((other for other in others if other.status is Status.WARN), None)
        if warning is not None and finding.status is Status.PASS:
            finding = replace(warning, target=finding.target, detail=f"{warning.target}: {warning.detail}")
        return TargetReply(replace(finding, seconds=facts.seconds), now, *self._loaded)


async def read_agent(survey: Survey, agent: AgentConfig) -> TargetReply:
    """Read the status page of an agent and its levels (SPEC D1); its own deadlines bound it."""
    probe = await probe_agent(survey, agent)
    return TargetReply(probe.finding(), time.monotonic(), levels=probe.facts.levels)


class TargetView(Record, kw_only=True):
    """A target with its last answer; None means that it has not answered yet.

    `late` means that the answer to the newest question is awaited: what is shown is the one before.
    """

    kind: TargetKind
    name: str
    required: bool
    answer: TargetReply | None = None
    late: bool = False

    @property
    def finding(self) -> Finding:
        if self.answer is not None:
            return self.answer.finding
        return Finding(self.kind, self.name, Status.INCONCLUSIVE, "unknown", "it has not answered yet")

    @property
    def levels(self) -> Mapping[str, bool] | None:
        return None if self.answer is None else self.answer.levels

    def age_s(self, now: float) -> float | None:
        return None if self.answer is None else now - self.answer.at

    @property
    def answers(self) -> bool:
        """Whether it can be seen at all: something there answered."""
        return self.finding.state not in ("unknown", "refused", "unreachable", "silent")

    @property
    def failed(self) -> bool:
        """Whether it is not well: a required target that is only missing has failed too."""
        return self.finding.status is Status.FAIL or self.finding.state in ("refused", "unreachable")

    def loaded_now(self, now: float) -> tuple[tuple[LoadedModel, ...], float | None]:
        """What is loaded, with its expiry counted down to `now` (monotonic), and how old that news is."""
        if self.answer is None or self.answer.loaded_at is None:
            return (), None
        age = max(0.0, now - self.answer.loaded_at)
        left = [(row, row.expires_in_s) for row in self.answer.loaded]
        aged = (replace(row, expires_in_s=max(0.0, s - age)) if s and s > 0 else row for row, s in left)
        return tuple(aged), age

    def as_json(self, now: float) -> dict[str, Any]:
        finding, age_s = self.finding, self.age_s(now)
        document: dict[str, Any] = {
            "name": self.name,
            "required": self.required,
            "status": finding.status.value,
            "state": finding.state,
            "detail": finding.detail,
            "remedy": finding.remedy,
            "seconds": None if self.answer is None else round(finding.seconds, 4),
            "age_s": None if age_s is None else round(age_s, 2),
            "late": self.late,
        }
        if self.kind == "agent":
            levels = None if self.levels is None else dict(self.levels)
            return {**document, "levels": levels, "queue": finding.evidence.get("queue")}
        rows, age_s = self.loaded_now(now)
        age_s = None if age_s is None else round(age_s, 2)
        return {**document, "loaded": [row.as_json() for row in rows], "loaded_age_s": age_s}


class TargetWatch:
    """Asks one target on each tick, and tells when its state is not the one before."""

    def __init__(self, target: Target, emit: Emit) -> None:
        self._target, self._emit = target, emit
        self.state = TargetView(kind=target.kind, name=target.name, required=target.required)

    async def look(self) -> None:
        before, self.state = self.state, replace(self.state, answer=await self._target.read())
        was, finding = before.finding, self.state.finding
        if before.answer is None or (was.state, was.status) != (finding.state, finding.status):
            body = {
                "kind": self._target.kind,
                "target": self._target.name,
                "from": None if before.answer is None else was.state,
                "to": finding.state,
                "status": finding.status.value,
                "detail": finding.detail,
                "remedy": finding.remedy,
            }
            self._emit("state", body)
