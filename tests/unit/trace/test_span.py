"""How spans nest, fail and continue a trace of another process."""

import asyncio
import re

import pytest

from opskit.trace.span import Leaf, SpanKind, SpanStatus, current_span, record, span

UUID = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"


def test_the_trace_id_is_the_correlation_id_without_dashes():
    """One id finds a request in logs and traces alike."""
    with record("request", UUID) as (recording, root):
        pass
    assert recording.trace_id == UUID.replace("-", "")
    assert re.fullmatch(r"[0-9a-f]{16}", root.span_id)
    assert root.parent_id is None


def test_a_traceparent_makes_the_root_a_child_of_the_caller():
    """The caller's trace goes on, whatever the correlation id is."""
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    with record("POST /run", UUID, traceparent=parent) as (recording, root):
        assert root.traceparent == f"00-{'ab' * 16}-{root.span_id}-01"
    assert (recording.trace_id, root.parent_id) == ("ab" * 16, "cd" * 8)


@pytest.mark.parametrize("header", ["", "garbage", f"00-{'g' * 32}-{'0' * 16}-01", "00-abc-def-01"])
def test_a_broken_traceparent_begins_a_trace_of_its_own(header):
    """What cannot be read is as good as none."""
    with record("request", "not a uuid", traceparent=header) as (recording, root):
        pass
    assert re.fullmatch(r"[0-9a-f]{32}", recording.trace_id)
    assert root.parent_id is None


def test_stages_nest_and_the_outer_one_is_current_again():
    """A stage inside a stage is its child."""
    with record("request", UUID) as (recording, root):
        with span("plan") as plan:
            with span("ask", kind=SpanKind.CLIENT) as ask:
                assert current_span() is ask
            assert current_span() is plan
        assert current_span() is root
    assert current_span() is None
    assert [stage.parent_id for stage in recording.spans] == [None, root.span_id, plan.span_id]
    assert {stage.status for stage in recording.spans} == {SpanStatus.OK}
    assert all(stage.seconds is not None for stage in recording.spans)


def test_an_exception_fails_every_stage_it_passes():
    """The type of the error is its low-cardinality word."""
    with pytest.raises(ValueError, match="no plan"), record("request", UUID) as (recording, _), span("plan"):
        raise ValueError("no plan")
    failures = [(s.name, s.status, s.attributes["error.type"], s.message) for s in recording.spans]
    assert failures == [(name, SpanStatus.ERROR, "ValueError", "no plan") for name in ("request", "plan")]


def test_what_comes_from_outside_interrupts_a_stage():
    """A task that is cancelled and Ctrl-C have the same word."""
    for outside in (asyncio.CancelledError, KeyboardInterrupt):
        with pytest.raises(outside), record("request", UUID) as (_, root):
            raise outside
        assert (root.status, root.attributes["error.type"]) == (SpanStatus.ERROR, "interrupted")


def test_only_the_part_that_lasted_until_the_end_has_failed():
    """The wait of an answer that turned out bad was well."""
    with record("request", UUID) as (recording, _):
        leaf = Leaf("chat", SpanKind.CLIENT, {})
        leaf.span.fail("loop")
        leaf.end()
        whole_s = leaf.span.seconds or 0.0
        leaf.part("wait", 0.0, whole_s / 2)
        leaf.part("generate", whole_s / 2, whole_s)
    statuses = {stage.name: stage.status for stage in recording.spans}
    assert (statuses["wait"], statuses["generate"]) == (SpanStatus.OK, SpanStatus.ERROR)


def test_a_stage_that_was_well_stays_well_when_its_reader_leaves():
    """Who has the answer may close the generator."""

    def answering():
        with record("request", UUID) as (recording, root):
            root.status = SpanStatus.OK
            yield recording

    generator = answering()
    recording = next(generator)
    generator.close()
    assert recording.spans[0].status is SpanStatus.OK


async def test_tasks_of_one_stage_do_not_become_each_others_children():
    """Each task has its own current span, and all have the stage as their parent."""

    async def expert(name):
        with span(name):
            await asyncio.sleep(0)

    with record("request", UUID) as (recording, root):
        await asyncio.gather(expert("a"), expert("b"))
    assert {s.parent_id for s in recording.spans[1:]} == {root.span_id}


def test_a_leaf_has_parts_and_is_never_current():
    """What goes on inside a call is added when it is known; an empty part is left out."""
    with record("request", UUID) as (recording, root):
        leaf = Leaf("chat m", SpanKind.CLIENT, {"a": 1, "b": None})
        assert current_span() is root
        leaf.end()
        leaf.part("load", 0.0, 0.0)
        leaf.part("wait", 0.0, 1.5)
    call, wait = recording.spans[1:]
    assert call.attributes == {"a": 1}
    assert (wait.parent_id, wait.start, wait.seconds) == (call.span_id, call.start, 1.5)


def test_without_a_recording_stages_cost_nothing_and_are_nowhere():
    """Library code need not know whether it is traced."""
    with span("plan") as stage:
        stage.set({"a": 1})
    Leaf("chat", SpanKind.CLIENT, {}).end()
    assert current_span() is None
