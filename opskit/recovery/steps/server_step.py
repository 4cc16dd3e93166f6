"""What the steps of model nodes and of agents share: a probe becomes a finding, and a finding a repair.

Evidence is what would be gone after a restart: log lines, loaded models, memory, the state of the process
(asked in ollama#15950 and autoheal#111, ops facts 14.2). Every source has its own short deadline, and one
that fails is left out.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from opskit.checks.probe_record import AgentProbe, NodeProbe
from opskit.checks.state import NodeState
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.facts.container_survey import read_container_log
from opskit.facts.node import read_node
from opskit.facts.runner import read_runners
from opskit.providers.base import CallError, Slot
from opskit.records import replace
from opskit.recovery.step import Condition, RecoveryContext, TargetFinding
from opskit.recovery.steps.decision import ServerProblem, decide
from opskit.recovery.steps.server import ManagedServer, ServerFacts, read_server, server_of
from opskit.system.host import available_memory_bytes
from opskit.system.process import SAME_START_S, Process, processes_like
from opskit.system.program import output_of
from opskit.system.sockets import connections_to

#: What a state means for a repair; any other is broken.
CONDITIONS = {
    NodeState.OK: Condition.HEALTHY,
    NodeState.IDLE: Condition.HEALTHY,
    NodeState.SLOW: Condition.WAITING,
    NodeState.BUSY: Condition.WAITING,
    NodeState.LOADING: Condition.WAITING,
    NodeState.UNAUTHORISED: Condition.UNKNOWN,
}
#: The parts of a probe's evidence that a person wants to see.
_SHOWN = ("url", "ladder", "model", "resident", "first_token_s", "levels", "process")
_LOG_LINES = 20
_LINE_CHARS = 300
_SOURCE_S = 4.0


class ServerStep:
    """One server within a run; the target bears its name."""

    def __init__(self, context: RecoveryContext, config: NodeConfig | AgentConfig) -> None:
        self.context = context
        self.config = config
        self.server: ManagedServer = server_of(config, context.config)
        self._planned_at: float | None = None
        self._starts = False

    def finding(self, probe: NodeProbe | AgentProbe) -> TargetFinding:
        """Return what a probe tells, before anything of this machine is read."""
        condition = CONDITIONS.get(probe.state, Condition.BROKEN)
        evidence = probe.evidence()
        return TargetFinding(
            self.server.name,
            condition,
            "ok" if condition is Condition.HEALTHY else probe.state.shown,
            probe.detail,
            self.server.containers,
            {name: evidence[name] for name in _SHOWN if name in evidence},
            None if condition is Condition.HEALTHY else probe.advice(),
        )

    async def read(self) -> ServerFacts:
        return await read_server(self.context, self.server)

    async def decided(
        self,
        finding: TargetFinding,
        problem: ServerProblem,
        facts: ServerFacts | None = None,
        *,
        code: str | None = None,
    ) -> TargetFinding:
        """Return the finding of a server that is not well, by `facts` where they were read already."""
        if self.server.is_optional and not self.server.explicit:
            why = f"{finding.cause}, and nobody configured it"
            return replace(finding, condition=Condition.ABSENT, state="absent", cause=why)
        if self.server.is_optional:
            why = f"{finding.cause}; it is on another machine, and not required"
            return replace(finding, condition=Condition.LEFT, cause=why)

        async def read_again() -> TargetFinding:
            return _with(await self.planned(problem), finding.evidence, code)

        decision = self._decide(problem, facts or await self.read())
        return replace(_with(decision, finding.evidence, code), read_again=read_again)

    async def planned(self, problem: ServerProblem) -> TargetFinding:
        """Return the finding of this moment, with a repair that is about to be made and its evidence."""
        facts = await self.read()
        finding = self._decide(problem, facts)
        if finding.repair is None:
            return finding
        self._planned_at = self.context.clock()
        self._starts = any(command.detached for command in finding.repair.commands)
        return replace(finding, repair=replace(finding.repair, evidence=partial(self._evidence, facts)))

    async def note_start(self) -> None:
        """After a start was planned: keep which process it became, so that a later repair may end it."""
        if not self._starts:
            return
        processes = await asyncio.to_thread(
            processes_like, self.server.start, self.context.environ.get("PATH")
        )
        for process in filter(self._is_fresh, processes):
            self.context.memory.remember_server(self.server.name, process)

    def _decide(self, problem: ServerProblem, facts: ServerFacts) -> TargetFinding:
        """Decide as of this moment; what this very run started is given the time to start."""
        rules = self.context.config.recovery
        if facts.process is not None and self._is_fresh(facts.process):
            problem = replace(problem, fresh_s=max(problem.fresh_s, self.server.settle_s or rules.step_s))
        return decide(self.server, problem, facts, rules)

    def _is_fresh(self, process: Process) -> bool:
        return self._planned_at is not None and process.began > self._planned_at - SAME_START_S

    async def _evidence(self, facts: ServerFacts) -> Mapping[str, Any]:
        """Return what is known of a server before it is restarted; empty parts are left out."""
        logs, resident, requests = await asyncio.gather(self._logs(facts), self._resident(), self._requests())
        process = facts.process
        evidence: dict[str, Any] = {
            "owner": facts.owner and facts.owner.words,
            "process": process
            and {
                "pid": process.pid,
                "status": process.status,
                "cpu_s": round(process.cpu_s, 2),
                "rss_bytes": process.rss_bytes,
                "age_s": round(process.age_s(self.context.clock()), 1),
            },
            "containers": [
                {
                    "name": assessed.container.name,
                    "status": assessed.container.status,
                    "health": assessed.assessment.health,
                    "age_s": assessed.assessment.age_s and round(assessed.assessment.age_s, 1),
                }
                for assessed in facts.containers
            ],
            "resident": resident,
            "requests": requests,
            "memory_available_bytes": available_memory_bytes(),
            "logs": logs,
        }
        return {name: value for name, value in evidence.items() if value not in (None, [], {})}

    async def _logs(self, facts: ServerFacts) -> dict[str, list[str]]:
        server, environ = self.server, self.context.environ
        files = {}
        if server.kind is not None and server.kind.log_file:
            files[f"~/{server.kind.log_file}"] = Path(environ.get("HOME", "/")) / server.kind.log_file
        if server.start:
            name = f"start-{Path(server.start[0]).name}.log"
            files[name] = self.context.folder / name
        logs = {name: await asyncio.to_thread(_tail, path) for name, path in files.items()}
        service = facts.inactive.service if facts.inactive is not None else None
        service = facts.owner.service if facts.owner is not None else service
        if service is not None and service.kind == "systemd" and service.name:
            scope = "--user-unit" if service.domain == "user" else "--unit"
            command = ("journalctl", scope, service.name, "--lines", str(_LOG_LINES), "--no-pager")
            journal = await output_of((*command, "--output=cat"), timeout_s=_SOURCE_S, env=environ)
            logs[f"journal of {service.name}"] = _shortened((journal or "").splitlines())
        names = [assessed.container.name for assessed in facts.containers]
        if not names and facts.owner is not None and facts.owner.container is not None:
            names = [facts.owner.container]
        for name in names:
            log = await read_container_log(self.context.docker, name, _LOG_LINES, limit_s=_SOURCE_S)
            logs[f"container {name}"] = replace(log, problem=None).lines(_LINE_CHARS)
        return {name: lines for name, lines in logs.items() if lines}

    async def _requests(self) -> dict[str, int]:
        """Return how many requests it works on, where it tells, and how many clients are connected."""
        count = {"connections": await asyncio.to_thread(connections_to, self.server.port)}
        if not isinstance(self.config, NodeConfig):
            return count
        slots: list[Slot] = []
        with contextlib.suppress(TimeoutError, CallError):
            async with asyncio.timeout(_SOURCE_S):
                runners = await read_runners(self.context.survey, self.config)
                slots = [slot for runner in runners.runners for slot in runner.slots or ()]
                if not slots:
                    provider = await self.context.survey.node(self.config).provider()
                    slots = list(await provider.slots() or ())
        return {**count, "in_flight": sum(slot.busy for slot in slots)} if slots else count

    async def _resident(self) -> list[str] | str | None:
        """Return what a node says is loaded; its silence is evidence too."""
        if not isinstance(self.config, NodeConfig):
            return None
        try:
            async with asyncio.timeout(_SOURCE_S):
                facts = await read_node(self.context.survey, self.config)
        except TimeoutError:
            return "not told: no answer"
        problem = facts.error or facts.silence
        if problem is not None:
            return f"not told: {problem}"
        return [model.name for model in facts.resident] if facts.residency_known else None


def _with(finding: TargetFinding, evidence: Mapping[str, Any], code: str | None) -> TargetFinding:
    """Return the finding with what the probe found; only what is broken has a code."""
    is_broken = finding.condition is Condition.BROKEN
    return replace(finding, evidence=evidence, code=code if is_broken else None)


def _tail(path: Path) -> list[str]:
    """Return the last lines of a file; none when it cannot be read, or is no regular file."""
    from opskit.facts.server_log import file_tail
    from opskit.logs.files import FileSource

    try:
        entries, _ = file_tail(FileSource(path))
    except OSError:
        return []
    return _shortened([entry.raw.decode("utf-8", "replace") for entry in entries])


def _shortened(lines: Sequence[str]) -> list[str]:
    return [line if len(line) <= _LINE_CHARS else f"{line[:_LINE_CHARS]}..." for line in lines[-_LOG_LINES:]]
