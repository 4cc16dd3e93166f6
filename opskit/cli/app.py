"""The application: its commands and groups."""

import importlib
import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from opskit import __version__

#: The commands with the first lines of their docstrings. Each is a function of that name in its own module;
#: only the one that is called is imported: the others would cost every call a fifth of its start.
COMMANDS = {
    "probe": "Check every node and agent, from its port to its first token.",
    "doctor": "Name the causes of what is wrong, and what to type.",
    "recover": "Repair what is broken, once.",
    "run": "Run a goal: through Victoria, or on the models here.",
    "chat": "Talk with Victoria, or with the models of this machine.",
    "models": "List, test and compare models; explain which one answers.",
    "logs": "Follow, search and count tagged logs: `logs [SOURCE...]`.",
    "watch": "Show the stack live: nodes, models, requests, errors.",
    "trace": "Show where the time of a request went.",
    "explain": "Explain a code, a state or a pasted error.",
    "diagnose": "Show machine, containers, network and models in tables.",
    "verify": "Run checklists.",
    "status": "Show how recovery stands: last run, repairs, pauses.",
    "pause": "Let recovery leave a target alone, or everything.",
    "resume": "End a pause, or all of them.",
    "schedule": "Run `recover` every few minutes, or Victoria as a server.",
    "backup": "Back up and restore .env and Compose files, results, logs.",
    "serve": "Run an agent as a server.",
    "approvals": "List the commands of the agent that wait for a person.",
    "approve": "Allow one waiting command, once, and show its run.",
    "policy": "Tell what the agent may do on this machine.",
    "quality": "Judge generated code without running it.",
    "drill": "Inject the faults of real servers and see what a caller gets.",
    "sandbox": "Run a simulated stack on loopback, with faults.",
    "config": "Show, check and start a configuration.",
}
#: Commands that stand in the module of another one.
_MODULES = {"resume": "pause", "approve": "approvals"}
#: Groups, each an `app` with commands of its own.
GROUPS = ("models", "serve", "logs", "recover", "backup", "schedule", "sandbox", "policy", "config")
#: Behind a line with a backspace alone the lines of a paragraph stay as they are.
_HELP = """Tell what is broken in a local LLM stack, why, and what to type next.

\b
Something does not work?   opskit doctor
Does everything answer?    opskit probe
Repair it:                 opskit recover --dry-run
An error to look up:       opskit explain "the error text"
No stack at hand?          opskit probe --sandbox
"""


class _InOrder(typer.core.TyperGroup):
    """The commands as COMMANDS has them; Typer lists the groups behind all others."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: self.commands[name] for name in COMMANDS if name in self.commands}


def _version(value: bool) -> None:
    if value:
        typer.echo(f"opskit {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Say what is true of the program as a whole."""


def wanted(arguments: Sequence[str]) -> str:
    """Return the word that may name the command: of this call, or of the line that a shell completes."""
    if "_OPSKIT_COMPLETE" in os.environ:
        # zsh and fish set the first, bash the second.
        line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
        arguments = line.split()[1:]
    return arguments[0] if arguments else ""


def build(called: str | None = None) -> typer.Typer:
    """Return the application. All commands but the one that is called are only listed; None calls for all."""
    app = typer.Typer(
        name="opskit",
        cls=_InOrder,
        help=_HELP,
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for name, summary in COMMANDS.items() if called != "--version" else ():
        is_used = called in (None, name)
        module = importlib.import_module(f"opskit.cli.{_MODULES.get(name, name)}") if is_used else None
        if name in GROUPS:
            group = typer.Typer() if module is None else module.app
            callback = group.registered_callback and group.registered_callback.callback
            app.add_typer(group, name=name, help=callback.__doc__ if callback else summary)
        elif module is None:
            app.command(name, help=summary)(_listed)
        else:
            app.command(name, help=getattr(module, name).__doc__)(getattr(module, name))
    return app


def _listed() -> None:
    """Stand for a command that is only listed."""
