"""Asks a person at the terminal before something is taken down or replaced."""

import signal
import sys
from collections.abc import Callable, Sequence

import typer

from opskit.cli import render
from opskit.errors import UsageError


def confirm(what: Sequence[str], *, yes: bool, question: str = "Go on?") -> None:
    """Ask, unless `yes`. Raises UsageError where nobody can be asked, Abort for a no.

    `what` says line by line what a person agrees to.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"{'; '.join(what)}: there is nobody to ask", remedy="give --yes as well, or look with --dry-run"
        )
    for line in what:
        render.note(line)
    if not at_terminal(lambda: typer.confirm(question, default=False, err=True)):
        render.note("nothing was changed")
        raise typer.Abort


def type_word(what: str, word: str, *, leave_out: str) -> None:
    """Make a person type a word: for what cannot be undone, a `--yes` is not enough.

    Raises UsageError where nobody can be asked, with the option to leave out; Abort for another word.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            f"{what}: the word {word!r} has to be typed on a terminal", remedy=f"leave out {leave_out}"
        )
    if at_terminal(lambda: typer.prompt(f"{what}. Type {word} to go on", err=True)) != word:
        render.note("that is not the name: nothing was changed")
        raise typer.Abort


def at_terminal(ask: Callable[[], object]) -> object:
    """Return the answer of a prompt that Ctrl-C ends: the handler of a running loop would only note it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return ask()
    finally:
        signal.signal(signal.SIGINT, before)
