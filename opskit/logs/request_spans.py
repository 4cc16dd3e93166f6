"""Spans out of the log of a request: what servers that send none wrote down, by correlation id. Pure."""

from opskit.logs.calls import ModelCall
from opskit.logs.request import Story
from opskit.records import replace
from opskit.trace.span import Span, SpanKind, SpanStatus
from opskit.trace.store import Trace


def completed(trace: Trace, story: Story) -> Trace:
    """Return the trace with the calls that an agent elsewhere logged while this process waited for it.

    A span of an agent that has children has reported its own work.
    """
    added = [
        _call(call, agent)
        for agent in _silent_agents(trace)
        for call in story.attempts
        if call.node != agent.attributes.get("gen_ai.agent.name")
        and call.began is not None
        and agent.start <= call.began <= agent.end
    ]
    return replace(trace, spans=tuple(sorted((*trace.spans, *added), key=lambda span: span.start)))


def lacks_spans(trace: Trace) -> bool:
    """Tell whether an agent was asked that reported nothing of what it did."""
    return bool(_silent_agents(trace))


def _silent_agents(trace: Trace) -> list[Span]:
    parents = {span.parent_id for span in trace.spans}
    return [
        span
        for span in trace.spans
        if span.name.startswith("invoke_agent ")
        and span.kind is SpanKind.CLIENT
        and span.span_id not in parents
    ]


def trace_of(story: Story) -> Trace:
    start = story.started or 0.0
    trace_id = story.correlation_id.replace("-", "")
    statuses = {"answered": SpanStatus.OK, "running": SpanStatus.UNSET}
    root = Span(
        trace_id=trace_id,
        span_id=f"{0:016x}",
        parent_id=None,
        name="request",
        start=start,
        seconds=story.total_s,
        attributes={"opskit.source": "log"},
    )
    root.status = SpanStatus.OK if story.answered else statuses.get(story.state, SpanStatus.ERROR)
    if story.code is not None:
        root.attributes["error.type"] = story.code
    calls = [_call(call, root) for call in story.attempts if call.began is not None]
    return Trace(trace_id, story.correlation_id, story.goal or "", start, (root, *calls))


def _call(call: ModelCall, parent: Span) -> Span:
    span = Span(
        trace_id=parent.trace_id,
        span_id=f"{call.number + 1:016x}",
        parent_id=parent.span_id,
        name=f"chat {call.model or '?'}",
        kind=SpanKind.CLIENT,
        start=call.began or parent.start,
        seconds=call.seconds,
    )
    span.set(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": call.model,
            "gen_ai.response.time_to_first_chunk": call.first_token_s,
            "gen_ai.usage.output_tokens": call.tokens,
            "opskit.node": call.node,
            "opskit.fallback": call.fallback or None,
            "opskit.source": "log",
        }
    )
    if call.failed:
        span.fail(call.fault or call.outcome)
    elif call.outcome == "ok":
        span.status = SpanStatus.OK
    return span
