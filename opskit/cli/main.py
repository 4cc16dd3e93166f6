"""The `opskit` command, and the one place where errors become exit statuses."""

import sys


def main() -> None:
    """Run the command line and exit with its status; nothing but `--debug` shows a traceback."""
    sys.exit(status(sys.argv[1:]))


def status(arguments: list[str]) -> int:
    """The exit status of a command line."""
    from opskit.cli import raw_search

    quick = raw_search.status(arguments)
    if quick is not None:
        return quick
    import typer

    from opskit.cli.app import build

    debug, as_json = "--debug" in arguments, "--json" in arguments
    try:
        app = build(arguments[0] if arguments else None)
        result = app(arguments, prog_name="opskit", standalone_mode=False)
    except typer.Abort:
        return 130
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
        return _failed(exc, debug=debug, as_json=as_json)
    return result if isinstance(result, int) else 0


def _failed(exc: Exception, *, debug: bool, as_json: bool) -> int:
    from opskit.cli import render
    from opskit.errors import OpskitError, UsageError

    if debug and not hasattr(exc, "format_message"):
        import traceback

        traceback.print_exc()
    if isinstance(exc, OpskitError):
        render.error(exc, as_json=as_json, extra=getattr(exc, "document", None))
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


def _broken_pipe() -> int:
    """The reader went away (`opskit ... | head`): say nothing more, as other tools do."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
