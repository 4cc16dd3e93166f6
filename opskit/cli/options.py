"""Options that commands share: one place, one wording, one object that a command gets."""

import contextlib
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_args

import typer

from opskit.cli import render
from opskit.cli.context import on_stage, run
from opskit.errors import Exit
from opskit.records import Record

if TYPE_CHECKING:
    from opskit.app import App
    from opskit.config.schema import Config

T = TypeVar("T")

#: In the order of `--help`; `debug` is read by `main`, and by no command.
_OPTIONS: dict[str, Any] = {
    "sandbox": Annotated[
        bool, typer.Option(help="Use simulated servers on loopback instead of the configured ones.")
    ],
    "config": Annotated[str | None, typer.Option(metavar="FILE", help="Configuration file to use.")],
    "json": Annotated[bool, typer.Option(help="Print one JSON document instead of text.")],
    "verbose": Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the tagged log lines and more detail on stderr.")
    ],
    "debug": Annotated[bool, typer.Option(help="Show the traceback of an error.")],
}
#: What the value of an option is called by its type; a flag has none.
_VALUES = {str: "TEXT", int: "N", float: "N", Path: "FILE"}
DryOption = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Show the commands that would be run; change nothing.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
LocalOption = Annotated[bool, typer.Option("--local", help="Answer in this process, without Victoria.")]


class SharedOptions(Record):
    """The options that commands share, as they were given, and the parts of a command over them."""

    config: str | None = None
    json: bool = False
    sandbox: bool = False
    verbose: bool = False

    def load(self) -> "Config":
        """Load the configuration of this command; its notes go to stderr."""
        from opskit.config.load import load

        loaded = load(self.config, environ=os.environ, cwd=Path.cwd())
        for text in loaded.notes:
            render.note(f"note: {text}")
        return loaded.config

    def show(self, content: Mapping[str, Any], page: Callable[[], None]) -> None:
        """Print one document with `--json`, else a page for people."""
        if self.json:
            render.document(content)
        else:
            page()

    def end(self, status: Exit, content: Mapping[str, Any], page: Callable[[], None]) -> NoReturn:
        """Show the result, and end the command with its exit status."""
        self.show(content, page)
        raise typer.Exit(int(status))

    @contextlib.asynccontextmanager
    async def configured(self) -> AsyncIterator["Config"]:
        """Load it; with `sandbox` its nodes and agents are simulated ones, up while this is open."""
        config = self.load()
        if not self.sandbox:
            yield config
            return
        from opskit.sandbox.stage import Stage

        async with Stage() as stage:
            yield on_stage(config, stage.environment())

    def application(
        self, config: "Config", *, sink: Callable[[str], None] | None = None, **parts: Any
    ) -> "App":
        """Return the parts of a command over a configuration that is loaded; to be entered.

        `sink` gets tagged lines, else stderr with `verbose` and in debug mode; `parts` are passed on to App.
        """
        from opskit.app import App

        shown = render.note if self.verbose or config.debug else None
        sinks = [wanted for wanted in (sink or shown,) if wanted is not None]
        return App(
            config,
            sinks=sinks,
            # Programs that are started find their plug-ins below it; cron and systemd may give none.
            environ={"HOME": str(Path.home()), **os.environ},
            cwd=Path.cwd(),
            config_path=self.config,
            on_note=render.note,
            **parts,
        )

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["App"]:
        """Open the configured stack, or a simulated one that lives as long as the command."""
        async with self.configured() as config, self.application(config) as app:
            yield app

    def run(self, work: "Callable[[App], Awaitable[T]]") -> T:
        """Return what `work` comes to over the opened stack."""

        async def command() -> T:
            async with self.opened() as app:
                return await work(app)

        return run(command())


def _complete(parameter: inspect.Parameter) -> None:
    """Complete an option: a flag has no `--no-` form, and `--help` names the kind of every value."""
    shape, *options = get_args(parameter.annotation) or (parameter.annotation,)
    for option in options:
        if isinstance(option, typer.models.OptionInfo):
            kinds = {shape, *get_args(shape), *(kind for part in get_args(shape) for kind in get_args(part))}
            if shape is bool and option.default is ...:
                option.param_decls = (f"--{parameter.name.replace('_', '-')}",)
            if option.metavar is None:
                option.metavar = next((word for kind, word in _VALUES.items() if kind in kinds), None)


def shares(*more: str, json: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `--config`, `--json`, `--debug` and `more` of the shared options.

    They stand behind its own options in `--help`, and reach it as its first parameter, `shared`.
    """
    names = [name for name in _OPTIONS if name in ("config", "debug", *more) or (json and name == "json")]

    def sharing(command: Callable[..., None]) -> Callable[..., None]:
        def call(*, debug: bool = False, **given: Any) -> None:
            del debug  # read by main
            values = {name: given.pop(name) for name in names if name in given}
            command(SharedOptions(**values), **given)

        _, *parameters = inspect.signature(command).parameters.values()
        for name in names:
            kind, default = inspect.Parameter.KEYWORD_ONLY, None if name == "config" else False
            parameters.append(inspect.Parameter(name, kind, default=default, annotation=_OPTIONS[name]))
        for parameter in parameters:
            _complete(parameter)
        call.__name__, call.__doc__, call.__annotations__ = command.__name__, command.__doc__, {}
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return call

    return sharing
