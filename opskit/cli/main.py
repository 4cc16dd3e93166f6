"""The `opskit` command, and the one place where errors become exit statuses."""

import signal
import sys


def main() -> None:
    """Run the command line and exit with its status; nothing but `--debug` shows a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from opskit.cli import streams

    streams.prepare()
    arguments = sys.argv[1:]
    try:
        code = status(arguments)
    except KeyboardInterrupt:
        code = 130
    sys.exit(_handed_over(code))


def status(arguments: list[str]) -> int:
    from opskit.cli import raw_search
    from opskit.cli.interrupt import Interrupts

    debug, as_json = "--debug" in arguments, "--json" in arguments
    interrupts = Interrupts()
    try:
        with interrupts.armed():
            quick = raw_search.status(arguments)
        if quick is not None:
            return quick
        import typer

        from opskit.cli.app import build

        app = build(arguments[0] if arguments else None)
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
        return _failed(first, debug=debug, as_json=as_json)
    return result if isinstance(result, int) else 0


def _first(exc: Exception) -> Exception:
    """Of a group what was expected, else the first: a person reads of one failure, not of tasks."""
    from opskit.errors import OpskitError

    if not isinstance(exc, ExceptionGroup):
        return exc
    failures = [_first(error) for error in exc.exceptions]
    return next((error for error in failures if isinstance(error, OpskitError)), failures[0])


def _failed(exc: Exception, *, debug: bool, as_json: bool) -> int:
    from opskit.cli import render
    from opskit.errors import OpskitError, OutputError, UsageError

    if debug and not hasattr(exc, "format_message"):
        import traceback

        traceback.print_exc()
    if isinstance(exc, OpskitError):
        taken = not isinstance(exc, OutputError)
        render.error(exc, as_json=as_json and taken, extra=getattr(exc, "document", None))
        return int(exc.exit)
    if hasattr(exc, "format_message"):
        if type(exc).__name__ == "NoArgsIsHelpError":
            render.note(exc.format_message())
            return 2
        # Typer's own usage errors: an unknown option, a missing argument.
        context = getattr(exc, "ctx", None)
        path = context.command_path if context is not None else "opskit"
        message = exc.format_message().rstrip(".")
        render.error(UsageError(message, remedy=f"`{path} --help`"), as_json=as_json)
        return 2
    bug = OpskitError("BUG_001", f"{type(exc).__name__}: {exc}")
    render.error(bug, as_json=as_json)
    return int(bug.exit)


def _handed_over(code: int) -> int:
    """Hand over what was printed; the exit status, which is another one where that cannot be done."""
    from opskit.cli import interrupt, streams

    try:
        streams.finish()
    except BrokenPipeError:
        code = _broken_pipe()
    except Exception as exc:
        from opskit.cli import render
        from opskit.errors import OutputError

        if not isinstance(exc, OutputError):
            raise
        streams.silence()
        if code != int(exc.exit):
            render.error(exc, as_json=False)
        code = int(exc.exit)
    if code == 130:
        interrupt.leave_threads(code)
    return code


def _broken_pipe() -> int:
    """The reader went away (`opskit ... | head`): say nothing more, as other tools do."""
    from opskit.cli import streams

    streams.silence()
    return 141
