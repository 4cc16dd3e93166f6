"""A trace as rows of a waterfall, for a terminal and for a page. Pure."""

from opskit.records import Record
from opskit.trace.span import Span, SpanStatus
from opskit.trace.store import Trace


class Row(Record):
    """One span: how deep it stands, when it began and ended as parts of the whole, and a few words on it."""

    depth: int
    span: Span
    begin: float
    end: float
    note: str

    @property
    def failed(self) -> bool:
        return self.span.status is SpanStatus.ERROR

    @property
    def seconds(self) -> str:
        return "running" if self.span.seconds is None else f"{self.span.seconds:.3f}"


def rows(trace: Trace) -> list[Row]:
    """Return the spans of a trace, a parent before its children."""
    begin = min((span.start for span in trace.spans), default=trace.start)
    whole_s = trace.seconds or 1e-9

    def share(at: float) -> float:
        return min(1.0, max(0.0, (at - begin) / whole_s))

    return [Row(depth, span, share(span.start), share(span.end), _note(span)) for depth, span in trace.tree()]


def bar(row: Row, width: int) -> str:
    """Draw the time of a row in `width` columns; what is too short to be seen is a thin line."""
    first = min(width - 1, int(row.begin * width))
    last = max(first, min(width, round(row.end * width)))
    drawn = "█" * (last - first) if last > first else "▏"
    return (" " * first + drawn).ljust(width)[:width]


def _note(span: Span) -> str:
    """Return what matters most of a span in a few words."""
    attributes = span.attributes
    words = []
    if node := attributes.get("opskit.node"):
        model = attributes.get("gen_ai.response.model")
        model = "no model" if model == "none" else model
        words.append(f"{model} on {node}" if model and span.parent_id is None else f"on {node}")
    if method := attributes.get("opskit.method"):
        words.append(f"method {method}")
    if attributes.get("opskit.fallback") is True:
        words.append("fallback")
    tokens = [attributes.get(f"gen_ai.usage.{side}_tokens") for side in ("input", "output")]
    if any(count is not None for count in tokens):
        words.append(" + ".join("?" if count is None else str(count) for count in tokens) + " tokens")
    if span.status is SpanStatus.ERROR:
        failure = str(attributes.get("error.type", "failed"))
        words.append(f"{failure}: {span.message}" if span.message else failure)
    return ", ".join(words)
