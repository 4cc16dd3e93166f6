"""Where each value comes from: the layers below and above the file, and the values as a person may see them.

The variables of the environment are the ones that an existing Knowledge OS already sets (SPEC A6, B7, D7).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_type_hints

from opskit.config.document import Problem
from opskit.config.schema import Config, Secret, Source
from opskit.config.url import Address, normalise, normalise_server
from opskit.errors import ConfigError
from opskit.records import Record, asdict, is_record

#: Source and port of the nodes, and port of the agents, that are there without being named.
NODES: dict[str, tuple[Source, int]] = {"ollama": ("ollama", 11434), "mlx": ("mlx", 11435)}
AGENTS: dict[str, int] = {"victoria": 8010, "veronica": 8011}
#: The first variable that is set decides; set to nothing, it switches the node or agent off.
URLS = {
    "nodes.ollama": ("OLLAMA_API_URL", "OLLAMA_BASE_URL"),
    "nodes.mlx": ("MLX_API_URL",),
    "agents.victoria": ("VICTORIA_URL",),
    "agents.veronica": ("VERONICA_URL",),
}
#: Where Ollama's own server and client get their address; a file or a variable of ours is more specific.
SERVER_VARIABLE = "OLLAMA_HOST"
#: Keys of nodes and agents that are found out, not written.
FOUND_OUT = ("name", "explicit", "address_from", "proxy")
HOST_OF_DOCKER = "host.docker.internal"

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Origin(Record):
    """`detail` is `opskit.yaml:12` for a file and the variable's name for the environment.

    `unset` names the variable that a secret refers to and that holds nothing.
    """

    kind: Literal["default", "file", "env"]
    detail: str = ""
    unset: str | None = None

    def __str__(self) -> str:
        return {"default": "default", "file": self.detail, "env": f"env {self.detail}"}[self.kind]


DEFAULT = Origin("default")


class Setting(Record):
    """One value of one layer (defaults, file, environment). `note` is worth telling if the value is used."""

    value: Any
    origin: Origin = DEFAULT
    note: str | None = None


#: Key path to setting. A later layer is laid over an earlier one with `|`.
Settings = dict[str, Setting]


def sections(schema: type = Config) -> dict[str, type]:
    """Return the sections with fixed keys in a section, or in the file, by name: `budgets` is `Budgets`."""
    hints = get_type_hints(schema).items()
    return {name: hint for name, hint in hints if isinstance(hint, type) and is_record(hint)}


def default_settings(environ: Mapping[str, str], *, in_docker: bool) -> Settings:
    """Return the lowest layer (SPEC B7, D7)."""
    settings = {"state_dir": Setting(default_state_dir(environ))}
    settings |= default_addresses(HOST_OF_DOCKER if in_docker else "localhost")
    for name, (source, _) in NODES.items():
        settings[f"nodes.{name}.source"] = Setting(source)
    for name, schema in sections().items():
        for key, value in _leaves(name, asdict(schema())):
            if key.count(".") > 1:
                # Named entries are merged one by one with the entries of a file.
                settings[key] = Setting(value)
    return settings


def default_addresses(host: str) -> Settings:
    """Return where the nodes and agents are that are there without being named."""
    nodes = {f"nodes.{name}.url": Setting(f"http://{host}:{port}") for name, (_, port) in NODES.items()}
    return nodes | {f"agents.{name}.url": Setting(f"http://{host}:{port}") for name, port in AGENTS.items()}


def localhost_settings(layers: Settings) -> Settings:
    """Return the default addresses that are in use, at localhost: for a container without its host's name."""
    return {
        key: setting
        for key, setting in default_addresses("localhost").items()
        if layers[key].origin.kind == "default"
        and layers.get(f"{key.removesuffix('.url')}.enabled", Setting(True)).value
    }


def default_state_dir(environ: Mapping[str, str]) -> str:
    """Return `$XDG_STATE_HOME/opskit`, else the system's folder; a relative variable is ignored (XDG)."""
    if environ.get("XDG_STATE_HOME", "").startswith("/"):
        return str(Path(environ["XDG_STATE_HOME"]) / "opskit")
    import platformdirs

    return platformdirs.user_state_dir("opskit")


def environment_settings(environ: Mapping[str, str], cwd: Path, problems: list[Problem]) -> Settings:
    """Return the layer above the file. Apart from URLs, an empty variable sets nothing."""
    settings: Settings = {}
    for target, variables in URLS.items():
        variable = next((name for name in variables if name in environ), None)
        if variable is None:
            continue
        if environ[variable].strip():
            if address := _address(target, variable, environ[variable], normalise, problems):
                settings |= {f"{target}.enabled": Setting(True, Origin("env", variable)), **address}
            continue
        others = (*variables, SERVER_VARIABLE) if target == "nodes.ollama" else variables
        ignored = [name for name in others if name != variable and environ.get(name)]
        note = f"off, because {variable} is empty; {ignored[0]} is not read" if ignored else None
        settings[f"{target}.enabled"] = Setting(False, Origin("env", variable), note)
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "OLLAMA_API_KEY": ("nodes.ollama.api_key", secret),
        "MLX_API_KEY": ("nodes.mlx.api_key", secret),
        "USE_MLX_FALLBACK": ("router.use_mlx_fallback", _truth),
        "VICTORIA_DEBUG": ("debug", _truth),
        "VICTORIA_MODEL": ("victoria_model", printable_text),
        "MAIN_PROJECT": ("agent.main_project", printable_text),
        "ALLOWED_PROJECTS": ("agent.allowed_projects", _names),
        "OPSKIT_STATE_DIR": ("state_dir", lambda value: str(folder(value, cwd))),
    }
    for variable, (key, read) in readers.items():
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            settings[key] = Setting(read(text), Origin("env", variable))
        except ValueError as exc:
            problems.append(Problem(variable, None, key, str(exc), remedy=f"correct or unset {variable}"))
    return settings


def server_settings(environ: Mapping[str, str], problems: list[Problem]) -> Settings:
    """Return the address that Ollama's own variable gives, where no variable of ours gives another."""
    text = environ.get(SERVER_VARIABLE, "")
    if not text.strip() or any(variable in environ for variable in URLS["nodes.ollama"]):
        return {}
    return _address("nodes.ollama", SERVER_VARIABLE, text, normalise_server, problems)


def _address(
    target: str, variable: str, text: str, read: Callable[[str], Address], problems: list[Problem]
) -> Settings:
    try:
        address = read(text)
    except ConfigError as exc:
        problems.append(Problem(variable, None, f"{target}.url", exc.message, exc.code, exc.remedy))
        return {}
    return {f"{target}.url": Setting(address.url, Origin("env", variable), address.note)}


def secret(text: str) -> Secret:
    """Raise ValueError, without the value, for what no HTTP header can carry."""
    if not text.isascii() or not text.isprintable():
        raise ValueError("holds characters that a key cannot have")
    return Secret(text)


def folder(text: str, base: Path) -> Path:
    """Return the path of a folder: `~` is the home folder, a relative path belongs to `base`.

    Raises ValueError.
    """
    try:
        return base / Path(printable_text(text)).expanduser()
    except RuntimeError as exc:
        raise ValueError("names a home folder that does not exist") from exc


def printable_text(text: str) -> str:
    """Raise ValueError for what a terminal would obey."""
    if not text.isprintable():
        raise ValueError("holds characters that cannot be shown")
    return str(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in printable_text(text).split(",") if name.strip())


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError("must be one of true, false, 1, 0, yes, no")
    return _TRUTH[text.lower()]


class Shown(Record):
    """One line of `opskit config show`."""

    key: str
    value: Any
    origin: Origin

    @property
    def text(self) -> str:
        """The value in YAML's words."""
        if isinstance(self.value, list):
            return ", ".join(self.value) or "[]"
        is_text = self.value is not None and not isinstance(self.value, bool)
        return str(self.value) if is_text else json.dumps(self.value)


def shown(config: Config, origins: Mapping[str, Origin]) -> Iterator[Shown]:
    """Yield every effective value with its origin; secrets are `***`, or `(unset: NAME)`.

    A node or an agent that is switched off appears as `nodes.NAME.enabled` false and nothing else.
    """
    values = dict(leaves(config))
    for key, value in values.items():
        origin = origins.get(key, DEFAULT)
        if isinstance(value, Secret):
            yield Shown(key, "***", origin)
        elif value is None and origin.unset:
            yield Shown(key, f"(unset: {origin.unset})", origin)
        else:
            yield Shown(key, list(value) if isinstance(value, tuple) else value, origin)
    for key, origin in origins.items():
        if key.endswith(".enabled") and f"{key.removesuffix('enabled')}url" not in values:
            yield Shown(key, False, origin)


def leaves(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield every value of the configuration by its key, values of nodes and agents first."""
    tree = asdict(config)
    for group in ("nodes", "agents"):
        for member in tree.pop(group):
            written = {key: value for key, value in member.items() if key not in FOUND_OUT}
            yield from _leaves(f"{group}.{member['name']}", written)
    del tree["path"]
    yield from _leaves("", tree)


def _leaves(prefix: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every value of a section, and of the sections and named entries in it, by its key."""
    for name, value in tree.items():
        key = f"{prefix}.{name}".removeprefix(".")
        if isinstance(value, dict):
            yield from _leaves(key, value)
        else:
            yield key, value
