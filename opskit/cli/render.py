"""The only module that prints. Results go to stdout, narration and progress to stderr.

Foreign text reaches rich as `Text` only, never as markup. rich itself is imported when a table is drawn.
"""

import contextlib
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opskit import text as words

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from opskit.errors import OpskitError
    from opskit.result import Finding

#: Foreign text on one line without control characters: a terminal obeys them.
printable = words.printable
_SHORT_CHARS, _MOST_COLUMNS = 24, 10_000
#: How deep foreign data is shown.
_DEPTH = 100
STYLES = {
    "pass": "green",
    "warn": "yellow",
    "fail": "bold red",
    "skip": "dim",
    "inconclusive": "magenta",
}


def document(content: Mapping[str, Any]) -> None:
    import json

    # JSON is UTF-8 whatever the locale: what another encoding would write differently is escaped.
    ascii_only = sys.stdout.encoding.lower() not in ("utf-8", "utf8")
    print(json.dumps(content, ensure_ascii=ascii_only, indent=2, default=str))


def line(text: str, *, style: str = "") -> None:
    """One line to stdout, as it is."""
    _print((text, style))


def _print(*pieces: tuple[str, str]) -> None:
    """Print pieces of text as one, in their styles on a terminal; no line end is put in."""
    if not (sys.stdout.isatty() and any(style for _, style in pieces)):
        print("".join(text for text, _ in pieces))
        return
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False).print(Text.assemble(*pieces), soft_wrap=True)


def lines(texts: Iterable[str]) -> None:
    """Foreign texts to stdout, each on one line."""
    for text in texts:
        print(printable(text))


def piece(text: str) -> None:
    """A piece of a stream to stdout, at once."""
    print(text, end="", flush=True)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def heading(text: str) -> None:
    """A line above a table."""
    line(f"\n{printable(text)}", style="bold")


def width() -> int:
    """Columns that lines may take: the terminal's, and a wide page in a pipe or a file."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 160


def paragraph(head: str, text: str, *, style: str = "") -> None:
    """Text behind a head, folded so that it stays there. `style` is the head's; a dim one is of both."""
    import textwrap

    room = max(20, width() - len(head))
    folded = textwrap.wrap(printable(text), room, break_long_words=False, break_on_hyphens=False) or [""]
    shown = f"\n{' ' * len(head)}".join(folded)
    _print((head, style), (shown, style if style == "dim" else ""))


def table(columns: Sequence[str], rows: "Sequence[Sequence[str | Text]]") -> None:
    """A table to stdout, folded to the terminal's width; of nothing nothing, and no column without a cell.

    One of short cells that do not fit side by side stands on its side, where that fits.
    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.text import Text

    if not rows:
        return
    used = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    cells = [
        [cell if isinstance(cell, Text) else Text(printable(cell)) for cell in (row[at] for at in used)]
        for row in (columns, *rows)
    ]
    console = Console(width=None if sys.stdout.isatty() else 160)

    unbound = console.options.update(max_width=_MOST_COLUMNS)

    def fits(drawn: "Table") -> bool:
        return Measurement.get(console, unbound, drawn).maximum <= console.width

    drawn = _drawn(cells)
    if not fits(drawn) and all(len(cell) <= _SHORT_CHARS for row in cells for cell in row):
        turned = _drawn(list(zip(*cells, strict=True)))
        drawn = turned if fits(turned) else drawn
    console.print(drawn)


def _drawn(cells: "Sequence[Sequence[Text]]") -> "Table":
    """Return a table; the first row is its head."""
    from rich.table import Table

    head, *rows = cells
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        drawn.add_column(name, overflow="fold", justify="right" if name.plain == "seconds" else "left")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def findings(content: "Sequence[Finding]", *, advice: bool = True) -> None:
    """Findings as a table, then (with `advice`) what to do about findings that are not well."""
    from rich.text import Text

    rows = [
        (
            finding.target,
            finding.check,
            Text(finding.status.value, style=STYLES[finding.status.value]),
            finding.state,
            f"{finding.seconds:.3f}",
            finding.detail,
        )
        for finding in content
    ]
    table(("target", "check", "status", "state", "seconds", "detail"), rows)
    advised = advice_of(content)
    # Commands are there to be copied: no line end is put in.
    lines(["", *advised] if advice and advised else ())


def advice_of(content: "Sequence[Finding]") -> list[str]:
    """Return what to do about each finding that is not well, or was left out though it is."""
    states = ("fail", "warn", "inconclusive")
    return [
        f"{finding.target} ({finding.state or finding.status.value}): {finding.remedy}"
        for finding in content
        if finding.remedy
        and (finding.status in states or (finding.status == "skip" and finding.state == "ok"))
    ]


def error(problem: "OpskitError", *, as_json: bool, extra: Mapping[str, Any] | None = None) -> None:
    """An expected failure: one document, or one line with its code and what to type next."""
    if as_json:
        from opskit.result import SCHEMA_VERSION

        shown = {"code": problem.code, "message": printable(problem.message), "remedy": problem.remedy}
        head = {"schema_version": SCHEMA_VERSION, "ok": False, **problem.as_json()}
        document({**head, **(extra or {}), "error": shown})
        return
    note(f"opskit: {problem.code}: {printable(problem.message)}. Next: {printable(problem.remedy)}")


@contextlib.contextmanager
def progress(total: int, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield what is called with the name of each step as it begins.

    It draws a bar on stderr when a person watches, plain lines in a log, and nothing with `quiet`.
    """
    if quiet or total == 0:
        yield lambda _: None
        return
    steps = itertools.count()
    if not sys.stderr.isatty():
        yield lambda text: note(f"[{next(steps) + 1}/{total}] {printable(text)}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task("", total=total)
        yield lambda text: drawn.update(task, description=printable(text), completed=next(steps))


def flush() -> None:
    """Hand over what was printed: the reader of a pipe waits for it."""
    sys.stdout.flush()


_SOURCE_STYLES = ("36", "33", "35", "32", "34", "96", "93", "95", "92", "94")
_LEVEL_STYLES = {"warning": "33", "error": "31", "critical": "1;31"}
_seen_sources: list[str] = []


def log_bytes(text: bytes) -> None:
    sys.stdout.buffer.write(text)


def log_line(source: str, raw: bytes, level: Callable[[], str | None]) -> None:
    """One event, behind its source where there are several; coloured and made harmless on a terminal only."""
    if not sys.stdout.isatty():
        prefix = source.encode() + b" | " if source else b""
        sys.stdout.buffer.write(prefix + raw.replace(b"\n", b"\n" + prefix) + b"\n")
        return
    style = _LEVEL_STYLES.get(level() or "", "")
    if source and source not in _seen_sources:
        _seen_sources.append(source)
    for text in raw.decode("utf-8", "replace").split("\n"):
        harmless = "".join(
            char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text
        )
        shown = f"\x1b[{style}m{harmless}\x1b[0m" if style else harmless
        if source:
            colour = _SOURCE_STYLES[_seen_sources.index(source) % len(_SOURCE_STYLES)]
            shown = f"\x1b[{colour}m{printable(source)} |\x1b[0m {shown}"
        sys.stdout.write(shown + "\n")


def log_json(content: Mapping[str, Any]) -> None:
    import json

    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, default=str)
    except (ValueError, RecursionError):
        text = json.dumps(_plain(content), ensure_ascii=False, default=str)
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")


def _plain(content: Any, depth: int = 0) -> Any:
    """Without what JSON cannot say: numbers that are none as words, what is nested too deeply as text."""
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    if not isinstance(content, Mapping | list | tuple):
        return content
    if depth == _DEPTH:
        return "..."
    if isinstance(content, Mapping):
        return {key: _plain(value, depth + 1) for key, value in content.items()}
    return [_plain(value, depth + 1) for value in content]


class Screen:
    """A whole terminal that is drawn over and over. Lines are pieces of text with their styles."""

    def __init__(self, live: Any) -> None:
        self._live = live
        self._drawn: object = None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, as they are now."""
        size = self._live.console.size
        return size.width, size.height

    def draw(self, lines: "Sequence[Sequence[tuple[str, str]]]") -> None:
        """Show these lines, each cut at the right edge; nothing is written where nothing has changed."""
        from rich.console import Group
        from rich.text import Text

        width, height = self.size
        wanted = (width, height, [[*line] for line in lines[:height]])
        if wanted == self._drawn:
            return
        self._drawn = wanted
        texts = []
        for line in lines[:height]:
            text = Text(no_wrap=True, overflow="ellipsis", end="\n")
            for piece_, style in line:
                text.append(printable(piece_), style=style)
            text.truncate(width, overflow="ellipsis")
            texts.append(text)
        self._live.update(Group(*texts), refresh=True)


@contextlib.contextmanager
def screen() -> "Iterator[Screen]":
    """The terminal's other screen, given back as it was whatever happens."""
    from rich.console import Console
    from rich.live import Live

    with Live(
        console=Console(highlight=False),
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as live:
        yield Screen(live)
