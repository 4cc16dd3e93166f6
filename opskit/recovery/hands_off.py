"""What people did to the stack lately, or do now: it is theirs, and left alone for `recovery.hands_off_s`."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from opskit.checks.restore_assessment import assess_interrupted_restore
from opskit.checks.stopped_by_hand import until
from opskit.facts.container import Container
from opskit.facts.container_events import ContainerEvents, RecoveryHistory, read_container_events
from opskit.facts.container_survey import EVENTS_FACT, history_of
from opskit.facts.unfinished_restore import UnfinishedRestore, backup_is_running, read_unfinished_restores
from opskit.records import Record
from opskit.recovery.step import RecoveryContext
from opskit.system.process import find_processes, folder_of, is_running, variables_of

#: Options of `docker` and of `docker compose` that take the next argument for their value.
_VALUED = frozenset(
    {
        *("-H", "--host", "-c", "--context", "--config", "-l", "--log-level"),
        *("--tlscacert", "--tlscert", "--tlskey"),
        *("-f", "--file", "-p", "--project-name", "--project-directory", "--profile", "--env-file"),
        *("--ansi", "--parallel", "--progress", "--verbosity"),
    }
)
_DOCKER = frozenset({"pull", "build", "load", "import"})
_COMPOSE = frozenset(
    {"pull", "build", "up", "down", "create", "start", "stop", "restart", "rm", "kill", "run", "watch"}
)
_OLLAMA = frozenset({"pull", "create"})
_DETACHED = ("-d", "--detach", "--wait")
#: Programs that run what their next argument names.
_BEFORE = ("sudo", "env", "nice", "bash", "sh", "python")


@dataclass(frozen=True, slots=True)
class ManualCommand:
    """What a command line changes. `stays`: it lives for as long as its containers do.

    `options` are what names its Compose project; None for what concerns more than one project.
    """

    words: str
    stays: bool = False
    options: tuple[str, ...] | None = field(default=None, compare=False)


class RunningCommand(Record):
    """A process that runs such a command; `age_s` is how long ago it began.

    `project` is the Compose project that it works on, None where that is unknown.
    """

    pid: int
    command: ManualCommand
    age_s: float
    project: "CommandProject | None" = None

    @property
    def is_of_docker(self) -> bool:
        return self.command.words.startswith("docker")


class CommandProject(Record):
    """A Compose project as a command line names it: by its name, else by its files, else by a folder."""

    name: str = ""
    files: tuple[Path, ...] = ()
    folder: Path = Path("/")

    def is_of(self, name: str, files: Sequence[Path]) -> bool:
        if self.name:
            return self.name == name
        if self.files:
            return not {path.resolve() for path in self.files}.isdisjoint(path.resolve() for path in files)
        # Compose looks for its files in the folders above too.
        folder = self.folder.resolve()
        return any(path.resolve().parent in (folder, *folder.parents) for path in files)


def manual_commands(docker_host: str | None) -> list[RunningCommand]:
    """Return the commands of every user, the oldest first. Blocks while every process is looked at.

    `docker_host` is our DOCKER_HOST: who plainly works with another daemon is left out.
    """
    now = time.time()
    processes, _ = find_processes(command=lambda line: manual_command(line) is not None)
    candidates = [(process, manual_command(process.command)) for process in processes]
    running = []
    for process, command in candidates:
        variables = None if command is None else variables_of(process.pid)
        if variables is None and not is_running(process):
            # It ended after it was found.
            continue
        host = None if variables is None else variables.get("DOCKER_HOST") or None
        is_elsewhere = variables is not None and host != (docker_host or None)
        if command is not None and (not is_elsewhere or command.words.startswith("ollama")):
            project = _project(process.pid, command, variables)
            running.append(RunningCommand(process.pid, command, process.age_s(now), project))
    return running


def manual_command(line: Sequence[str]) -> ManualCommand | None:
    """Return what a command line does, in a few words without its arguments, which may be secrets. Pure."""
    # A script has its interpreter in front.
    for place, word in enumerate(line[:3]):
        name = word.rpartition("/")[2]
        if name in ("docker", "docker-compose", "docker-buildx", "ollama"):
            return _command(name, line[place + 1 :])
        if not word.startswith("-") and not name.startswith(_BEFORE):
            return None
    return None


def _command(name: str, arguments: Sequence[str]) -> ManualCommand | None:
    verb, following = _verb(arguments)
    if name == "ollama":
        return ManualCommand(f"ollama {verb}") if verb in _OLLAMA else None
    if name == "docker" and verb == "compose":
        return _command("docker-compose", following)
    if (name == "docker" and verb in ("image", "buildx", "builder")) or verb == "buildx":
        verb, following = _verb(following)
        verb = "build" if verb == "bake" else verb
    if name == "docker-compose" and verb == "compose":
        # The plug-in is called with its own name again.
        verb, following = _verb(following)
    if name in ("docker", "docker-buildx"):
        return ManualCommand(f"docker {verb}") if verb in _DOCKER else None
    if verb not in _COMPOSE:
        return None
    stays = verb in ("up", "run", "watch") and not any(word in _DETACHED for word in following)
    options = tuple(arguments[: len(arguments) - len(following) - 1])
    return ManualCommand(f"docker compose {verb}", stays, options)


def _verb(arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the first argument that is no option, and what follows it."""
    place = 0
    while place < len(arguments):
        word = arguments[place]
        if not word.startswith("-"):
            return word, arguments[place + 1 :]
        place += 2 if word in _VALUED else 1
    return "", ()


def _project(pid: int, command: ManualCommand, variables: Mapping[str, str] | None) -> CommandProject | None:
    """Return the project that a command of Compose works on, as Compose itself decides it."""
    folder = folder_of(pid)
    if command.options is None or variables is None or folder is None:
        return None
    values: dict[str, list[str]] = {}
    words = iter(command.options)
    for word in words:
        option, has_value, value = word.partition("=")
        if option in _VALUED:
            values.setdefault(option, []).append(value if has_value else next(words, ""))
    names = values.get("-p", []) + values.get("--project-name", [])
    files = values.get("-f", []) + values.get("--file", [])
    files = files or (variables.get("COMPOSE_FILE") or "").split(os.pathsep)
    return CommandProject(
        name=names[-1] if names else variables.get("COMPOSE_PROJECT_NAME", ""),
        files=tuple(folder / file for file in files if file),
        folder=folder / values.get("--project-directory", ["."])[-1],
    )


async def interrupted_restore(context: RecoveryContext, files: Sequence[Path]) -> UnfinishedRestore | None:
    """Return the restore that was interrupted and has left one of these files, or what they name, behind.

    What a half-restored project would be started from is neither its old nor its new settings.
    """
    from opskit.facts.compose_project import project_files

    restores = await context.survey.get(read_unfinished_restores, not_before=time.monotonic())
    restores = tuple(restore for restore in restores if restore.is_interrupted)
    if not restores or not files:
        return None
    named = await asyncio.to_thread(project_files, files, context.environ)
    return next((restore for restore in restores if restore.covers(named)), None)


def just_edited(context: RecoveryContext, edits: Mapping[Path, float]) -> str | None:
    """Say which file of a project was changed just now; None where none was. `edits` are epochs."""
    hands_off_s, now_s = context.config.recovery.hands_off_s, context.clock()
    # A time far ahead, of a file from another machine, does not hide what was edited just now.
    newest = min(edits, key=lambda path: abs(now_s - edits[path]))
    ago_s = now_s - edits[newest]
    if abs(ago_s) >= hands_off_s:
        return None
    ago_s = max(0.0, ago_s)
    return f"{newest} was changed {ago_s:.0f} s ago; left alone for {hands_off_s - ago_s:.0f} s more"


async def at_work(
    context: RecoveryContext,
    *,
    program: str | None = None,
    containers: bool = True,
    files: Sequence[Path] = (),
    project: tuple[str, Sequence[Path]] | None = None,
) -> str | None:
    """Say what somebody is doing that a repair would break off; None when nobody is.

    That is work with Docker, and a backup, where `containers` are touched; what is done with a `program`,
    with any where it is None; and a restore that was interrupted and left the Compose `files` half restored.
    `project` is the name and the files of the only project that is touched.
    """
    if containers and await asyncio.to_thread(backup_is_running, context.config):
        return "a backup is being made or restored"
    if (restore := await interrupted_restore(context, files)) is not None:
        half = assess_interrupted_restore(restore)
        return f"{half.detail}; {half.remedy}"
    commands = await asyncio.to_thread(manual_commands, context.environ.get("DOCKER_HOST"))
    relevant = [
        running
        for running in commands
        if (containers and _concerns(running, project))
        or (program is None and not running.is_of_docker)
        or (program and running.command.words.startswith(program))
    ]
    return worked_on(relevant, context.config.recovery.hands_off_s)


def _concerns(running: RunningCommand, project: tuple[str, Sequence[Path]] | None) -> bool:
    """Tell whether a command works with containers, of that project or of nobody knows which."""
    is_elsewhere = project is not None and running.project is not None and not running.project.is_of(*project)
    return running.is_of_docker and not is_elsewhere


def worked_on(at_work: Sequence[RunningCommand], hands_off_s: float) -> str | None:
    """Return what somebody is doing; `up` in the foreground counts only in its first minutes. Pure."""
    for running_command in at_work:
        command = running_command.command
        if not command.stays or running_command.age_s < hands_off_s:
            return f"somebody runs `{command.words}` (process {running_command.pid})"
    return None


def history(context: RecoveryContext) -> RecoveryHistory:
    records = context.memory.targets
    repairs = {
        name: (record.repairs[-1], record.ended_at) for name, record in records.items() if record.repairs
    }
    return history_of(repairs, context.memory.facts, context.config)


async def read_events(context: RecoveryContext, containers: Sequence[Container]) -> ContainerEvents:
    """Read what is known of the last minutes, and record it. Raises OpskitError DOCKER_*."""
    events = await read_container_events(
        context.docker,
        containers,
        back_s=context.config.recovery.hands_off_s,
        history=history(context),
        clock_s=context.clock(),
    )
    context.memory.facts[EVENTS_FACT] = events.as_recorded()
    return events


def first_missed(
    marks: dict[str, float],
    key: str,
    missing: Mapping[str, object],
    now: float,
    events: ContainerEvents,
    hands_off_s: float,
    seen_s: float | None = None,
) -> str | None:
    """Return why a project without a container is left alone although no event tells of a removal.

    Where the events do not reach back to `seen_s`, when its containers were last there, the moment at which
    they were first missed counts. It is kept in `marks` and dropped once nothing is missing.
    """
    was_seen = seen_s is not None and events.since is not None and now - seen_s < hands_off_s
    reach = not was_seen or events.reach(events.now - timedelta(seconds=now - (seen_s or now)))
    if not missing or (events.complete and reach):
        marks.pop(key, None)
        return None
    ago_s = max(0.0, now - marks.setdefault(key, now))
    if ago_s >= hands_off_s:
        return None
    return f"Docker does not remember whether somebody removed it{until(ago_s, hands_off_s)}"
