"""The `opskit` command: its groups, and the one place where errors become exit statuses."""

import importlib
import sys
from typing import Annotated

import typer

from opskit import __version__

#: Commands (a function of the same name) and groups (an `app`), in the order of `--help`, each a module of
#: its own. Only the one that is called is imported: the others would cost every call a fifth of its start.
COMMANDS = ("probe", "run", "verify", "drill", "explain", "quality")
GROUPS = ("models", "logs", "sandbox", "config")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"opskit {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Diagnostics, healing and honest failover for a local multi-agent LLM stack."""


def build(called: str | None = None) -> typer.Typer:
    """The application: with every command, or with the one that is called."""
    app = typer.Typer(
        name="opskit",
        help=root.__doc__,
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    wanted: tuple[str, ...] = COMMANDS + GROUPS
    if called in wanted:
        wanted = (called,)
    elif called == "--version":
        wanted = ()
    for name in wanted:
        module = importlib.import_module(f"opskit.cli.{name}")
        if name in GROUPS:
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app


def main() -> None:
    """Run the command line and exit with its status; nothing but `--debug` shows a traceback."""
    sys.exit(status(sys.argv[1:]))


def status(arguments: list[str]) -> int:
    """The exit status of a command line."""
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
