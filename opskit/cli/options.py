"""Options that commands share: one place, one wording, one object that a command gets."""

import contextlib
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_args

import typer

from opskit.cli import render
from opskit.cli.context import run
from opskit.errors import Exit
from opskit.records import Record

if TYPE_CHECKING:
    from opskit.app import App
    from opskit.config.load import LoadedConfig
    from opskit.config.schema import Config

T = TypeVar("T")

#: In the order of `--help`; `debug` is read by `main`, and by no command.
_OPTIONS: dict[str, Any] = {
    "sandbox": Annotated[bool, "Use simulated servers on loopback instead of the configured ones."],
    "config": Annotated[str | None, "FILE", "Configuration file to use."],
    "json": Annotated[bool, "Print one JSON document instead of text."],
    "verbose": Annotated[bool, "--verbose", "-v", "Show the tagged log lines and more detail on stderr."],
    "debug": Annotated[bool, "Show the traceback of an error."],
}
#: What the value of an option is called by its type; a flag has none.
_VALUES = {str: "TEXT", int: "N", float: "N", Path: "FILE"}
DryOption = Annotated[bool, "--dry-run", "-n", "Show the commands that would be run; change nothing."]
YesOption = Annotated[bool, "--yes", "-y", "Do not ask."]
ModelOption = Annotated[str | None, "The model to ask first (in this process)."]
LocalOption = Annotated[bool, "--local", "Answer in this process, without Victoria."]


class SharedOptions(Record):
    """The options that commands share, as they were given, and the parts of a command over them."""

    config: str | None = None
    json: bool = False
    sandbox: bool = False
    verbose: bool = False

    def loaded(self) -> "LoadedConfig":
        """Load the configuration of this command, with its origins; its notes go to stderr."""
        from opskit.config.load import load

        loaded = load(self.config, environ=os.environ, cwd=Path.cwd())
        for text in loaded.notes:
            render.note(f"note: {text}")
        return loaded

    def load(self) -> "Config":
        """Load the configuration of this command; its notes go to stderr."""
        return self.loaded().config

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
        async with simulated(config) as staged:
            yield staged

    def application(
        self, config: "Config", *, sink: Callable[[str], None] | None = None, **parts: Any
    ) -> "App":
        """Return the parts of a command over a configuration that is loaded; to be entered.

        `sink` gets tagged lines, else stderr with `verbose` and in debug mode; `parts` are passed on to App.
        """
        from opskit.app import App

        sink = sink or (render.note if self.verbose or config.debug else None)
        return App(
            config,
            sinks=[sink] if sink else [],
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


@contextlib.asynccontextmanager
async def simulated(config: "Config") -> AsyncIterator["Config"]:
    """Yield the same configuration over the servers of a stage, and over no others, up while this is open."""
    from opskit.config.schema import AgentConfig, NodeConfig
    from opskit.records import replace
    from opskit.sandbox.stage import Stage

    async with Stage() as stage:
        urls = stage.environment()
        nodes = (
            NodeConfig("ollama", urls["OLLAMA_API_URL"], "ollama"),
            NodeConfig("mlx", urls["MLX_API_URL"], "mlx"),
        )
        names = ("victoria", "veronica")
        agents = tuple(AgentConfig(name, urls[f"{name.upper()}_URL"]) for name in names)
        yield replace(config, nodes=nodes, agents=agents)


def _completed(parameter: inspect.Parameter) -> inspect.Parameter:
    """Complete an option: texts beside its type are its names, what its value is called, and last its help.

    Its own name and the kind of its value need not be written. A flag has no `--no-` form.
    """
    shape, *options = get_args(parameter.annotation) or (parameter.annotation,)
    if options and isinstance(options[0], str):
        *names, words = options
        value = next((name for name in names if not name.startswith("-")), None)
        names = [name for name in names if name.startswith("-")]
        options = [typer.Option(*names, metavar=value, help=words)]
    for option in options:
        if isinstance(option, typer.models.OptionInfo):
            kinds = {shape, *get_args(shape), *(kind for part in get_args(shape) for kind in get_args(part))}
            if shape is bool and option.default is ...:
                option.param_decls = (f"--{parameter.name.replace('_', '-')}",)
            if option.metavar is None:
                option.metavar = next((word for kind, word in _VALUES.items() if kind in kinds), None)
    return parameter.replace(annotation=Annotated[(shape, *options)] if options else shape)


def shares(
    *more: str, json: bool = True, of: typer.Typer | None = None, **about: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `--config`, `--json`, `--debug` and `more` of the shared options.

    They stand behind its own options in `--help`, and reach it as its first parameter, `shared`. It becomes a
    command of the group `of`; `about` it is what Typer takes.
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
        call.__name__, call.__doc__, call.__annotations__ = command.__name__, command.__doc__, {}
        call.__signature__ = inspect.Signature(list(map(_completed, parameters)))  # type: ignore[attr-defined]
        return call if of is None else of.command(**about)(call)

    return sharing
