"""The application: its commands and groups."""

import importlib
from copy import copy
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
    """The application: with every command, or with the one that is called.

    For `--help` the commands have no options: to list them would take a third of its time.
    """
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
    lists = called in ("--help", "-h")
    for name in wanted:
        module = importlib.import_module(f"opskit.cli.{_MODULES.get(name, name)}")
        if name in GROUPS:
            group = copy(module.app)
            if lists:
                group.registered_commands, group.registered_groups = [], []
            app.add_typer(group, name=name)
        else:
            command = getattr(module, name)
            app.command(name, help=command.__doc__)(_never if lists else command)
    return app


def _never() -> None:
    """Stand for a command that is only listed."""
