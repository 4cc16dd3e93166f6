"""Requests and their calls, out of tagged lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.logs.calls import TAGS, RequestCalls, call_event
from opskit.logs.record import facts
from opskit.tags import format_line

ID = "25a0b2f7-6a3c-4e0a-9d0a-2f1b3c4d5e6f"


def said(tag, **fields):
    return facts(format_line(tag, {"correlation_id": ID, **fields}).encode())


def read(*lines):
    """The request after these lines, one a second, and the calls that they made known."""
    request = RequestCalls()
    calls = [request.take(line, float(at)) for at, line in enumerate(lines)]
    return request, [call for call in calls if call is not None]


CALL = said("LLM_CALL", node="a", model="m", fallback=False, url="http://a:1")
ANSWER = said("LLM_RESPONSE", node="a", model="m", seconds=0.5, tokens=3)
FAILURE = said("LLM_ERROR", node="a", model="m", fault="refused")


def test_a_call_and_its_end_are_one():
    """The end brings outcome, seconds and tokens; node, model and address stay those of the call."""
    request, [begun, ended] = read(CALL, ANSWER)
    assert (begun.outcome, ended.outcome, ended.number) == ("unfinished", "ok", begun.number)
    assert (ended.node, ended.model, ended.url) == ("a", "m", "http://a:1")
    assert (ended.seconds, ended.tokens, ended.began, ended.ended) == (0.5, 3, 0.0, 1.0)
    assert (request.state, request.open) == ("answered", ())


def test_an_end_that_names_less_ends_the_latest_call():
    """Seconds that no line says are those between the lines."""
    other = said("LLM_CALL", node="b", model="n", fallback=True)
    _, calls = read(
        CALL, other, said("LLM_PARSE", node="b", verdict="echo"), said("LLM_RESPONSE", status=200)
    )
    assert [(call.model, call.outcome, call.seconds, call.fault) for call in calls[2:]] == [
        ("n", "rejected", 1.0, "echo"),
        ("m", "ok", 3.0, None),
    ]


def test_a_failed_call_is_the_end_only_if_nothing_follows():
    """Until then the request runs; a new call takes the failure back."""
    request, _ = read(CALL, FAILURE)
    assert (request.state, request.settled, request.failed_at) == ("running", "failed", 1.0)
    request.take(CALL, 2.0)
    assert (request.settled, request.failed_at) == ("running", None)


@pytest.mark.parametrize("outcome", ["answered", "failed", "interrupted"])
def test_the_last_line_closes_a_request(outcome):
    """Also one with a call that nothing ended, or without any call."""
    end = said("REQUEST_END", outcome=outcome, code="MODEL_001")
    for lines in ([CALL, end], [said("REQUEST", goal="x"), end]):
        request, _ = read(*lines)
        assert (request.state, request.code, request.open) == (outcome, "MODEL_001", ())


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("[LLM_CALL] Model: qwq:32b", ("unfinished", "qwq:32b", None, False)),
        ("[LLM_RESPONSE] ✅ Success in 250 ms", ("ok", None, None, False)),
        ("[LLM_RESPONSE] Content: def main()", None),
        ("[LLM_PARSE] 120 characters of JSON", None),
        ("[LLM_ERROR] Model: qwq:32b: HTTP 500", ("fault", "qwq:32b", "crash", True)),
        ("[LLM_ERROR] model qwq:32b, status: 404", ("fault", "qwq:32b", "http_404", False)),
        ("[LLM_CRASH] model runner has unexpectedly stopped", ("fault", None, "crash", True)),
        ("[FALLBACK] qwq:32b -> phi3.5:3.8b", None),
        ("INFO nothing of a call", None),
    ],
)
def test_lines_of_other_writers(text, event):
    """Prose says what it can: a model, a success, a crash."""
    found = call_event(facts(text.encode()))
    assert (found and (found.outcome, found.model, found.fault, found.crash)) == event


@given(st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from("abc"), st.sampled_from("mn")), max_size=30))
def test_no_call_ends_twice_and_none_is_lost(steps):
    """Each call has one number; it is open until it ends."""
    lines = [
        said(tag, node=node, model=model, verdict="echo", outcome="answered") for tag, node, model in steps
    ]
    request, calls = read(*lines)
    ended = [call.number for call in calls if call.outcome != "unfinished"]
    assert len(ended) == len(set(ended))
    assert {call.number for call in request.open}.isdisjoint(ended)
    assert {call.number for call in calls} == set(range(1, request.count + 1))
