"""What serves a request that waits for its first token: looked at again and again, without a trace.

On this machine the process behind the model tells, or the process of the server; of a server that has a page
of its slots that page tells, wherever it runs; of any other Ollama what it lists as loaded.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from opskit.checks.remedies import unload_remedy
from opskit.checks.runner_assessment import (
    assess_runner,
    assess_unlisted,
    assess_unserved,
    is_idle,
    slots_status,
)
from opskit.checks.state import STANDSTILL_S, NodeState, is_working
from opskit.checks.upkeep import kept, read_upkeep
from opskit.facts.runner import NodeRunners, RunnerHealth, known_weights, read_runners
from opskit.facts.survey import Survey
from opskit.llm.one_token import loading_evidence
from opskit.llm.waiting import WaitEvidence
from opskit.providers.base import CallCause, CallError, Provider, Resident, Slot
from opskit.providers.node import Node
from opskit.records import replace
from opskit.system.host import is_loopback
from opskit.system.network import endpoint
from opskit.system.process import read_process
from opskit.system.sockets import Listener, listener

#: Ollama asks a process that hangs twice, 10 s each, and then replaces it, unless the request is left (wire
#: facts A8).
_HEALS_S = 25.0
#: A slot is free for a moment between two requests, and a server may count or unpack a prompt first.
_UNSERVED_S = 6.0


class RequestWatch:
    """Watches one request to one model of a node, from look to look."""

    def __init__(self, survey: Survey, node: Node, model: str) -> None:
        self._survey = survey
        self._node = node
        self._model = model
        self._asked_at = datetime.now(UTC)
        #: The reading since which nothing has moved, and when it was made.
        self._runners: tuple[NodeRunners, float] | None = None
        self._slots: tuple[Sequence[Slot], float] | None = None

    async def look(self) -> WaitEvidence | None:
        """Return what is shown just now; None where nothing is. Never raises for what the server does."""
        config = self._node.config
        try:
            provider = await self._node.provider()
            if provider.kind.runs_model_processes and is_loopback(config.url):
                runners = await read_runners(self._survey, config)
                if runners.server is not None:
                    return await self._by_runners(runners, provider)
            if slots := await provider.slots():
                return await self._by_slots(slots)
        except CallError as error:
            return await self._by_process() if error.cause is CallCause.TIMEOUT else None
        return await self._by_list(provider) or await self._by_process()

    async def _by_runners(self, runners: NodeRunners, provider: Provider) -> WaitEvidence | None:
        server = None if runners.server is None else read_process(runners.server)
        if server is not None and server.halt:
            return _halted(f"{server.words} {server.halt}", server.release)
        weights, now = await known_weights(self._survey, self._node.config, self._model), time.monotonic()
        before, at = self._runners or (runners, now)
        evidence = assess_wait(self._model, weights, before, runners, now - at)
        if evidence is None or evidence.state != "wedged" or self._runners is None:
            self._runners = runners, now
        if evidence is not None and evidence.state == "wedged" and evidence.remedy is None:
            url = self._node.config.url
            kind = kept(provider.kind, await read_upkeep(self._survey, url))
            remedy = unload_remedy(kind, self._model, url)
            return replace(evidence, remedy=remedy)
        return evidence

    async def _by_slots(self, slots: Sequence[Slot]) -> WaitEvidence:
        now = time.monotonic()
        before, at = self._slots or (slots, now)
        stands_still = self._slots is not None and tuple(before) == tuple(slots)
        process = await self._process() if stands_still and any(slot.busy for slot in slots) else None
        evidence = assess_slots_wait(self._model, before, slots, now - at, process)
        if evidence.state != "wedged" or self._slots is None:
            self._slots = slots, now
        return evidence

    async def _by_list(self, provider: Provider) -> WaitEvidence | None:
        """Return what Ollama's list of loaded models shows, where nothing else can be looked at."""
        if not provider.kind.loads_on_demand:
            return None
        if why := await loading_evidence(provider, Resident(self._model)):
            return WaitEvidence("loading", why)
        try:
            loaded = next((r for r in await provider.resident() or () if r.name == self._model), None)
        except CallError:
            return None
        # Our own request holds it past its expiry too: only what had expired before it tells of another.
        if loaded is None or loaded.expires_at is None or loaded.expires_at >= self._asked_at:
            return None
        return WaitEvidence(
            "busy",
            f"a request was in flight on {self._model} before this one: it is busy, or wedged, which cannot "
            "be told from here",
        )

    async def _by_process(self) -> WaitEvidence | None:
        """Return what the process of the server shows, where it is one of this machine."""
        process = await self._process()
        if process is None:
            return None
        if process.stopped:
            return _halted(process.condition, process.release)
        if not is_working(process.cpu):
            return None
        return WaitEvidence("busy", f"{process.words} works", rate=f"it uses {process.cpu:.1f} cores")

    async def _process(self) -> Listener | None:
        url = self._node.config.url
        return await listener(endpoint(url)[1]) if is_loopback(url) else None


def assess_wait(
    model: str, weights: str | None, before: NodeRunners, after: NodeRunners, seconds: float
) -> WaitEvidence | None:
    """Return what the runners of a node show of a request that waits; None where they do not tell. Pure.

    `before` is the reading since which nothing has moved, `seconds` ago; the first one is both.
    """
    own, first = after.of(weights), before.of(weights)
    held_up = assess_unlisted(after)
    if held_up is not None and held_up.state is NodeState.WEDGED:
        if own is not None and own.process.is_stopped:
            held_up = assess_runner(model, weights, after, after, 0.0) or held_up
        return WaitEvidence("wedged", held_up.detail, held_up.remedy, patience_s=_HEALS_S, whole_node=True)
    if own is None:
        if held_up is not None:
            return WaitEvidence("loading", held_up.detail)
        if others := [runner.process.words for runner in after.runners if not is_idle(runner)]:
            return WaitEvidence("busy", f"{model} waits for another model: {', '.join(others)} works")
        if after.runners:
            return None
        why = f"the process that served {model} is gone, and no other has taken its place"
        return WaitEvidence("wedged", why, patience_s=_HEALS_S)
    if first is None or first.process.pid != own.process.pid:
        before, seconds = after, 0.0
    shown = assess_runner(model, weights, before, after, seconds, asked=True)
    unserved = shown is None
    shown = shown or assess_unserved(model, weights, after)
    if shown is None:
        return None
    match shown.state:
        case NodeState.LOADING:
            return WaitEvidence("loading", shown.detail)
        case NodeState.WEDGED if seconds == 0.0 and not unserved and own.slots:
            return WaitEvidence("busy", f"{model} is busy: {slots_status(own.slots).words}")
        case NodeState.WEDGED:
            patience_s = _HEALS_S if own.health is RunnerHealth.SILENT else STANDSTILL_S
            return WaitEvidence("wedged", shown.detail, patience_s=_UNSERVED_S if unserved else patience_s)
    measured = () if first is None else first.slots or ()
    return WaitEvidence("busy", shown.detail, rate=_rate(measured, own.slots or (), seconds))


def assess_slots_wait(
    model: str, before: Sequence[Slot], after: Sequence[Slot], seconds: float, process: Listener | None
) -> WaitEvidence:
    """Return what the slots of a server show of a request that waits. Pure.

    `before` is the reading since which nothing has moved, `seconds` ago; the first one is both.
    """
    words = f"{model}: {slots_status(after).words}"
    if not any(slot.busy for slot in after):
        why = f"{model} is idle while a request waits: its server hangs"
        return WaitEvidence("wedged", why, patience_s=_UNSERVED_S)
    if tuple(before) != tuple(after) or seconds == 0.0:
        return WaitEvidence("busy", words, rate=_rate(before, after, seconds))
    if process is not None and is_working(process.cpu):
        return WaitEvidence("busy", words, rate=f"process {process.pid} uses {process.cpu:.1f} cores")
    why = f"{words}, and nothing has moved for {seconds:.0f} s"
    return WaitEvidence("wedged", why, patience_s=STANDSTILL_S, whole_node=True)


def _halted(why: str, release: str) -> WaitEvidence:
    return WaitEvidence("wedged", why, release, whole_node=True)


def _rate(before: Sequence[Slot], after: Sequence[Slot], seconds: float) -> str:
    """Return how fast the requests that both readings show go on; empty where nothing was measured."""
    same = [
        (first, last)
        for first, last in zip(before, after, strict=False)
        if last.busy and first.busy and first.task == last.task
    ]
    written = sum(last.tokens - first.tokens for first, last in same)
    read = sum(last.prompt_tokens - first.prompt_tokens for first, last in same)
    if seconds <= 0 or max(written, read) <= 0:
        return ""
    return f"{written / seconds:.0f} tokens/s" if written > 0 else f"{read / seconds:.0f} tokens/s of prompt"
