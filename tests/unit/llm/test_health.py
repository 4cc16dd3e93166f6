"""Circuits over a fake clock: when a node or a model is left alone, and for how long."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opskit.config.schema import CircuitConfig
from opskit.llm.faults import Fault, FaultKind, Scope
from opskit.llm.health import Circuit, CircuitState, Health

CONFIG = CircuitConfig(failures=2, open_s=5.0, open_max_s=40.0, overload_s=10.0)
BY_COUNT = [
    k for k in FaultKind if k.action.counts and not k.action.at_once and k.action.scope is Scope.MODEL
]
AT_ONCE = [k for k in FaultKind if k.action.counts and k.action.at_once]
NEVER = [k for k in FaultKind if not k.action.counts]


class CircuitMachine(RuleBasedStateMachine):
    """Random failures, successes and waits, against the promises of a circuit."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit()
        self.now = 100.0
        self.failures_since_success = 0

    # Quarters of a second add up exactly.
    @rule(seconds=st.integers(0, 240).map(lambda quarters: quarters / 4))
    def wait(self, seconds: float) -> None:
        before = self.circuit.state(self.now)
        self.now += seconds
        if before is CircuitState.CLOSED:
            assert self.circuit.state(self.now) is CircuitState.CLOSED

    @rule(at_once=st.booleans())
    def fail(self, at_once: bool) -> None:
        before, rest = self.circuit.state(self.now), self.circuit.open_for_s
        self.circuit.fail(self.now, CONFIG, at_once=at_once, reason="r")
        self.failures_since_success += 1
        after = self.circuit.state(self.now)
        if at_once or before is not CircuitState.CLOSED or self.failures_since_success >= CONFIG.failures:
            assert after is CircuitState.OPEN
        else:
            assert after is CircuitState.CLOSED
        if before is CircuitState.HALF_OPEN:
            assert self.circuit.open_for_s == min(rest * 2, CONFIG.open_max_s)
        if before is CircuitState.OPEN:
            assert self.circuit.open_for_s == rest

    @rule()
    def succeed(self) -> None:
        self.circuit.succeed()
        self.failures_since_success = 0
        assert self.circuit == Circuit()

    @precondition(lambda self: self.circuit.state(self.now) is CircuitState.OPEN)
    @rule()
    def rest_is_over_exactly_then(self) -> None:
        end = self.circuit.opened_at + self.circuit.open_for_s
        assert self.circuit.state(end - 1e-6) is CircuitState.OPEN
        assert self.circuit.state(end + 1e-9) is CircuitState.HALF_OPEN
        assert self.circuit.remaining_s(end + 1e-9) == 0.0

    @invariant()
    def never_open_without_a_failure(self) -> None:
        if self.failures_since_success == 0:
            assert self.circuit.state(self.now) is CircuitState.CLOSED

    @invariant()
    def the_rest_is_bounded(self) -> None:
        assert self.circuit.remaining_s(self.now) <= CONFIG.open_max_s


TestCircuit = CircuitMachine.TestCase
TestCircuit.settings = settings(max_examples=60, stateful_step_count=30)


@given(st.lists(st.sampled_from(BY_COUNT), min_size=2, max_size=10))
def test_fast_failures_open_like_slow_ones(kinds):
    """Two failures in the same instant rest a model, so that a sick node attracts no traffic."""
    health = Health(CONFIG)
    for kind in kinds:
        health.failed("n", "m", Fault(kind, "at once"), 0.0)
    assert health.state("n", "m", 0.0) is CircuitState.OPEN


@pytest.mark.parametrize("kind", AT_ONCE)
def test_some_faults_open_at_the_first(kind):
    """Nobody runs twice into a refused connection or a wedged model."""
    health = Health(CONFIG)
    health.failed("n", "m", Fault(kind, "x"), 0.0)
    assert health.state("n", "m", 0.0) is CircuitState.OPEN
    assert health.state("n", "m", CONFIG.open_s) is CircuitState.HALF_OPEN


@pytest.mark.parametrize("kind", NEVER)
def test_some_faults_never_open(kind):
    """A bad request, a spent budget or a load says nothing about health."""
    health = Health(CONFIG)
    for _ in range(10):
        health.failed("n", "m", Fault(kind, "x"), 0.0)
    assert health.state("n", "m", 0.0) is CircuitState.CLOSED
    assert health.why("n", "m", 0.0) == ""


@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_rests_what_it_speaks_of(kind):
    """A dead node takes all its models along, a sick model only itself; other nodes stay."""
    health = Health(CONFIG)
    for _ in range(CONFIG.failures):
        health.failed("n", "m", Fault(kind, "x"), 0.0)
    whole = kind.action.scope is Scope.NODE
    assert (health.state("n", "other", 0.0) is CircuitState.OPEN) is whole
    assert health.state("elsewhere", "m", 0.0) is CircuitState.CLOSED


@given(st.floats(0.0, 1000.0))
def test_retry_after_is_the_least_rest(asked):
    """What the server asks for is waited, also beyond our own ceiling."""
    health = Health(CONFIG)
    for _ in range(CONFIG.failures):
        health.failed("n", "m", Fault(FaultKind.RATE_LIMITED, "x", 429, asked), 0.0)
    assert health.nodes["n"].remaining_s(0.0) == max(asked, CONFIG.open_s)
    assert health.overloaded("n", max(asked, CONFIG.overload_s) - 0.001)
    assert not health.overloaded("n", max(asked, CONFIG.overload_s))


def test_a_rate_limit_that_names_its_end_rests_the_node_at_once():
    """One 429 with Retry-After is enough: asking again before can only fail."""
    health = Health(CONFIG)
    health.failed("n", "m", Fault(FaultKind.RATE_LIMITED, "x", 429, 30.0), 0.0)
    assert health.state("n", "m", 29.9) is CircuitState.OPEN
    assert health.state("n", "m", 30.0) is CircuitState.HALF_OPEN


def test_an_overloaded_node_is_only_put_back():
    """SPEC B10: one busy answer opens no circuit, it puts the node behind the others for a while."""
    health = Health(CONFIG)
    health.failed("n", "m", Fault(FaultKind.BUSY, "x", 503), 0.0)
    assert health.state("n", "m", 0.0) is CircuitState.CLOSED
    assert health.overloaded("n", 9.9)
    assert not health.overloaded("n", 10.0)


def test_a_success_forgets_everything():
    """One good answer closes the node's and the model's circuits and ends the overload."""
    health = Health(CONFIG)
    for kind in (FaultKind.REFUSED, FaultKind.WEDGED, FaultKind.BUSY):
        health.failed("n", "m", Fault(kind, "x"), 0.0)
    health.succeeded("n", "m")
    assert health.state("n", "m", 0.0) is CircuitState.CLOSED
    assert not health.overloaded("n", 0.0)


def test_the_reason_names_what_rests_and_for_how_long():
    """A person reads who is left alone, why, and until when."""
    health = Health(CONFIG)
    health.failed("mlx", "m", Fault(FaultKind.REFUSED, "nothing listens"), 0.0)
    assert health.why("mlx", "m", 2.0) == "mlx is resting for 3.0 s more: refused: nothing listens"
