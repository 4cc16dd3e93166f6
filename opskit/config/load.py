"""Loading the configuration once: flags > environment > file > defaults.

Flags are the business of the commands; the other three are layers of settings, laid over one another, from
which the frozen tree is built.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from opskit.config import origins
from opskit.config.document import PATH_CHARS, InvalidConfigError, Problem, printable, read_file
from opskit.config.origins import DEFAULT, Origin, Setting, Settings, leaves, sections
from opskit.config.schema import AgentConfig, Config, NodeConfig
from opskit.config.url import proxy_of
from opskit.errors import ConfigError, StateError
from opskit.records import Record, names, replace

__all__ = ["InvalidConfigError", "LoadedConfig", "Problem", "ensure_state_dir", "load", "running_in_docker"]

#: No configuration that a person writes comes near.
MAX_BYTES = 1024 * 1024
#: A name of the container's own network is known at once, or not at all.
_RESOLVE_S = 1.0


class LoadedConfig(Record):
    """The configuration, where each value of it comes from, and what people should know about it."""

    config: Config
    origins: dict[str, Origin]
    notes: tuple[str, ...] = ()


class _Source(Record):
    """A configuration file that exists; `shown` is its name in messages."""

    path: Path
    shown: str
    content: bytes


def load(
    path: str | None = None, *, environ: Mapping[str, str], cwd: Path, in_docker: bool | None = None
) -> LoadedConfig:
    """Find, read and check everything. Creates nothing.

    `path` is the value of `--config`; `in_docker` None means: look, and look too whether the name of the host
    resolves (a container may lack it). Raises InvalidConfigError with all problems, or ConfigError CONFIG_002
    for a file that cannot be read.
    """
    looks_up, in_docker = in_docker is None, running_in_docker() if in_docker is None else in_docker
    source = _find(path, environ, cwd)
    layers = origins.default_settings(environ, in_docker=in_docker)
    problems: list[Problem] = []
    if source is not None:
        # PyYAML is worth its import time only when there is something to read.
        from opskit.config.file import file_settings
        from opskit.config.yaml import parse

        try:
            document = parse(source.content, source.shown)
        except InvalidConfigError as exc:
            problems += exc.problems
        else:
            layers |= file_settings(document, environ, source.path.parent, problems)
    if layers["nodes.ollama.url"].origin.kind == "default":
        layers |= origins.server_settings(environ, problems)
    layers |= origins.environment_settings(environ, cwd, problems)
    if looks_up and in_docker:
        at_localhost = origins.localhost_settings(layers)
        layers |= {} if not at_localhost or _resolves(origins.HOST_OF_DOCKER) else at_localhost
    if problems:
        raise InvalidConfigError(problems)
    # The merged layers are completed with the defaults of the schema.
    members = _members(layers, "nodes", NodeConfig)
    nodes = tuple(replace(node, proxy=proxy_of(node, environ)) for node in members)
    agents = tuple(_members(layers, "agents", AgentConfig))
    path = str(source.path) if source else None
    config: Config = _record(layers, (), Config, path=path, nodes=nodes, agents=agents)
    notes = tuple(f"{key}: {setting.note}" for key, setting in layers.items() if setting.note)
    chosen = {key: setting.origin for key, setting in layers.items()}
    return LoadedConfig(config, dict.fromkeys(dict(leaves(config)), DEFAULT) | chosen, notes)


def _resolves(name: str) -> bool:
    """Tell whether a host name resolves; the resolver has no deadline of its own, so it gets one."""
    import socket
    import threading

    addresses: list[object] = []

    def resolve() -> None:
        with contextlib.suppress(OSError):
            addresses.extend(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))

    resolver = threading.Thread(target=resolve, daemon=True)
    resolver.start()
    resolver.join(_RESOLVE_S)
    return bool(addresses)


def _find(path: str | None, environ: Mapping[str, str], cwd: Path) -> _Source | None:
    """Return the first file that exists; a file that was named must exist."""
    named = path if path is not None else environ.get("OPSKIT_CONFIG") or None
    if named is None:
        return next((file for name in _usual_places(environ) if (file := _read(name, cwd))), None)
    source = _read(named, cwd)
    if source is None:
        shown = printable(named, PATH_CHARS) or "the path"
        raise ConfigError(f"{shown}: there is no such file", code="CONFIG_002")
    return source


def _usual_places(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the usual places: `$XDG_CONFIG_HOME` alone where it is set and absolute (XDG)."""
    yield "opskit.yaml"
    if environ.get("XDG_CONFIG_HOME", "").startswith("/"):
        yield f"{environ['XDG_CONFIG_HOME']}/opskit/config.yaml"
        return
    import platformdirs

    yield "~/.config/opskit/config.yaml"
    yield f"{platformdirs.user_config_dir('opskit')}/config.yaml"


def _read(name: str, cwd: Path) -> _Source | None:
    """Return None when there is no such file; raise ConfigError for a file that cannot be read."""
    path = cwd / os.path.expanduser(name)  # noqa: PTH111 - an unknown user stays a name, and is not found
    try:
        content = read_file(path, name, MAX_BYTES)
    except ConfigError as exc:
        if isinstance(exc.__cause__, FileNotFoundError | NotADirectoryError):
            if not path.is_symlink():
                return None
            text = f"{printable(name, PATH_CHARS)}: it is a link to a file that does not exist"
            raise ConfigError(text, code="CONFIG_002", remedy="correct or remove the link") from exc
        raise
    return _Source(path, printable(name, PATH_CHARS), content)


def _members(layers: Settings, group: str, schema: type) -> Iterator[Any]:
    for name in dict.fromkeys(key.split(".")[1] for key in layers if key.startswith(f"{group}.")):
        if layers.get(f"{group}.{name}.enabled", Setting(True)).value:
            origin = layers[f"{group}.{name}.url"].origin
            found = {"explicit": origin.kind != "default", "address_from": origin.detail}
            yield _record(layers, (group, name), schema, name=name, **found)


def _record(layers: Settings, prefix: tuple[str, ...], schema: type, /, **values: Any) -> Any:
    """Return an instance of `schema` from the given values, the values at `prefix`, and its own defaults."""
    nested = sections(schema)
    for name in names(schema):
        key = ".".join((*prefix, name))
        entries = {at.removeprefix(f"{key}."): layers[at].value for at in layers if at.startswith(f"{key}.")}
        if name in nested:
            values[name] = _record(layers, (*prefix, name), nested[name])
        elif name not in values and (entries or key in layers):
            values[name] = entries or layers[key].value
    return schema(**values)


def running_in_docker(root: Path = Path("/")) -> bool:
    """Whether this process lives in a container: Docker's or Podman's marker file, or the first cgroup."""
    if any((root / marker).exists() for marker in (".dockerenv", "run/.containerenv")):
        return True
    try:
        cgroup = (root / "proc/1/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(word in cgroup for word in ("docker", "containerd", "kubepods"))


def ensure_state_dir(path: str | Path, room_bytes: int = 1) -> Path:
    """Create the folder if need be, for its owner alone, and prove by a real file that it can be written.

    `room_bytes` is what has to fit in it. A folder that exists keeps its permissions: it may be shared on
    purpose. Raises StateError.
    """
    import tempfile

    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".opskit-") as probe:
            probe.write(bytes(room_bytes))
            probe.flush()
    except (OSError, ValueError) as exc:
        raise StateError.of(folder, exc) from exc
    return folder
