"""Commands that people run just now which change containers or models, by their processes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from opskit.system.process import find_processes, variables_of

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
    """What a command line changes. `stays`: it lives for as long as its containers do."""

    words: str
    stays: bool = False


@dataclass(frozen=True, slots=True)
class RunningCommand:
    """A process that runs such a command; `age_s` is how long ago it began."""

    pid: int
    command: ManualCommand
    age_s: float


def manual_commands(docker_host: str | None) -> list[RunningCommand]:
    """Return the commands of every user, the oldest first. Blocks while every process is looked at.

    `docker_host` is our DOCKER_HOST: who plainly works with another daemon is left out.
    """
    now = time.time()
    processes, _ = find_processes(command=lambda line: manual_command(line) is not None)
    candidates = [(process, manual_command(process.command)) for process in processes]
    return [
        RunningCommand(process.pid, command, process.age_s(now))
        for process, command in candidates
        if command is not None and not _elsewhere(process.pid, command, docker_host)
    ]


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
    return ManualCommand(f"docker compose {verb}", stays)


def _verb(arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the first argument that is no option, and what follows it."""
    place = 0
    while place < len(arguments):
        word = arguments[place]
        if not word.startswith("-"):
            return word, arguments[place + 1 :]
        place += 2 if word in _VALUED else 1
    return "", ()


def _elsewhere(pid: int, command: ManualCommand, docker_host: str | None) -> bool:
    variables = None if command.words.startswith("ollama") else variables_of(pid)
    return variables is not None and (variables.get("DOCKER_HOST") or None) != (docker_host or None)
