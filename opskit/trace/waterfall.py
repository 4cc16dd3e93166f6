"""A trace as rows of a waterfall, for a terminal and for a page. Pure."""

from datetime import UTC, datetime
from html import escape

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

    return [
        Row(depth, span, share(span.start), 1.0 if span.seconds is None else share(span.end), _note(span))
        for depth, span in trace.tree()
    ]


def headline(trace: Trace) -> str:
    """Return which trace it is, when it began, how long it took and how it ended."""
    began = f"{datetime.fromtimestamp(trace.start, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if trace.root is not None and trace.root.seconds is None:
        how = "no end in its log: it still runs, or its process was killed"
    else:
        how = f"{trace.seconds:.3f} s{', failed' if trace.status is SpanStatus.ERROR else ''}"
    return f"{trace.correlation_id} · {began} · {how}"


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


_STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1c1e21; --dim: #60676f; --line: #dfe3e8;
  --bar: #3b76c4; --bad: #c03a2b; }
@media (prefers-color-scheme: dark) { :root { --page: #16181b; --text: #e4e6e9; --dim: #9aa2ab;
  --line: #33383e; --bar: #6ea3e8; --bad: #ef7263; } }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.15rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
p { margin: 0 0 1rem; color: var(--dim); overflow-wrap: anywhere; }
details { border-top: 1px solid var(--line); }
summary { display: grid; grid-template-columns: minmax(9rem, 2fr) 3fr 5.5rem; gap: .75rem;
  align-items: center; padding: .4rem 0; cursor: pointer; list-style: none; }
summary::-webkit-details-marker { display: none; }
.name { overflow-wrap: anywhere; }
.note { display: block; color: var(--dim); font-size: .85em; }
.bad .name, .bad .note { color: var(--bad); }
.track { position: relative; height: .8rem; border-radius: .2rem; background: var(--line); }
.track i { position: absolute; top: 0; bottom: 0; min-width: 2px; border-radius: .2rem;
  background: var(--bar); }
.bad .track i { background: var(--bad); }
.seconds { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
table { border-collapse: collapse; margin: 0 0 .75rem; font-size: .85em; width: 100%; }
td { padding: .1rem .75rem .1rem 0; vertical-align: top; overflow-wrap: anywhere; }
td:first-child { color: var(--dim); width: 16rem; }
@media (max-width: 40rem) { summary { grid-template-columns: 1fr 5.5rem; }
  .track { grid-column: 1 / -1; grid-row: 2; } td:first-child { width: 9rem; } }
"""


def page(trace: Trace) -> str:
    """Return the page; every text of the trace is escaped."""
    facts = f"{headline(trace)} · {len(trace.spans)} spans"
    title = escape(trace.goal or trace.correlation_id)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · opskit trace</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{title}</h1>\n<p>{escape(facts)}</p>\n"
        + "\n".join(_row(row) for row in rows(trace))
        + "\n</body>\n</html>\n"
    )


def _row(row: Row) -> str:
    span = row.span
    note = f'<span class="note">{escape(row.note)}</span>' if row.note else ""
    details = {"span": span.span_id, "kind": span.kind.value, "status": span.status.value, **span.attributes}
    cells = "".join(
        f"<tr><td>{escape(key)}</td><td>{escape(str(value))}</td></tr>" for key, value in details.items()
    )
    mark = ' class="bad"' if row.failed else ""
    left, width = row.begin * 100, (row.end - row.begin) * 100
    return (
        f"<details{mark}><summary>"
        f'<span class="name" style="padding-left:{row.depth * 0.9:.1f}rem">{escape(span.name)}{note}</span>'
        f'<span class="track"><i style="left:{left:.2f}%;width:{width:.2f}%"></i></span>'
        f'<span class="seconds">{escape(row.seconds)} s</span></summary><table>{cells}</table></details>'
    )
