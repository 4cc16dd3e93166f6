"""One container as `docker inspect` tells of it. No judgement: that is `checks/container_assessment.py`."""

import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.records import Record
from opskit.system.docker_records import PROJECT, SERVICE

ONE_OFF = "com.docker.compose.oneoff"
_NUMBER = "com.docker.compose.container-number"
_CONFIG_HASH = "com.docker.compose.config-hash"
_COMPOSE_VERSION = "com.docker.compose.version"
FOLDER = "com.docker.compose.project.working_dir"
_FILES = "com.docker.compose.project.config_files"
_ENV_FILE = "com.docker.compose.project.environment_file"
_DEPENDS_ON = "com.docker.compose.depends_on"
#: What a container's own labels may ask of a repairer (ops facts 2.2).
_ACTION, _AUTOHEAL = "opskit.action", "autoheal"
#: Docker's own default for `docker stop`.
_STOP_TIMEOUT_S = 10.0
_NEVER = "0001-"
#: The exit code of what SIGKILL ended.
KILLED = 128 + signal.SIGKILL
_KILL_SIGNALS = ("SIGKILL", "KILL", "9")
#: Networks that Docker finds by their name; the bridge has another id each time the daemon starts.
_BY_NAME = ("bridge", "host", "none")
_ID_CHARS = 64


class HealthCheckRun(Record, kw_only=True):
    """One run of a health check in Docker's health log, which keeps the last five."""

    started: datetime | None = None
    ended: datetime | None = None
    exit_code: int = 0
    output: str = ""


class PublishedPort(Record, kw_only=True):
    """A port of a container, `inside` as `80/tcp`. `host_port` is None while it is not published."""

    inside: str
    host_ip: str = ""
    host_port: int | None = None


class ContainerMount(Record, kw_only=True):
    """What is mounted into a container; `name` is that of a volume."""

    kind: str
    name: str = ""
    source: str = ""


class StartObstacle(Record):
    """Why a container is not to be started, and what a person does about it.

    What is `of_new` keeps only a new container from being made, and none that is there from its start.
    """

    detail: str
    remedy: str
    of_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container, running or not. Times are UTC on the daemon's clock, None for never.

    `status` and `health` are Docker's words, `health` None without a health check, `health_test` its command
    as `Config.Healthcheck.Test` holds it. `shares_network_of` is the id of the container whose network
    namespace this one shares, `joins` are those whose processes or memory it shares. `network_ids`
    are of its networks as it knows them, by name: one that does not run may hold an id that is gone.
    `bindings` are host ports that it asks for, `ports` the ports it has now.
    `stop_exit` is the exit code of a program that its stop signal ended.
    `action` is what its labels let a repairer do: restart, stop, notify, none or a word that is not known.
    `wanted` is False where its Compose file, as far as it was read, wants no container of its service;
    `optional` where that is because no profile of the service is active.
    `depends_on` are services that it needs, with Compose's word for when they are ready (Compose 2 alone).
    """

    id: str
    name: str
    status: str
    image: str = ""
    image_id: str = ""
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    restarts: int = 0
    restart_policy: str = "no"
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    health: str | None = None
    health_log: tuple[HealthCheckRun, ...] = ()
    health_test: tuple[str, ...] = ()
    start_period_s: float = 0.0
    stop_timeout_s: float = _STOP_TIMEOUT_S
    stops_by_kill: bool = False
    stop_exit: int = 128 + signal.SIGTERM
    project: str | None = None
    service: str | None = None
    number: int | None = None
    one_off: bool = False
    wanted: bool = True
    optional: bool = False
    config_hash: str | None = None
    compose_version: str | None = None
    folder: str | None = None
    compose_files: tuple[Path, ...] = ()
    env_file: str | None = None
    depends_on: Mapping[str, str] = field(default_factory=dict)
    action: str = "restart"
    network_mode: str = ""
    shares_network_of: str | None = None
    joins: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    network_ids: Mapping[str, str] = field(default_factory=dict)
    extra_hosts: tuple[str, ...] = ()
    bindings: tuple[PublishedPort, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    mounts: tuple[ContainerMount, ...] = ()
    memory_limit_bytes: int = 0
    tty: bool = False
    arguments: tuple[str, ...] = field(default=(), repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def running(self) -> bool:
        return self.status == "running"

    @property
    def created_s(self) -> float:
        """When it was made, in seconds since the epoch; 0 where that is not told."""
        return 0.0 if self.created is None else self.created.timestamp()

    @property
    def is_stopped(self) -> bool:
        return self.status in ("exited", "created")

    @property
    def has_health_check(self) -> bool:
        return bool(self.health_test) and self.health_test[0] != "NONE"


def lost_networks(container: Container, networks: frozenset[str] | None) -> list[str]:
    """Return the networks of a container that does not run and that Docker has no more under their id.

    A network of a swarm, whose ids are shorter, is there once a container joins it.
    """
    if networks is None or not container.is_stopped:
        return []
    return sorted(
        name
        for name, identifier in container.network_ids.items()
        if name not in _BY_NAME and len(identifier) == _ID_CHARS and identifier not in networks
    )


def container(item: Mapping[str, Any]) -> Container:
    """Read one document of `docker inspect`. This is the only parser of it. Pure."""
    state, config = item.get("State") or {}, item.get("Config") or {}
    host, network = item.get("HostConfig") or {}, item.get("NetworkSettings") or {}
    labels: Mapping[str, str] = config.get("Labels") or {}
    health, check = state.get("Health") or {}, config.get("Healthcheck") or {}
    mode, stop_s = str(host.get("NetworkMode") or ""), config.get("StopTimeout")
    number = str(labels.get(_NUMBER) or "")
    status, joined = health.get("Status"), network.get("Networks") or {}
    return Container(
        id=str(item.get("Id") or ""),
        name=str(item.get("Name") or "").lstrip("/"),
        status=str(state.get("Status") or "unknown"),
        image=str(config.get("Image") or ""),
        image_id=str(item.get("Image") or ""),
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        restarts=int(item.get("RestartCount") or 0),
        restart_policy=str((host.get("RestartPolicy") or {}).get("Name") or "no"),
        created=docker_time(item.get("Created")),
        started=docker_time(state.get("StartedAt")),
        finished=docker_time(state.get("FinishedAt")),
        health=str(status) if status and status != "none" else None,
        health_log=tuple(
            HealthCheckRun(
                started=docker_time(run.get("Start")),
                ended=docker_time(run.get("End")),
                exit_code=int(run.get("ExitCode") or 0),
                output=str(run.get("Output") or ""),
            )
            for run in health.get("Log") or ()
            if isinstance(run, Mapping)
        ),
        health_test=tuple(str(word) for word in check.get("Test") or ()),
        start_period_s=(check.get("StartPeriod") or 0) / 1e9,
        stop_timeout_s=_STOP_TIMEOUT_S if stop_s is None else float(stop_s),
        stops_by_kill=str(config.get("StopSignal") or "").upper() in _KILL_SIGNALS,
        stop_exit=128 + _signal(str(config.get("StopSignal") or "")),
        project=labels.get(PROJECT),
        service=labels.get(SERVICE),
        number=int(number) if number.isdecimal() else None,
        one_off=is_one_off(labels),
        config_hash=labels.get(_CONFIG_HASH),
        compose_version=labels.get(_COMPOSE_VERSION),
        folder=labels.get(FOLDER),
        compose_files=compose_files_of(labels),
        env_file=labels.get(_ENV_FILE) or None,
        depends_on=_depends_on(labels.get(_DEPENDS_ON) or ""),
        action=action_of(labels),
        network_mode=mode,
        shares_network_of=_joined(mode),
        joins=tuple(filter(None, (_joined(str(host.get(key) or "")) for key in ("PidMode", "IpcMode")))),
        networks=tuple(sorted(joined)),
        network_ids={name: str((about or {}).get("NetworkID") or "") for name, about in joined.items()},
        extra_hosts=tuple(map(str, host.get("ExtraHosts") or ())),
        bindings=tuple(_published(host.get("PortBindings"))),
        ports=tuple(_published(network.get("Ports"))),
        mounts=tuple(
            ContainerMount(
                kind=str(mount.get("Type") or ""),
                name=str(mount.get("Name") or ""),
                source=str(mount.get("Source") or ""),
            )
            for mount in item.get("Mounts") or ()
        ),
        memory_limit_bytes=int(host.get("Memory") or 0),
        tty=bool(config.get("Tty")),
        arguments=tuple(map(str, (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())))),
        variables=dict(str(pair).partition("=")[::2] for pair in config.get("Env") or ()),
    )


def _joined(mode: str) -> str | None:
    """Return the id of the container whose namespace is used; None for a namespace of its own."""
    return mode.partition(":")[2] if mode.startswith("container:") else None


def _signal(word: str) -> int:
    """Return the number of a signal as Docker writes it: `SIGINT`, `INT` or `2`; SIGTERM for none."""
    if word.isdecimal():
        return int(word)
    name = f"SIG{word.upper().removeprefix('SIG')}"
    return signal.Signals[name] if name in signal.Signals.__members__ else signal.SIGTERM


def compose_files_of(labels: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the Compose files that a container was made of, as its labels name them.

    Compose 1 writes them as they were typed, relative to a folder that it does not write; the folder that it
    does write is that of the first file. So `app/compose.yml` with `/srv/app` was typed in `/srv`.
    """
    folder = Path(labels.get(FOLDER) or "/")
    files = [Path(file.strip()) for file in (labels.get(_FILES) or "").split(",") if file.strip()]
    typed = files[0].parent.parts if files and not files[0].is_absolute() else ()
    if typed and folder.parts[-len(typed) :] == typed:
        folder = folder.parents[len(typed) - 1]
    return tuple(Path(os.path.normpath(folder / file)) for file in files)


def real_files(files: Iterable[Path]) -> set[str]:
    """Return files as no link leads to them: a person may name one otherwise than Compose did."""
    return set(map(os.path.realpath, files))


def docker_time(text: Any) -> datetime | None:
    """Read Docker's RFC 3339 with nanoseconds; None for the year 1, which means never, and for no time."""
    if not isinstance(text, str) or text.startswith(_NEVER):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def action_of(labels: Mapping[str, str]) -> str:
    """Return what the labels let a repairer do; a word that is not known forbids it."""
    if labels.get(_AUTOHEAL, "").lower() == "false":
        return "none"
    return labels.get(_ACTION, "restart").lower()


def is_one_off(labels: Mapping[str, str]) -> bool:
    """Tell whether labels are of a container of `compose run`, which nobody wants back."""
    return str(labels.get(ONE_OFF, "")).lower() == "true"


def _depends_on(label: str) -> dict[str, str]:
    """Read `db:service_healthy:false,job:service_completed_successfully:false`."""
    parts = (entry.split(":") for entry in label.split(",") if entry)
    return {part[0]: part[1] for part in parts if len(part) > 1}


def _published(bound: Mapping[str, Any] | None) -> Iterator[PublishedPort]:
    for inside, outside in sorted((bound or {}).items()):
        bindings: tuple[Mapping[str, Any], ...] = tuple(outside or ({},))
        for binding in bindings:
            port = str(binding.get("HostPort") or "")
            yield PublishedPort(
                inside=str(inside),
                host_ip=str(binding.get("HostIp") or ""),
                host_port=int(port) if port.isdecimal() else None,
            )
