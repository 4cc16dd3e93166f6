"""`opskit verify`: run a checklist and say what holds, in any of several formats."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render, verify_view
from opskit.cli.inputs import duration
from opskit.cli.options import ConfigOption, DebugOption, JsonOption, SandboxOption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opskit.config.schema import Config
    from opskit.result import Report

DEFAULT_LIST = "stack"
_FORMATS = ("text", "json", "junit", "tap", "nagios", "prometheus", "markdown")


def verify(
    file: Annotated[
        list[str] | None,
        typer.Argument(
            help="Checklists: paths, or names of those that come with opskit.", show_default=False
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="Only checks with this tag; repeatable.", show_default=False),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name", help="Only checks of this name (`*` allowed); repeatable.", show_default=False
        ),
    ] = None,
    var: Annotated[
        list[str] | None,
        typer.Option("--var", metavar="NAME=VALUE", help="Set a variable; repeatable.", show_default=False),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="|".join(_FORMATS), help="How to print the report.")
    ] = "text",
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the report to a file instead.", show_default=False)
    ] = None,
    retry_timeout: Annotated[
        str, typer.Option("--retry-timeout", help="Try again what did not pass, for so long (30s, 2m).")
    ] = "0s",
    max_concurrent: Annotated[
        int, typer.Option("--max-concurrent", min=1, max=1000, help="How many checks run at once.")
    ] = 50,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of checklists.")] = False,
    kinds: Annotated[bool, typer.Option("--kinds", help="List the kinds of checks.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List checks without running them.")] = False,
    add: Annotated[
        str | None,
        typer.Option(
            "--add",
            metavar="KIND",
            help="Write a check from the live state; arguments are its parameters: url=...",
            show_default=False,
        ),
    ] = None,
    sandbox: SandboxOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run checklists. Exits 0 (all well), 1 (failed), 3 (could not be judged), 78 (no valid checklist)."""
    del debug  # read by main
    if schema:
        from opskit.checks.schema import schema as schema_of_checklists

        render.document(schema_of_checklists())
        return
    if kinds:
        verify_view.kinds(as_json=json)
        return
    if add is not None:
        text = context.run(
            _add(add, file or [], name[0] if name else None, output, sandbox=sandbox, config=config)
        )
        render.piece(text)
        return
    form = _format(form, json=json)
    options = _Options(
        file or [],
        tag or [],
        name or [],
        _variables(var or []),
        duration(retry_timeout, "--retry-timeout", zero=True),
        max_concurrent,
    )
    if list_ and not file:
        verify_view.shipped_lists(as_json=json)
        return
    report = context.run(_verify(options, sandbox=sandbox, config=config, listing=list_, as_json=json))
    if report is not None:
        raise typer.Exit(verify_view.report_in(report, form, output))


class _Options:
    def __init__(
        self,
        files: "Sequence[str]",
        tags: "Sequence[str]",
        names: "Sequence[str]",
        variables: "Mapping[str, str]",
        retry_timeout_s: float,
        max_concurrent: int,
    ) -> None:
        self.files = files
        self.tags = tags
        self.names = names
        self.variables = variables
        self.retry_timeout_s = retry_timeout_s
        self.max_concurrent = max_concurrent


async def _verify(
    options: _Options, *, sandbox: bool, config: str | None, listing: bool, as_json: bool
) -> "Report | None":
    import os

    from opskit.checks import checklist, runner
    from opskit.checks.choice import choose
    from opskit.checks.shipped import ChecklistError
    from opskit.config.load import ensure_state_dir
    from opskit.facts.survey import Survey
    from opskit.result import Report
    from opskit.system.threads import children_without_threads

    files = options.files or [DEFAULT_LIST]
    if not options.files:
        render.note(f"no checklist was named: running `{DEFAULT_LIST}`")
    async with context.configured(config, sandbox=sandbox) as loaded:
        environ = {**os.environ, **_addresses(loaded)}
        cwd = Path.cwd()
        try:
            checks = checklist.load(files, given=options.variables, environ=environ, cwd=cwd)
        except ChecklistError as exc:
            for problem in exc.problems[1:20]:
                render.note(f"also: {problem}")
            raise
        chosen = choose(checks, tags=options.tags, names=options.names)
        if listing:
            verify_view.listing(checks, chosen, as_json=as_json)
            return None
        locks = Path(ensure_state_dir(loaded.state_dir))
        around = Survey(loaded, environ, state_folder=locks, cwd=cwd, config_path=config)
        with children_without_threads():
            async with around:
                findings = await runner.run(
                    chosen,
                    around,
                    max_concurrent=options.max_concurrent,
                    retry_timeout_s=options.retry_timeout_s,
                )
    return Report("verify", findings)


async def _add(
    kind: str,
    given: "Sequence[str]",
    name: str | None,
    output: Path | None,
    *,
    sandbox: bool,
    config: str | None,
) -> str:
    """The check as text; with `output` it is put into that checklist, and the text is empty."""
    import os

    from opskit.checks.live import appended, recorded
    from opskit.config.load import ensure_state_dir
    from opskit.facts.survey import Survey

    async with context.configured(config, sandbox=sandbox) as loaded:
        environ = {**os.environ, **_addresses(loaded)}
        locks = Path(ensure_state_dir(loaded.state_dir))
        async with Survey(loaded, environ, state_folder=locks, cwd=Path.cwd(), config_path=config) as around:
            check = await recorded(kind, given, around, name=name)
    if output is None:
        return appended("", check)
    before = output.read_text(encoding="utf-8") if output.is_file() else ""
    verify_view.written(output, appended(before, check))
    render.note(f"{check['name']}: written to {output}")
    return ""


def _addresses(config: "Config") -> dict[str, str]:
    """The variables of addresses as the configuration has them, which already knows the environment."""
    names = {"ollama": "OLLAMA_API_URL", "mlx": "MLX_API_URL"}
    found = {names[node.name]: node.url for node in config.nodes if node.name in names}
    return found | {f"{agent.name.upper().replace('-', '_')}_URL": agent.url for agent in config.agents}


def _format(form: str, *, json: bool) -> str:
    if form not in _FORMATS:
        from opskit.config.shape import unknown
        from opskit.errors import UsageError

        hint = unknown(form, list(_FORMATS)).replace("unknown key", "unknown format")
        raise UsageError(hint, remedy=f"use one of: {', '.join(_FORMATS)}")
    return "json" if json and form == "text" else form


def _variables(given: "Sequence[str]") -> dict[str, str]:
    from opskit.errors import UsageError

    found = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"{one!r} is no variable", remedy="write --var name=value")
        found[key] = value
    return found
