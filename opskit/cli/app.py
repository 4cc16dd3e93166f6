"""The application: its commands and groups."""

import importlib
from typing import Annotated

import typer

from opskit import __version__

#: Commands (a function of the same name) and groups (an `app`), in the order of `--help`, each a module of
#: its own. Only the one that is called is imported: the others would cost every call a fifth of its start.
COMMANDS = (
    "probe",
    "run",
    "chat",
    "approvals",
    "approve",
    "trace",
    "verify",
    "doctor",
    "drill",
    "explain",
    "quality",
    "diagnose",
    "watch",
    "status",
    "pause",
    "resume",
)
#: Commands that stand in the module of another one.
_MODULES = {"resume": "pause", "approve": "approvals"}
GROUPS = ("models", "serve", "logs", "recover", "backup", "schedule", "sandbox", "policy", "config")


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
        module = importlib.import_module(f"opskit.cli.{_MODULES.get(name, name)}")
        if name in GROUPS:
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app
