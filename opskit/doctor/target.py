"""What is examined, and from where. A configuration that cannot be used is examined too."""

from collections.abc import Callable, Mapping
from pathlib import Path

from opskit.config.document import InvalidConfigError
from opskit.config.load import LoadedConfig, Problem, load, running_in_docker
from opskit.config.schema import AgentConfig, Config, NodeConfig
from opskit.errors import ConfigError
from opskit.records import Record
from opskit.system.network import endpoint

Member = NodeConfig | AgentConfig
#: No configuration is found from here.
_NOWHERE = Path("/nonexistent")


class ExaminationTarget(Record, kw_only=True):
    """A configuration with the place and the environment in which it holds.

    `problems` are mistakes in the configuration that was asked for; `deep` permits one prompt to a loaded
    model of each Ollama node. `mask` hides secrets in what causes quote from logs.
    """

    loaded: LoadedConfig
    environ: Mapping[str, str]
    cwd: Path
    platform: str
    problems: tuple[Problem, ...] = ()
    config_path: str | None = None
    in_docker: bool = False
    deep: bool = False
    mask: Callable[[str], str] = str

    @property
    def config(self) -> Config:
        return self.loaded.config

    @property
    def home(self) -> Path:
        return Path(self.environ.get("HOME") or "~").expanduser()

    @property
    def members(self) -> tuple[Member, ...]:
        return (*self.config.nodes, *self.config.agents)

    @property
    def ports(self) -> frozenset[int]:
        """The ports of nodes and agents, wherever they are."""
        return frozenset(endpoint(member.url)[1] for member in self.members)

    def chosen(self, key: str) -> bool:
        """Tell whether a person set this key, or one below it, in a file or in the environment."""
        return any(
            origin.kind != "default" and (name == key or name.startswith(f"{key}."))
            for name, origin in self.loaded.origins.items()
        )


def examination_target(
    path: str | None,
    *,
    environ: Mapping[str, str],
    cwd: Path,
    platform: str,
    deep: bool = False,
    in_docker: bool | None = None,
) -> ExaminationTarget:
    """Load the configuration as far as it can be used; its problems are findings, not the end.

    What is wrong in the environment is left out; a file with a mistake, or that cannot be read, is passed
    over as a whole. Raises ConfigError where `path` cannot be read. `in_docker` None means: look.
    """
    problems: tuple[Problem, ...] = ()
    try:
        loaded = load(path, environ=environ, cwd=cwd, in_docker=in_docker)
    except InvalidConfigError as error:
        problems = error.problems
        wrong = {problem.path for problem in problems}
        loaded = _load_without(wrong, path, environ, cwd, in_docker=in_docker)
    except ConfigError as error:
        if path is not None:
            raise
        problems = (Problem(error.message, None, "", "", code=error.code, remedy=error.remedy),)
        loaded = _load_without({error.message}, path, environ, cwd, in_docker=in_docker)
    return ExaminationTarget(
        loaded=loaded,
        environ=environ,
        cwd=cwd,
        platform=platform,
        problems=problems,
        config_path=path,
        in_docker=running_in_docker() if in_docker is None else in_docker,
        deep=deep,
    )


def _load_without(
    wrong: set[str], path: str | None, environ: Mapping[str, str], cwd: Path, *, in_docker: bool | None
) -> LoadedConfig:
    """Load the configuration without the variables, or the file, that hold mistakes."""
    usable = {name: value for name, value in environ.items() if name not in wrong}
    if wrong <= set(environ):
        return load(path, environ=usable, cwd=cwd, in_docker=in_docker)
    usable.pop("OPSKIT_CONFIG", None)
    usable["XDG_CONFIG_HOME"] = str(_NOWHERE)
    if usable.get("OPSKIT_STATE_DIR"):
        usable["OPSKIT_STATE_DIR"] = str(cwd / Path(usable["OPSKIT_STATE_DIR"]).expanduser())
    return load(None, environ=usable, cwd=_NOWHERE, in_docker=in_docker)
