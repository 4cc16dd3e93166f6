"""The grammar of faults and the board they hang on."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.sandbox.faults import (
    SHOWN_BY,
    WHOLE_NODE,
    FaultBoard,
    SandboxFault,
    SandboxFaultKind,
    parse_fault,
)

OLLAMA_FAULTS, MLX_FAULTS, AGENT_FAULTS = (SHOWN_BY[node] for node in ("ollama", "mlx", "victoria"))

K = SandboxFaultKind


def test_a_model_name_may_hold_colons():
    """Only the first colon parts the node from the model."""
    assert parse_fault("ollama:big:32b=crash") == ("ollama", "big:32b", SandboxFault(K.CRASH))


def test_without_a_model_the_fault_is_of_the_whole_node():
    """A spec without a colon names no model."""
    assert parse_fault("mlx=zombie") == ("mlx", None, SandboxFault(K.ZOMBIE))


@pytest.mark.parametrize(
    "spec,fault",
    [
        ("ollama:m=crash,times=1", SandboxFault(K.CRASH, times=1)),
        ("ollama:m=slow-load,seconds=5", SandboxFault(K.SLOW_LOAD, seconds=5.0)),
        (
            "ollama=rate-limited,retry_after=2,times=3",
            SandboxFault(K.RATE_LIMITED, times=3, retry_after_s=2.0),
        ),
        ("mlx=cut,after=0", SandboxFault(K.CUT, after_tokens=0)),
        ("mlx=notfound-all,text=a, b=c", SandboxFault(K.NOTFOUND_ALL, text="a, b=c")),
    ],
)
def test_settings_follow_the_fault(spec, fault):
    """Each setting is read into its field, and text runs to the end."""
    assert parse_fault(spec)[2] == fault


@pytest.mark.parametrize(
    "spec,hint",
    [
        ("ollama:m=crsh", "crash"),
        ("olama=crash", "ollama"),
        ("ollama=crash,time=1", "times"),
        ("ollama", "NODE[:MODEL]=FAULT"),
        ("ollama:=crash", "no model name"),
        ("ollama=crash,times=0", "at least 1"),
        ("ollama=crash,times=one", "must be a number"),
        ("ollama=crash,times=1,times=2", "twice"),
        ("ollama=crash,", "unknown fault setting"),
        ("ollama=slow-load,seconds=nan", "at least 0"),
        ("ollama=crash,after=3", "takes no after"),
        ("ollama=refuse,times=1", "takes no times"),
        ("ollama=zombie", "cannot show"),
        ("mlx=done-false", "cannot show"),
        ("victoria=loop", "cannot show"),
        ("ollama:m=ps-blocks", "whole node"),
        ("victoria:m=crash", "take no model"),
    ],
)
def test_a_bad_spec_is_refused_with_its_reason(spec, hint):
    """A spec that cannot be shown raises ValueError, and the message says what to change."""
    with pytest.raises(ValueError) as caught:
        parse_fault(spec)
    assert hint in str(caught.value)


def test_every_fault_is_shown_by_some_node():
    """No kind exists in the grammar alone."""
    assert set(SandboxFaultKind) == OLLAMA_FAULTS | MLX_FAULTS | AGENT_FAULTS


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1)


@st.composite
def specs(draw):
    """Any node, model and fault that go together."""
    node = draw(st.sampled_from(sorted(SHOWN_BY)))
    kind = draw(st.sampled_from(sorted(SHOWN_BY[node])))
    alone = kind in WHOLE_NODE or SHOWN_BY[node] == AGENT_FAULTS
    model = None if alone else draw(st.none() | TEXTS.filter(lambda name: "=" not in name))
    settings = {}
    for field, values in {
        "times": st.integers(1, 99),
        "seconds": st.floats(0, 1e6),
        "after_tokens": st.integers(0, 999),
        "retry_after_s": st.floats(0, 1e6),
        "text": st.text(st.characters(codec="utf-8")),
    }.items():
        value = draw(st.none() | values)
        try:
            SandboxFault(kind, **{field: value})
        except ValueError:
            continue
        settings[field] = value
    return node, model, SandboxFault(kind, **settings)


def written(node, model, fault):
    """Write the spec of these three."""
    target = node if model is None else f"{node}:{model}"
    fields = {
        "times": fault.times,
        "seconds": fault.seconds,
        "after": fault.after_tokens,
        "retry_after": fault.retry_after_s,
        "text": fault.text,
    }
    return ",".join([f"{target}={fault.kind}", *(f"{k}={v}" for k, v in fields.items() if v is not None)])


@given(specs())
def test_a_written_fault_is_read_back_the_same(spec):
    """For every fault there is."""
    assert parse_fault(written(*spec)) == spec


@given(st.integers(1, 20), st.integers(0, 30))
def test_a_counted_fault_is_met_exactly_that_often(times, requests):
    """A fault with `times` disappears after so many requests, and not before."""
    board = FaultBoard([(None, SandboxFault(K.CRASH, times=times))])
    met = [board.take("m") is not None for _ in range(requests)]
    assert met == [at < times for at in range(requests)]


def test_a_fault_of_the_model_goes_before_one_of_the_node():
    """The nearer fault is met first, the other one afterwards."""
    board = FaultBoard([(None, SandboxFault(K.EMPTY)), ("m", SandboxFault(K.CRASH, times=1))])
    assert [board.take("m").kind, board.take("m").kind, board.take("n").kind] == [K.CRASH, K.EMPTY, K.EMPTY]


def test_only_the_kinds_asked_for_are_met_and_counted():
    """A look for other kinds neither finds nor counts a fault."""
    board = FaultBoard([("m", SandboxFault(K.CRASH, times=1))])
    assert board.take("m", {K.EMPTY}) is None
    assert board.take("m", {K.CRASH}) is not None


def test_looking_does_not_count():
    """`peek` leaves a fault as often as it was."""
    board = FaultBoard([("m", SandboxFault(K.CRASH, times=1))])
    assert board.peek("m") == board.peek("m") == board.take("m")
    assert board.peek("m") is None


def test_the_latest_tag_may_be_left_out():
    """A fault on `m` is met by `m:latest` and the other way round."""
    assert FaultBoard([("m", SandboxFault(K.CRASH))]).take("m:latest") is not None
    assert FaultBoard([("m:latest", SandboxFault(K.CRASH))]).take("m") is not None


def test_clear_takes_down_one_kind_or_all():
    """`clear` with a kind leaves the others."""
    board = FaultBoard([("m", SandboxFault(K.CRASH)), (None, SandboxFault(K.EMPTY))])
    board.clear(K.CRASH)
    assert [fault.kind for _, fault in board.active()] == [K.EMPTY]
    board.clear()
    assert board.active() == []


def test_a_board_of_a_server_refuses_what_it_cannot_show():
    """After `restrict`, a foreign fault raises, and one that hangs there already makes `restrict` raise."""
    board = FaultBoard()
    board.restrict(MLX_FAULTS, "mlx")
    with pytest.raises(ValueError, match="mlx cannot show"):
        board.set(None, SandboxFault(K.CRASH))
    with pytest.raises(ValueError, match="ollama cannot show"):
        FaultBoard([(None, SandboxFault(K.ZOMBIE))]).restrict(OLLAMA_FAULTS, "ollama")


def test_listeners_hear_of_changes_until_they_leave():
    """A subscriber gets each change, and none after its undo."""
    board, heard = FaultBoard(), []
    leave = board.subscribe(lambda model, fault: heard.append((model, fault)))
    board.set("m", SandboxFault(K.CRASH))
    board.clear()
    leave()
    board.set("m", SandboxFault(K.EMPTY))
    assert heard == [("m", SandboxFault(K.CRASH)), (None, None)]


def test_threads_share_the_count():
    """However many threads ask at once, a counted fault is met exactly `times` times."""
    board = FaultBoard([(None, SandboxFault(K.CRASH, times=100))])
    met = []

    def ask():
        met.extend(fault for _ in range(100) if (fault := board.take("m")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(met) == 100
