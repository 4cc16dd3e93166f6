"""Tools over opskit's own facts: the doctor, the logs, containers, models. They change nothing."""

import contextlib
import re
import time
from pathlib import Path
from typing import Annotated

from opskit.agent.tools.tool import Tool, ToolResult
from opskit.app import App
from opskit.config.fields import text
from opskit.config.values import Parameters
from opskit.errors import OpskitError
from opskit.text import counted, listing

_SINCE_S = 24 * 3600.0
_LINES = 30
_LINE_CHARS = 240
_LOG_S = 10.0


class NoArguments(Parameters):
    """Nothing is to be said."""


class SearchArguments(Parameters):
    """What is looked for, and where; an empty pattern gives warnings and errors."""

    pattern: Annotated[str, text(most=80)] = ""
    source: Annotated[str, text(most=120, description="a container, or journal:UNIT")] = ""


class ContainerArguments(Parameters):
    """A container, by its name."""

    container: Annotated[str, text(1, 128)]


class _AppTool(Tool):
    def __init__(self, app: App) -> None:
        self.app = app


class CheckStack(_AppTool):
    """What `opskit doctor` finds."""

    name = "check_stack"
    description = "Examine model servers, agents, containers and this machine; name what is wrong."
    arguments = NoArguments

    async def run(self, arguments: NoArguments, approved: tuple[str, ...] | None) -> ToolResult:
        del arguments, approved
        return ToolResult(await stack_report(self.app))


async def stack_report(app: App) -> str:
    """Return the causes that an examination finds, with evidence and remedy, as plain text."""
    import sys

    from opskit.doctor.examination import examine
    from opskit.doctor.target import examination_target
    from opskit.result import Status

    target = examination_target(app.config_path, environ=app.environ, cwd=app.cwd, platform=sys.platform)
    diagnosis = await examine(target)
    lines = []
    for entry in diagnosis.entries:
        cause = entry.cause
        lines.append(f"[{cause.key}] {cause.title}")
        lines += [f"  evidence: {sentence}" for sentence in cause.evidence[:4]]
        lines.append(f"  remedy: {cause.remedy}")
    if not lines:
        lines.append("Nothing is wrong." if diagnosis.judged else "Nothing could be judged.")
    lines += [
        f"{finding.target}: {finding.state}: {finding.detail}"
        for finding in diagnosis.findings
        if finding.check.startswith(("node", "agent")) and finding.status is not Status.SKIP
    ]
    return "\n".join(lines)


class SearchLogs(_AppTool):
    """Lines of the logs that `opskit logs` reads."""

    name = "search_logs"
    description = "Find lines in the logs of the stack; an empty pattern gives warnings and errors."
    arguments = SearchArguments

    async def run(self, arguments: SearchArguments, approved: tuple[str, ...] | None) -> ToolResult:
        del approved
        from opskit.logs.files import FileSource, is_glob
        from opskit.logs.glob_source import resolve
        from opskit.logs.record import LogEntry
        from opskit.logs.select import EntryFilter
        from opskit.logs.show import once
        from opskit.logs.source import PipeSource, Window
        from opskit.system.logfile import LOG_NAME

        pattern, source = arguments.pattern, arguments.source
        since = time.time() - _SINCE_S
        selection = EntryFilter(
            grep=(f"(?i){re.escape(pattern)}",) if pattern else (),
            level=None if pattern else "warning",
            since=since,
        )
        try:
            own = Path(self.app.config.state_dir) / LOG_NAME
            sources, _ = ([], []) if is_glob(source) else await resolve([source] if source else [], own)
            is_file = not sources or any(isinstance(item, FileSource | PipeSource) for item in sources)
            if is_file and source not in ("", "self"):
                # Any file of this machine would be read, whatever the policy says of it.
                why = f"{source} is a file: search_file searches those of the workspace"
                return ToolResult(why, ok=False)
            async with contextlib.aclosing(once(sources, selection, Window(since))) as entries:
                lines = [
                    entry.shown.decode("utf-8", "replace")[:_LINE_CHARS]
                    async for entry in entries
                    if isinstance(entry, LogEntry)
                ]
        except OpskitError as error:
            return ToolResult(error.message, ok=False)
        if not lines:
            return ToolResult(f"no line of the last 24 hours fits {pattern!r}" if pattern else "no warnings")
        shown = lines[-_LINES:]
        head = f"{counted(len(lines), 'line')} in the last 24 hours, the newest {len(shown)}:"
        return ToolResult("\n".join((head, *shown)))


class ShowContainer(_AppTool):
    """One container as it is judged, with the end of its log."""

    name = "show_container"
    description = "Tell the state of a container, why it ended, and the end of its log."
    arguments = ContainerArguments

    async def run(self, arguments: ContainerArguments, approved: tuple[str, ...] | None) -> ToolResult:
        del approved
        from opskit.checks.container_assessment import ContainerRules, assessed
        from opskit.facts.container_survey import read_container, read_container_log, survey_containers

        name = arguments.container
        try:
            docker = await self.app.survey.docker()
            container = await read_container(docker, name)
            if container is None:
                names = listing(sorted(item.name for item in await docker.containers()), 20) or "none"
                text = f"there is no container {name!r}; there are: {names}"
                return ToolResult(text, ok=False, evidence={"absent": name, "names": names})
            log = await read_container_log(docker, container.id, _LINES, limit_s=_LOG_S)
            survey = await survey_containers(docker, [container], self.app.config)
        except OpskitError as error:
            return ToolResult(error.message, ok=False)
        judged = assessed(survey, ContainerRules.of(self.app.config.recovery))[0]
        state = [
            f"{container.name}: {judged.word}",
            f"image {container.image}",
            f"exit code {container.exit_code}",
            f"restarts {container.restarts}",
        ]
        lines = log.lines(_LINE_CHARS)
        return ToolResult(
            "\n".join((", ".join(state), judged.assessment.words, "end of its log:", *lines)),
            evidence={
                "container": container.name,
                "status": container.status,
                "exit_code": container.exit_code if container.status in ("exited", "dead") else None,
                "detail": judged.assessment.words,
            },
            lines=tuple(enumerate(lines, 1)),
        )


class ListContainers(_AppTool):
    """All containers of this machine."""

    name = "list_containers"
    description = "List all containers, also stopped ones, with their state and image."
    arguments = NoArguments

    async def run(self, arguments: NoArguments, approved: tuple[str, ...] | None) -> ToolResult:
        del arguments, approved
        try:
            containers = await (await self.app.survey.docker()).containers()
        except OpskitError as error:
            return ToolResult(error.message, ok=False)
        rows = [{"name": item.name, "state": item.state, "image": item.image} for item in containers]
        lines = ["name,state,image", *(",".join(row.values()) for row in rows)]
        return ToolResult("\n".join(lines), evidence={"containers": rows})


class ListModels(_AppTool):
    """The models of all nodes."""

    name = "list_models"
    description = "List the models of every model server, and which are loaded."
    arguments = NoArguments

    async def run(self, arguments: NoArguments, approved: tuple[str, ...] | None) -> ToolResult:
        del arguments, approved
        snapshot = await self.app.router.catalog.snapshot(wait_for_all=True)
        lines = []
        for view in snapshot.nodes:
            if view.fault is not None:
                lines.append(f"{view.name}: does not answer ({view.fault.detail})")
            for model in view.models:
                loaded = "loaded" if view.is_resident(model) else "not loaded"
                lines.append(f"{view.name}: {model.name}, {loaded}")
        return ToolResult("\n".join(lines) or "no node is configured")


def evidence_tools(app: App) -> list[Tool]:
    """Return the tools over opskit's own facts."""
    return [CheckStack(app), SearchLogs(app), ShowContainer(app), ListContainers(app), ListModels(app)]
