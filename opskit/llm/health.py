"""Circuits: which node and which model is left alone, and for how long. Pure; the clock is a parameter.

Health is passive first: real traffic opens and closes circuits, and fast failures count like slow ones, so
a sick node does not attract traffic. A circuit that fails again after its rest stays open for twice as long
(re-armed from that moment), up to a ceiling.
"""

from enum import StrEnum

from opskit.config.schema import CircuitConfig
from opskit.llm.faults import Fault, Scope
from opskit.records import MutableRecord, field


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Circuit(MutableRecord):
    """One node's or one model's. Times are seconds of any monotonic clock."""

    failures: int = 0
    opened_at: float | None = None
    open_for_s: float = 0.0
    reason: str = ""

    def state(self, now: float) -> CircuitState:
        if self.opened_at is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now - self.opened_at < self.open_for_s else CircuitState.HALF_OPEN

    def succeed(self) -> None:
        """One good answer closes it and forgets the past."""
        self.failures, self.opened_at, self.open_for_s, self.reason = 0, None, 0.0, ""

    def fail(
        self, now: float, config: CircuitConfig, *, at_once: bool, reason: str, rest_s: float | None = None
    ) -> None:
        """Count one failure; open, or open again for longer. `rest_s` is what the server asked for."""
        self.failures += 1
        self.reason = reason
        state = self.state(now)
        if state is CircuitState.CLOSED and not at_once and self.failures < config.failures:
            return
        grown = self.open_for_s * 2 if state is CircuitState.HALF_OPEN else self.open_for_s
        wanted = max(config.open_s, grown, rest_s or 0.0)
        self.opened_at = now
        self.open_for_s = min(wanted, max(config.open_max_s, rest_s or 0.0))

    def remaining_s(self, now: float) -> float:
        return 0.0 if self.opened_at is None else max(0.0, self.opened_at + self.open_for_s - now)


class Health(MutableRecord):
    """All circuits of one engine, and which nodes are overloaded just now (SPEC B10)."""

    config: CircuitConfig
    nodes: dict[str, Circuit] = field(default_factory=dict)
    models: dict[tuple[str, str], Circuit] = field(default_factory=dict)
    overloaded_until: dict[str, float] = field(default_factory=dict)

    def state(self, node: str, model: str, now: float) -> CircuitState:
        """The worse of the node's and the model's."""
        states = [circuit.state(now) for circuit in self._circuits(node, model).values()]
        worse = (state for state in (CircuitState.OPEN, CircuitState.HALF_OPEN) if state in states)
        return next(worse, CircuitState.CLOSED)

    def _circuits(self, node: str, model: str) -> dict[str, Circuit]:
        """Return what stands in the way to a model, by its name for a person."""
        known = {node: self.nodes.get(node), f"{model} on {node}": self.models.get((node, model))}
        return {name: circuit for name, circuit in known.items() if circuit is not None}

    def why(self, node: str, model: str, now: float) -> str:
        """One line for a person, empty when both are closed."""
        for name, circuit in self._circuits(node, model).items():
            if circuit.state(now) is not CircuitState.CLOSED:
                return f"{name} is resting for {circuit.remaining_s(now):.1f} s more: {circuit.reason}"
        return ""

    def succeeded(self, node: str, model: str) -> None:
        for circuit in self._circuits(node, model).values():
            circuit.succeed()
        self.overloaded_until.pop(node, None)

    def failed(self, node: str, model: str, fault: Fault, now: float) -> None:
        """Enter a fault where it belongs."""
        action = fault.action
        if action.overload:
            self.overloaded_until[node] = now + max(self.config.overload_s, fault.retry_after_s or 0.0)
        if not (action.counts and fault.counts) or action.scope is Scope.REQUEST:
            return
        if action.scope is Scope.NODE or fault.whole_node:
            circuit = self.nodes.setdefault(node, Circuit())
        else:
            circuit = self.models.setdefault((node, model), Circuit())
        circuit.fail(
            now,
            self.config,
            # A server that names the end of its rest is believed the first time.
            at_once=action.at_once or bool(fault.retry_after_s),
            reason=f"{fault.kind.value}: {fault.detail}",
            rest_s=fault.retry_after_s,
        )

    def rejected(self, node: str, model: str, reason: str, now: float) -> None:
        """A text that was no answer. One may be the prompt's fault; a row of them is the model's."""
        circuit = self.models.setdefault((node, model), Circuit())
        circuit.fail(now, self.config, at_once=False, reason=reason)

    def overloaded(self, node: str, now: float) -> bool:
        return self.overloaded_until.get(node, 0.0) > now
