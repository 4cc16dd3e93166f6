"""`opskit explain`: what a code, a status, a fault, a state or a pasted error text means, and what to do."""

import sys
from typing import Annotated

import typer

from opskit.cli import render
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError
from opskit.explain.catalogue import ENTRIES
from opskit.explain.search import Explained, explained, listing

#: More than this is a log: `opskit logs` picks the lines worth explaining.
LIMIT_BYTES = 256 * 1024
#: So many explanations are shown in full; the document has all of them.
_SHOWN = 5


@shares()
def explain(
    shared: SharedOptions,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CODE|TEXT|-]",
            help="503, MODEL_003, wedged, an error line, a traceback; `-` or a pipe reads standard input.",
        ),
    ] = None,
    everything: Annotated[bool, "--list", "Show every key that can be explained."] = False,
) -> None:
    """Explain a code, a state or a pasted error.

    Shows title, cause, remedy, HTTP and exit status, best match first. Exit status 1 when nothing matches.
    """
    if everything:
        rows = [(e.kind.value, e.key, e.title, str(e.http_status or ""), str(int(e.exit))) for e in ENTRIES]
        shared.show(listing(), lambda: render.table(("kind", "key", "title", "http", "exit"), rows))
        return
    result = explained(_text(text or []))
    shared.end(result.report.exit, result.as_json(), lambda: _show(result))


def _show(result: Explained) -> None:
    if not result.matches:
        finding = result.report.findings[0]
        render.line(f"{finding.detail}. Next: {finding.remedy}")
        return
    for number, match in enumerate(result.matches[:_SHOWN]):
        if number:
            render.line("")
        entry = match.entry
        facts = [f"HTTP {entry.http_status}"] if entry.http_status is not None else []
        facts.append(f"exit status {int(entry.exit)}")
        if entry.code is not None and entry.code != entry.key:
            facts.append(f"reported as {entry.code}")
        if entry.see:
            facts.append(f"see also {', '.join(entry.see)}")
        head = f"{entry.key}  {entry.title}  ({entry.kind.value}; {match.why})"
        cause, remedy = f"  cause:  {entry.cause}", f"  remedy: {entry.remedy}"
        render.lines((head, cause, remedy, f"  {'; '.join(facts)}"))
    others = ", ".join(match.entry.key for match in result.matches[_SHOWN:])
    render.lines(["", f"also: {others}"] if others else ())


def _text(given: list[str]) -> str:
    """Return the text of the arguments or of standard input. Raises UsageError where there is none."""
    raw = b""
    if given and given != ["-"]:
        raw = " ".join(given).encode("utf-8", "surrogateescape")
    elif given or not sys.stdin.isatty():
        raw = sys.stdin.buffer.read(LIMIT_BYTES + 1)
    if len(raw) > LIMIT_BYTES:
        raise UsageError(
            f"the text is larger than {LIMIT_BYTES} bytes",
            remedy="paste the lines around the error: `opskit logs --tag 'LLM_*' FILE | tail -n 50`",
        )
    text = raw.decode("utf-8", "replace")
    if "\0" in text:
        raise UsageError("the text is binary", remedy="paste the error as text")
    if not text.strip():
        raise UsageError("there is nothing to explain", remedy="`opskit explain 503`, or pipe an error in")
    return text
