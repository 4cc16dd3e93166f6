"""What a person typed that Typer does not take: in our words, with the next thing to type."""

import shlex
from collections.abc import Sequence
from typing import Any

from opskit.cli.app import COMMANDS
from opskit.errors import UsageError
from opskit.text import near_names

#: Typer's names of types, in words.
_TYPES = {"int range": "whole number", "int": "whole number", "float range": "number", "float": "number"}


def usage_error(exc: Any, arguments: Sequence[str]) -> UsageError:
    """Return a usage error of Typer as one of opskit."""
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


def _option(exc: Any, path: str, arguments: Sequence[str]) -> str:
    """Return what to type instead of an option that does not exist."""
    start = next((index for index, word in enumerate(arguments) if word in COMMANDS), 0)
    if start and path == "opskit":
        moved = shlex.join(["opskit", *arguments[start:], *arguments[:start]])
        return f"options stand behind the command: `{moved}`"
    near = " or ".join(exc.possibilities or ())
    return f"{f'did you mean {near}? ' if near else ''}`{path} --help` shows what there is"
