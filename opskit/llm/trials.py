"""Half-open circuits are tried by the router itself, never by a user's request.

A node is tried by its health page, a model by one token, and only where it is resident: a trial loads
nothing. What cannot be tried cheaply is simply allowed again.
"""

from collections.abc import Callable, Mapping
from functools import partial

from opskit.config.schema import Budgets
from opskit.llm.faults import Fault, FaultKind, classify
from opskit.llm.health import Circuit, CircuitState, Health
from opskit.llm.loads import SingleFlight, load_budget_s
from opskit.llm.one_token import is_overdue, may_be_asked, note_left, one_token
from opskit.llm.plan import PlanContext
from opskit.llm.waiting import WatchRequest
from opskit.providers.base import CallError
from opskit.providers.node import Node
from opskit.tags import TagLog


class Trials:
    """Runs at most one trial for each circuit at a time."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        health: Health,
        budgets: Budgets,
        clock: Callable[[], float],
        log: TagLog,
        watch: WatchRequest | None = None,
    ) -> None:
        self._nodes = nodes
        self._health = health
        self._budgets = budgets
        self._clock = clock
        self._log = log
        self._watch = watch
        self._running = SingleFlight[tuple[str, str], None]()

    def start_due(self, situation: PlanContext) -> None:
        """Start a trial for every circuit whose rest is over. Costs the caller nothing."""
        circuits = {(name, ""): circuit for name, circuit in self._health.nodes.items()} | self._health.models
        for (name, model), circuit in circuits.items():
            if circuit.state(situation.now) is CircuitState.HALF_OPEN:
                trial = partial(self._try, name, model, circuit)
                self._running.start((name, model), f"trial of {model or 'the server'} on {name}", trial)

    async def aclose(self) -> None:
        await self._running.aclose()

    async def _try(self, name: str, model: str, circuit: Circuit) -> None:
        try:
            fault = await self._fault(name, model)
        except CallError as error:
            fault = classify(error)
        if fault is None:
            circuit.succeed()
        else:
            reason = f"{fault.kind.value}: {fault.detail}"
            circuit.fail(self._clock(), self._health.config, at_once=True, reason=reason)

    async def _fault(self, name: str, model: str) -> Fault | None:
        """Return what is still wrong with a model, or with the node where that is empty. Raises CallError."""
        node = self._nodes[name]
        provider = await node.provider()
        if not model:
            await provider.version()
            return None
        loaded = next((r for r in await provider.resident() or () if r.name == model), None)
        if loaded is None:
            return None
        if not may_be_asked(loaded):
            evidence = await self._watch(node, model)() if self._watch else None
            if not is_overdue(loaded) or (evidence is not None and evidence.state != "wedged"):
                return None
            why = "a request is still in flight past its expiry"
            return Fault(FaultKind.WEDGED, evidence.words if evidence else why)
        got = await one_token(
            provider,
            loaded,
            limit_s=self._budgets.first_token_s,
            load_s=load_budget_s(self._budgets, loaded.size_bytes),
            on_left=lambda seconds: note_left(self._log, node.config, model, seconds),
        )
        return None if got.ended else Fault(FaultKind.WEDGED, "still no token")
