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
        now = situation.now
        for name, circuit in self._health.nodes.items():
            if circuit.state(now) is CircuitState.HALF_OPEN:
                self._running.start((name, ""), f"trial of {name}", partial(self._try_node, name, circuit))
        for (name, model), circuit in self._health.models.items():
            if circuit.state(now) is CircuitState.HALF_OPEN:
                trial = partial(self._try_model, name, model, circuit)
                self._running.start((name, model), f"trial of {model} on {name}", trial)

    async def aclose(self) -> None:
        await self._running.aclose()

    async def _try_node(self, name: str, circuit: Circuit) -> None:
        try:
            await (await self._nodes[name].provider()).version()
        except CallError as error:
            self._fail(circuit, classify(error))
        else:
            circuit.succeed()

    async def _try_model(self, name: str, model: str, circuit: Circuit) -> None:
        try:
            provider = await self._nodes[name].provider()
            resident = await provider.resident()
            loaded = next((r for r in resident or () if r.name == model), None)
            if loaded is None:
                circuit.succeed()
                return
            if not may_be_asked(loaded):
                evidence = await self._watch(self._nodes[name], model)() if self._watch else None
                if not is_overdue(loaded) or (evidence is not None and evidence.state != "wedged"):
                    circuit.succeed()
                    return
                why = "a request is still in flight past its expiry"
                self._fail(circuit, Fault(FaultKind.WEDGED, evidence.words if evidence else why))
                return
            got = await one_token(
                provider,
                loaded,
                limit_s=self._budgets.first_token_s,
                load_s=load_budget_s(self._budgets, loaded.size_bytes),
                on_left=lambda seconds: note_left(self._log, self._nodes[name].config, model, seconds),
            )
        except CallError as error:
            self._fail(circuit, classify(error))
            return
        if got.ended:
            circuit.succeed()
        else:
            self._fail(circuit, Fault(FaultKind.WEDGED, "still no token"))

    def _fail(self, circuit: Circuit, fault: Fault) -> None:
        circuit.fail(
            self._clock(), self._health.config, at_once=True, reason=f"{fault.kind.value}: {fault.detail}"
        )
