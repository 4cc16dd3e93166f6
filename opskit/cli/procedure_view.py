"""How procedures of recovery are asked for, narrated and shown."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from opskit.cli import render

if TYPE_CHECKING:
    from opskit.recovery.procedure import ProcedureResult


def agreed(what: Sequence[str], question: str, *, yes: bool) -> None:
    """Ask before something is taken down. Raises UsageError where nobody can be asked, Abort for a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        from opskit.errors import UsageError

        raise UsageError(
            f"{'; '.join(what)}: there is nobody to ask", remedy="give --yes as well, or look with --dry-run"
        )
    for line in what:
        render.note(line)
    answered = _at_the_terminal(lambda: typer.confirm(question, default=False, err=True))
    if not answered:
        render.note("nothing was changed")
        raise typer.Abort


def typed(what: str, word: str) -> None:
    """Make a person type a word: for what cannot be undone, a `--yes` is not enough."""
    from opskit.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError(
            f"{what}: the word {word!r} has to be typed on a terminal", remedy="leave out --prune-volumes"
        )
    given = _at_the_terminal(lambda: typer.prompt(f"{what}. Type {word} to go on", err=True))
    if given != word:
        render.note("that is not the name: nothing was changed")
        raise typer.Abort


def shown(done: "ProcedureResult", *, as_json: bool) -> None:
    """The verdicts, what is left, and in a dry run the commands."""
    if as_json:
        render.document(done.as_json())
        return
    for command in done.planned:
        render.line(f"would run `{command.shown}`")
    if done.dry:
        render.line(f"{done.target}: {_counted(len(done.planned))}; nothing was changed")
        return
    render.findings(done.findings)
    for finding in done.findings:
        for text in finding.evidence.get("log", ()):
            render.line(f"  {finding.target} | {render.printable(str(text))}")
    for note in done.notes:
        render.line(f"{done.target}: {render.printable(note)}")
    bad = [one.target for one in done.findings if one.status.value == "fail"]
    verdict = f"not well: {', '.join(bad)}" if bad else "well again"
    render.line(f"{done.target}: {verdict}; {_counted(len(done.ran))} in {done.seconds:.1f} s")


def _counted(commands: int) -> str:
    return f"{commands} command{'s' if commands != 1 else ''}"


def _at_the_terminal(ask: Callable[[], object]) -> object:
    """Ctrl-C at a prompt ends it: asyncio's own handler would only note it."""
    import signal

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return ask()
    finally:
        signal.signal(signal.SIGINT, before)
