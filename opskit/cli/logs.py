"""`opskit logs`: follow, grep and count the tagged logs of many containers and files."""

from typing import Annotated

import typer
from typer.core import TyperGroup

from opskit.cli import context
from opskit.cli.options import SharedOptions, shares
from opskit.errors import Exit, UsageError


class _ShowByDefault(TyperGroup):
    """`opskit logs SOURCE` is `opskit logs show SOURCE`."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ShowByDefault, no_args_is_help=False)

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files, globs, containers, compose:PROJECT/SERVICE, label:k=v, journal:UNIT, self, `-`. "
        "When none is given: what is piped in, else our own log and victoria-agent."
    ),
]
Since = Annotated[str | None, "--since", "From then on: 10m, 2h30m, 2026-11-20T08:00."]
Until = Annotated[str | None, "--until", "Before then."]
Tail = Annotated[int | None, typer.Option("--tail", min=0, help="The last N lines of each source.")]


@shares(of=app)
def show(
    shared: SharedOptions,
    sources: Sources = None,
    follow: Annotated[bool, "-f", "--follow", "Go on with what comes."] = False,
    tag: Annotated[list[str] | None, "These tags, as LLM_ERROR,FALLBACK or 'LLM_*'."] = None,
    grep: Annotated[list[str] | None, "Lines that match (RE2)."] = None,
    exclude: Annotated[list[str] | None, "--not", "Lines that do not match (RE2)."] = None,
    identifier: Annotated[str | None, "--id", "One request: its correlation id."] = None,
    level: Annotated[str | None, "debug, info, warning, error or critical."] = None,
    everything: Annotated[bool, "--all", "All lines, tagged or not."] = False,
    since: Since = None,
    until: Until = None,
    tail: Tail = None,
    events_around: Annotated[int, typer.Option("-C", "--context", min=0, help="N events around each.")] = 0,
    raw: Annotated[bool, "The lines byte for byte, as grep prints them."] = False,
) -> None:
    """Show what is wanted of logs, merged by time. Tagged lines, unless another condition is given.

    With --json one object for each event. Exit status 1 when nothing was found, like grep.
    """
    if raw and shared.json:
        raise UsageError("--raw and --json exclude each other", remedy="`opskit logs show --help`")
    if follow and events_around:
        raise UsageError("-C looks at what is there, -f at what comes", remedy="drop one of them")
    from opskit.cli.log_query import LogOptions, conditions, write_directly

    options = LogOptions(
        specs=tuple(sources or ()),
        selection=conditions(
            tags=tag or (),
            grep=grep or (),
            exclude=exclude or (),
            identifier=identifier,
            level=level,
            everything=everything,
            since=since,
            until=until,
        ),
        tail=tail,
        context=events_around,
        follow=follow,
        form="raw" if raw else "json" if shared.json else "text",
    )
    shown = write_directly(options)
    if shown is None:
        from opskit.cli import log_view

        shown = context.run(log_view.show(options, shared.config))
    raise typer.Exit(int(Exit.OK if shown else Exit.FAILED))


@shares(of=app)
def stats(
    shared: SharedOptions,
    sources: Sources = None,
    by: Annotated[str | None, "model, node, tag or minute."] = None,
    since: Since = None,
    until: Until = None,
    markdown: Annotated[str | None, "Write the report to this file."] = None,
) -> None:
    """Count errors, slow requests, calls and failures. Of each model and node, with the course of time."""
    from opskit.cli import log_report

    work = log_report.stats(tuple(sources or ()), by, since, until, markdown, shared.config, json=shared.json)
    raise typer.Exit(int(Exit.OK if context.run(work) else Exit.FAILED))


@shares(of=app)
def request(
    shared: SharedOptions,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="A correlation id, or its beginning.")],
    sources: Sources = None,
) -> None:
    """Tell the story of one request across sources. Its lines in order, the time between, its attempts."""
    from opskit.cli import log_report

    is_whole = context.run(log_report.request(identifier, tuple(sources or ()), shared))
    raise typer.Exit(int(Exit.OK if is_whole else Exit.FAILED))
