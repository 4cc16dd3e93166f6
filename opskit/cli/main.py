"""The `opskit` command, and the one place where errors become exit statuses.

A caller may have closed a stream, may send it to a full disk, or may have set a locale that cannot say what a
model answers. None of this is a bug of opskit, and none of it loses an answer.
"""

import io
import os
import signal
import sys
from collections.abc import Sequence

from opskit.cli.context import InputFile, Interrupts, leave_threads
from opskit.system.output import NarrationFile, OutputFile

TYPE_CHECKING = False  # as `typing` has it, which is 3 ms that a plain search does not need
if TYPE_CHECKING:
    from typing import Any

    from opskit.errors import UsageError

#: Typer's names of types, in words.
_TYPES = {"int range": "whole number", "int": "whole number", "float range": "number", "float": "number"}


def main() -> None:
    """Run the command line and exit with its status; nothing but `--debug` shows a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _prepare_streams()
    arguments = sys.argv[1:]
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    elif arguments == ["version"]:
        arguments = ["--version"]
    try:
        code = status(arguments)
    except KeyboardInterrupt:
        code = 130
    sys.exit(_handed_over(code))


def status(arguments: list[str]) -> int:
    debug, as_json = "--debug" in arguments, "--json" in arguments
    interrupts = Interrupts()
    try:
        with interrupts.armed():
            quick = _raw_search(arguments)
        if quick is not None:
            return quick
        import typer

        from opskit.cli.app import build, wanted

        app = build(wanted(arguments))
        with interrupts.armed():
            result = app(arguments, prog_name="opskit", standalone_mode=False)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _broken_pipe()
    except SystemExit as exc:
        # How Typer and rich end when the reader of a pipe has gone.
        if isinstance(exc.__context__, BrokenPipeError):
            return _broken_pipe()
        raise
    except Exception as exc:
        first = _first(exc)
        if interrupts.came or isinstance(first, typer.Abort):
            return 130
        if isinstance(first, BrokenPipeError):
            return _broken_pipe()
        return _failed(first, arguments, debug=debug, as_json=as_json)
    return result if isinstance(result, int) else 0


def _first(exc: Exception) -> Exception:
    """Of a group what was expected, else the first: a person reads of one failure, not of tasks."""
    if not isinstance(exc, ExceptionGroup):
        return exc
    from opskit.errors import OpskitError

    failures = [_first(error) for error in exc.exceptions]
    return next((error for error in failures if isinstance(error, OpskitError)), failures[0])


def _failed(exc: Exception, arguments: list[str], *, debug: bool, as_json: bool) -> int:
    from opskit.cli import render

    if type(exc).__name__ == "NoArgsIsHelpError":
        render.note(str(exc))
        return 2
    from opskit.errors import OpskitError, OutputError

    if hasattr(exc, "format_message"):
        exc = _usage_error(exc, arguments)
    elif debug:
        import traceback

        traceback.print_exc()
    if isinstance(exc, OpskitError):
        taken = not isinstance(exc, OutputError)
        render.error(exc, as_json=as_json and taken, extra=getattr(exc, "document", None))
        return int(exc.exit)
    bug = OpskitError("BUG_001", f"{type(exc).__name__}: {exc}")
    render.error(bug, as_json=as_json)
    return int(bug.exit)


def _usage_error(exc: "Any", arguments: Sequence[str]) -> "UsageError":
    """What a person typed that Typer does not take: in our words, with the next thing to type."""
    from opskit.errors import UsageError
    from opskit.text import near_names

    context: Any = getattr(exc, "ctx", None)
    path = context.command_path if context is not None else " ".join(["opskit", *arguments[:1]])
    shows_all = f"`{path} --help` shows what there is"
    message = exc.format_message().rstrip(".")
    kind = type(exc).__name__
    if kind == "NoSuchOption":
        return UsageError(f"`{path}` has no option {exc.option_name}", remedy=_option(exc, path, arguments))
    if kind == "UsageError" and hasattr(context.command, "commands"):
        typed = next((word for word in arguments[path.count(" ") :] if not word.startswith("-")), "")
        near = [f"`{path} {name}`" for name in near_names(typed, context.command.commands)]
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        return UsageError(f"there is no command `{path} {typed}`", remedy=f"{meant}{shows_all}")
    if kind == "UsageError":
        texts = [part for part in context.command.params if part.param_type_name == "argument"]
        quoted = 'put a text of several words in quotes: "two words"; ' if texts else ""
        extra = message.removeprefix("Got unexpected extra argument(s) ")
        return UsageError(f"too many arguments for `{path}` {extra}", remedy=f"{quoted}{shows_all}")
    for theirs, ours in _TYPES.items():
        message = message.replace(f"a valid {theirs}", f"a {ours}")
    return UsageError(message, remedy=f"`{path} --help`")


def _option(exc: "Any", path: str, arguments: Sequence[str]) -> str:
    """Return what to type instead of an option that does not exist."""
    import shlex

    from opskit.cli.app import COMMANDS

    start = next((index for index, word in enumerate(arguments) if word in COMMANDS), 0)
    if start and path == "opskit":
        moved = shlex.join(["opskit", *arguments[start:], *arguments[:start]])
        return f"options stand behind the command: `{moved}`"
    near = " or ".join(exc.possibilities or ())
    return f"{f'did you mean {near}? ' if near else ''}`{path} --help` shows what there is"


def _handed_over(code: int) -> int:
    """Hand over what was printed; the exit status, which is another one where that cannot be done."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _broken_pipe()
    except Exception as exc:
        from opskit.cli import render
        from opskit.errors import OutputError

        if not isinstance(exc, OutputError):
            raise
        _silence()
        if code != int(exc.exit):
            render.error(exc, as_json=False)
        code = int(exc.exit)
    if code == 130:
        leave_threads(code)
    return code


def _broken_pipe() -> int:
    """The reader went away (`opskit ... | head`): say nothing more, as other tools do."""
    _silence()
    return 141


def _prepare_streams() -> None:
    """Replace the standard streams of this process, and a process whose encoding is ASCII by another one."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one. Left closed it would be that of the next file.
            os.open(os.devnull, os.O_RDWR)
    if sys.getfilesystemencoding() in ("ascii", "us-ascii") and not sys.flags.utf8_mode and sys.executable:
        # Arguments, paths and what other programs print are ASCII here too: begin again with UTF-8 for all.
        command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execv(sys.executable, command)  # noqa: S606 - this very program
    stdin = io.BufferedReader(InputFile())
    encoding, errors = getattr(sys.stdin, "encoding", "utf-8"), getattr(sys.stdin, "errors", "strict")
    sys.stdin = io.TextIOWrapper(stdin, encoding, errors)
    sys.stdout = _text(OutputFile(1), sys.stdout)
    sys.stderr = _text(NarrationFile(2), sys.stderr)


def _silence() -> None:
    """Drop what is still to be printed: nobody takes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _text(raw: io.FileIO, before: object) -> io.TextIOWrapper:
    """A stream as Python makes it, for characters that its encoding lacks too."""
    encoding = getattr(before, "encoding", "utf-8")
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding,
        "backslashreplace",
        line_buffering=raw.isatty() or raw.fileno() == 2,
        write_through=bool(getattr(before, "write_through", False)),
    )


def _raw_search(arguments: Sequence[str]) -> int | None:
    """The exit status of a search that was done here; None when it is none for this way.

    `opskit logs FILE... --raw [--tag TAGS]` begins before the command-line library is imported. Only the
    plainest form is taken, on ordinary files, with ripgrep installed; everything else, every mistake
    included, is left to the command itself, which gives the same bytes and the same exit status.
    """
    if len(arguments) < 3 or arguments[0] != "logs" or "--raw" not in arguments:
        return None
    request = _parsed(arguments[1:])
    import shutil

    program = shutil.which("rg") if request is not None else None
    if request is None or program is None:
        return None
    files, tags = request
    from opskit.logs.tag_search import STANDARD_TAGS, is_tag, ripgrep

    names = tags or STANDARD_TAGS
    if not all(map(is_tag, names)):
        return None
    sys.stdout.flush()
    matched = [ripgrep(program, path, names, sys.stdout.fileno()) for path in files]
    # Nothing was found, or something went wrong: the command says what was searched.
    return 0 if any(matched) and None not in matched else None


def _parsed(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]] | None:
    """Files and tags, when there is nothing else."""
    files: list[str] = []
    tags: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--raw":
            continue
        if word == "--tag":
            tags += [name.strip() for name in next(words, "").split(",") if name.strip()]
        elif word.startswith("-") or not _ordinary(word):
            return None
        else:
            files.append(word)
    return (files, tuple(tags)) if files else None


def _ordinary(path: str) -> bool:
    """A file that ripgrep reads as we would: there, regular, not packed."""
    try:
        if not os.path.isfile(path):  # noqa: PTH113 - pathlib would cost more than the look
            return False
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return file.read(2) != b"\x1f\x8b"
    except OSError:
        return False
