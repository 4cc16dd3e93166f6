"""Requests out of tagged lines."""

from hypothesis import given
from hypothesis import strategies as st

from opskit.logs.record import facts
from opskit.tags import format_line
from opskit.watch.requests import MAX_OPEN, SETTLE_S, RequestChange, RequestTracker

ID = "8979fe84-3a15-468c-96c9-758325391ded"
OTHER = "00000000-3a15-468c-96c9-758325391ded"


def said(
    requests: RequestTracker, tag: str, at: float, identifier: str = ID, **fields
) -> list[RequestChange]:
    line = format_line(tag, {"correlation_id": identifier, **fields})
    return requests.take(facts(line.encode()), at)


def call(
    requests: RequestTracker, at: float, model: str = "m", *, node: str = "ollama", **rest
) -> list[RequestChange]:
    return said(requests, "LLM_CALL", at, node=node, model=model, **{"fallback": False, **rest})


def test_a_request_runs_and_is_done() -> None:
    """Its beginning and its end are news, with goal, place and seconds."""
    requests = RequestTracker()
    (began,) = said(requests, "REQUEST", 10.0, goal="add")
    call(requests, 10.1)
    assert requests.summary(10.2).running == 1
    (done,) = said(requests, "LLM_RESPONSE", 12.5, node="ollama", model="m", seconds=2.4)
    assert (began.state, began.goal) == ("running", "add")
    assert (done.state, done.node, done.model, done.seconds, done.attempts) == ("done", "ollama", "m", 2.5, 1)
    row = requests.summary(13.0).models[0]
    assert (row.running, row.done, row.failed, row.median_s) == (0, 1, 0, 2.4)


def test_a_fallback_saves_the_request() -> None:
    """A failed call that is followed by another is a failure of the model, not of the request."""
    requests = RequestTracker()
    call(requests, 0.0, "big")
    said(requests, "LLM_CRASH", 1.0, node="ollama", model="big", fault="runner_crashed")
    assert requests.expire(1.0 + SETTLE_S / 2) == []
    call(requests, 1.5, "small", fallback=True)
    assert requests.expire(1.5 + SETTLE_S * 2) == []
    (done,) = said(requests, "LLM_RESPONSE", 5.0, node="ollama", model="small", seconds=3.5)
    assert (done.state, done.fallback, done.attempts) == ("done", True, 2)
    summary = requests.summary(6.0)
    assert (summary.done, summary.failed, summary.fallbacks) == (1, 0, 1)
    assert [(row.model, row.done, row.failed, row.last_fault, row.ails) for row in summary.models] == [
        ("big", 0, 1, "runner_crashed", True),
        ("small", 1, 0, None, False),
    ]


def test_a_failure_without_a_fallback_is_the_end() -> None:
    """Told once nothing followed for a while, with the fault."""
    requests = RequestTracker()
    call(requests, 0.0)
    said(requests, "LLM_ERROR", 1.0, node="ollama", model="m", fault="reset")
    (failed,) = requests.expire(1.0 + SETTLE_S)
    assert (failed.state, failed.fault, failed.seconds) == ("failed", "reset", 1.0)
    assert requests.summary(4.0).failed == 1


def test_a_call_through_an_agent_ends_with_the_outer_answer() -> None:
    """The agent's own calls bear the same id; her answer names no model."""
    requests = RequestTracker()
    call(requests, 0.0, "agent", node="victoria")
    call(requests, 0.5, "m")
    assert said(requests, "LLM_RESPONSE", 2.0, node="ollama", model="m", seconds=1.5) == []
    (done,) = said(requests, "LLM_RESPONSE", 2.2, node="victoria", status=200, seconds=2.2)
    assert (done.state, done.node, done.model) == ("done", "victoria", "agent")


def test_an_error_beside_the_call_ends_nothing() -> None:
    """A node that is not there is told with the same tag."""
    requests = RequestTracker()
    call(requests, 0.0)
    said(requests, "LLM_ERROR", 0.1, node="mlx", fault="refused")
    assert requests.expire(0.1 + 2 * SETTLE_S) == []
    assert requests.summary(3.0).running == 1


def test_silence_makes_a_request_lost() -> None:
    """A process that was killed tells no end: it is neither done nor failed."""
    requests = RequestTracker(lost_s=600)
    call(requests, 0.0)
    assert requests.expire(599.0) == []
    (lost,) = requests.expire(600.0)
    assert lost.state == "lost"


def test_the_window_moves() -> None:
    """What ended before it is forgotten."""
    requests = RequestTracker(window_s=300)
    call(requests, 0.0)
    said(requests, "LLM_RESPONSE", 7.0, node="ollama", model="m", seconds=7.0)
    assert (requests.summary(8.0).done, requests.summary(8.0).slow) == (1, 1)
    assert requests.summary(308.0).done == 0
    assert requests.summary(308.0).models == ()


def test_a_flood_of_requests_is_bounded() -> None:
    """The oldest open one is given up, and told as lost."""
    requests = RequestTracker()
    for number in range(MAX_OPEN):
        assert call(requests, 1.0, identifier=f"{number:08d}-3a15-468c-96c9-758325391ded") is not None
    assert requests.summary(1.0).running <= MAX_OPEN
    news = said(requests, "LLM_CALL", 2.0, OTHER.replace("0", "f"), node="n", model="m")
    assert [one.state for one in news] == ["lost"]


_TAGS = st.sampled_from(
    ["REQUEST", "LLM_CALL", "LLM_RESPONSE", "LLM_ERROR", "LLM_CRASH", "LLM_PARSE", "FALLBACK"]
)
_LINES = st.lists(
    st.tuples(_TAGS, st.sampled_from([ID, OTHER]), st.sampled_from(["a", "b", None]), st.floats(0.0, 10.0)),
    max_size=40,
)


@given(_LINES)
def test_whatever_the_lines_every_request_ends_once(lines: list[tuple[str, str, str | None, float]]) -> None:
    """Each one that is open is ended by time at the latest, and running and ended ones add up."""
    requests, at, ends = RequestTracker(lost_s=600), 0.0, 0
    for tag, identifier, model, passed in lines:
        at += passed
        news = said(requests, tag, at, identifier, node="n", **({"model": model} if model else {}))
        ends += sum(one.state != "running" for one in news)
        summary = requests.summary(at)
        assert summary.done + summary.failed + summary.lost <= ends
        assert summary.running <= 2
    requests.expire(at + 600)
    assert requests.summary(at + 600).running == 0
