"""What people hand over: goals and names, refused with a reason when they cannot be used."""

import contextlib
import fcntl
import os
import re
import select
import signal
import stat
import sys
import termios
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

import typer

from opskit.cli import render
from opskit.errors import UsageError
from opskit.text import duration_s

T = TypeVar("T", bound=str | None)

#: How long a pipe may be silent before a person is notified.
PATIENCE_S = 1.0
#: Ids of runs and conversations; the server of Victoria makes the ids of runs.
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
#: The id of a run of opskit, with the number of its approval.
_APPROVAL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.\d{1,6})?")
_ANY_ID = "use up to 128 letters, digits, dots, dashes, colons, underscores"
#: What shows the ids that exist.
_SHOWN_BY = {
    "approval": "`opskit approvals` lists them",
    "--follow": '`opskit run --async "your goal"` prints the id to follow',
}


def check_output(path: Path) -> None:
    """Make sure, before the work, that a file can be written. Raises UsageError."""
    from opskit.system.textfile import check_writable

    with _as_usage_error(path):
        check_writable(path)


def write_output(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a file that a person asked for. Raises UsageError."""
    from opskit.system.textfile import write_text

    with _as_usage_error(path):
        write_text(path, text, mode=mode)


@contextlib.contextmanager
def _as_usage_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or "not a usable path"
        text = f"{path} cannot be written: {why}"
        raise UsageError(text, remedy="name a file in a folder that can be written") from exc


def goal_text(given: str | None, stdin: TextIO, limit_bytes: int, on_wait: Callable[[], None]) -> str:
    """The goal from the argument, from standard input, or from both: then what was piped stands below.

    `on_wait` is called when a pipe is slow to say something. Raises UsageError for an empty, an over-long and
    a binary goal.
    """
    if given is None or given == "-":
        if given is None and stdin.isatty():
            raise UsageError("there is no goal", remedy='`opskit run "your goal"`, or pipe it in')
        return _checked(stdin.buffer.read(limit_bytes + 1), limit_bytes)
    raw = given.encode("utf-8", "surrogateescape")
    if is_piped(stdin) and raw.strip():
        if not _readable(stdin, PATIENCE_S):
            on_wait()
        piped = stdin.buffer.read(limit_bytes + 1)
        raw += b"\n\n" + piped if piped.strip() else b""
    return _checked(raw, limit_bytes)


def is_piped(stdin: TextIO) -> bool:
    """Whether standard input is a pipe or a file; a device, such as a terminal or /dev/null, is neither."""
    mode = os.fstat(stdin.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def has_input(stdin: TextIO, *, on_silence: Callable[[], None]) -> bool:
    """Whether something was piped in; `on_silence` is called for a pipe that is open and says nothing."""
    if not is_piped(stdin):
        return False
    status = os.fstat(stdin.fileno())
    if stat.S_ISREG(status.st_mode):
        return os.lseek(stdin.fileno(), 0, os.SEEK_CUR) < status.st_size
    if not _readable(stdin, PATIENCE_S):
        on_silence()
        return False
    waiting = fcntl.ioctl(stdin.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(waiting, sys.byteorder) > 0


def _readable(stdin: TextIO, wait_s: float) -> bool:
    return bool(select.select([stdin.fileno()], [], [], wait_s)[0])


def checked_goal(given: str, limit_bytes: int) -> str:
    """A goal given as an option. Raises UsageError like `goal_text`."""
    return _checked(given.encode("utf-8", "surrogateescape"), limit_bytes)


def _checked(raw: bytes, limit_bytes: int) -> str:
    if len(raw) > limit_bytes:
        raise UsageError(
            f"the goal is larger than {limit_bytes} bytes",
            remedy="shorten it, or raise `limits.goal_bytes` in the configuration",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError(
            f"the goal is not UTF-8 text (byte {exc.start})", remedy="pass text; binary data is no goal"
        ) from exc
    if any(char < " " and char not in "\t\n\r\f" for char in text):
        raise UsageError("the goal holds control characters", remedy="pass text; binary data is no goal")
    if not text.strip():
        raise UsageError("the goal is empty", remedy='`opskit run "your goal"`')
    return text


def name_of_model(given: str | None) -> str | None:
    """A model name as given; it may be a path. Raises UsageError for what no server would list."""
    if given is None:
        return None
    if not given.strip() or not given.isprintable() or len(given) > 512:
        raise UsageError(
            "that is no model name", remedy="`opskit models list` shows the names that can be used"
        )
    return given


def choice(given: T, known: Collection[str], what: str) -> T:
    """The word as given; None is no word. Raises UsageError for one that is not known."""
    if given is not None and given not in known:
        words = ", ".join(dict.fromkeys(known)) or "none is configured"
        raise UsageError(f"there is no {what} {given!r}", remedy=f"use one of: {words}")
    return given


def checked_id(given: str, option: str) -> str:
    """The id of a run, a conversation or an approval. Raises UsageError for what cannot be one."""
    if not (_APPROVAL_ID if option == "approval" else _ID).fullmatch(given):
        raise UsageError(f"{option} {given!r} is no id", remedy=_SHOWN_BY.get(option, _ANY_ID))
    return given


def duration(given: str, option: str, *, zero: bool = False) -> float:
    """Seconds of a text such as 90s or 5m. Raises UsageError, for nothing at all too unless `zero`."""
    seconds = duration_s(given)
    if seconds is None or (seconds == 0 and not zero):
        raise UsageError(f"{option} {given!r} is no duration", remedy="write 500ms, 90s, 5m or 1h")
    return seconds


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
