"""Options that every command shares: one place, one wording."""

from typing import Annotated

import typer

ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="Configuration file to use.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the tagged log lines and more detail on stderr.")
]
#: Read by `main`, and by no command.
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
SandboxOption = Annotated[
    bool, typer.Option("--sandbox", help="Use simulated servers on loopback instead of the configured ones.")
]
