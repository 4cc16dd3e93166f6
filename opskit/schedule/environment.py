"""The environment of the job: its PATH, the variables that it is given, and the paths that it has to read."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opskit.config.origins import SERVER_VARIABLE, URLS
from opskit.config.schema import Config
from opskit.config.url import variables_of
from opskit.errors import OpskitError

#: What recovery starts. A scheduler's own PATH is four folders, in which neither Docker nor Homebrew lies.
PROGRAMS = ("docker", "docker-compose", "brew", "ollama", "orb", "colima", "launchctl", "systemctl")
#: docker itself starts its credential helpers, and finds them on PATH only.
_HELPERS = ("docker-credential-desktop", "docker-credential-osxkeychain")
_SYSTEM = {
    "darwin": ("/usr/bin", "/bin", "/usr/sbin", "/sbin"),
    "linux": ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"),
}
#: Where installers put programs; searched after the PATH of the shell.
_USUAL = {
    "darwin": (
        "/opt/homebrew/bin",
        "/usr/local/bin",
        "~/.orbstack/bin",
        "~/.docker/bin",
        "/Applications/Docker.app/Contents/Resources/bin",
        "/Applications/Ollama.app/Contents/Resources",
    ),
    "linux": ("/usr/local/bin", "/home/linuxbrew/.linuxbrew/bin", "~/.local/bin", "/snap/bin"),
}
#: Variables that decide what the job looks at: opskit's own, variables of nodes and agents, of Docker.
_CARRIED = (
    *(name for names in URLS.values() for name in names),
    SERVER_VARIABLE,
    *("USE_MLX_FALLBACK", "VICTORIA_MODEL", "OPSKIT_STATE_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
#: What a server of opskit reads besides (SPEC D1, D5, D6).
_SERVER = (
    *("USE_VICTORIA_ENHANCED", "ENABLE_EVENT_MONITORING"),
    *("MAIN_PROJECT", "ALLOWED_PROJECTS", "DATABASE_URL"),
)
#: Secrets that the environment alone may hold.
_SECRETS = ("OLLAMA_API_KEY", "MLX_API_KEY")
#: Every scheduler sets them by itself.
_GIVEN = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "PWD", "OPSKIT_CONFIG")
_SECRET_NAME = re.compile(r"(?i)(^|_)(api_?key|key|token|secret|passw(or)?d|pass|credentials?|auth)s?(_|$)")
#: Folders that macOS keeps from background jobs (ops facts 11).
_DENIED = ("Documents", "Desktop", "Downloads")


def job_path(programs: Iterable[str], environ: Mapping[str, str], *, platform: str, home: Path) -> str:
    """Return the PATH of the job: folders of the programs that are there, then the folders of the system.

    `programs` are searched besides the usual ones: what the configuration starts by its bare name.
    """
    family = "darwin" if platform == "darwin" else "linux"
    shell = [folder for folder in environ.get("PATH", "").split(os.pathsep) if folder.startswith("/")]
    usual = [str(home / folder[2:]) if folder.startswith("~/") else folder for folder in _USUAL[family]]
    search = os.pathsep.join((*shell, *usual))
    names = [name for name in (*PROGRAMS, *_HELPERS, *programs) if "/" not in name]
    paths = [path for name in names if (path := shutil.which(name, path=search))]
    folders = dict.fromkeys(str(Path(path).parent) for path in paths)
    needed = [folder for folder in folders if folder not in _SYSTEM[family]]
    return os.pathsep.join((*needed, *(folder for folder in _SYSTEM[family] if Path(folder).is_dir())))


def job_variables(config: Config, environ: Mapping[str, str], *, serves: bool = False) -> dict[str, str]:
    """Return the variables that the job needs besides PATH; `serves` adds the variables of a server.

    Raises OpskitError SCHEDULE_004 for a secret.
    """
    variables = {} if config.path is None else {"OPSKIT_CONFIG": str(Path(config.path).absolute())}
    for name in _needed(config, environ, serves=serves)[0]:
        value = environ.get(name)
        if value is not None and (_SECRET_NAME.search(name) or _holds_credentials(value)):
            raise OpskitError(
                "SCHEDULE_004",
                f"{name} holds a credential, and the scheduler would show it to every program",
                remedy=f"take the user name and password out of {name}, or unset it for this command; a key "
                "belongs in a file that its own program reads",
            )
        if value is not None:
            variables[name] = value
    return variables


def withheld(config: Config, environ: Mapping[str, str], *, serves: bool = False) -> tuple[str, ...]:
    """Return the names of secrets that this shell holds and that the job is not given."""
    return tuple(name for name in _needed(config, environ, serves=serves)[1] if environ.get(name))


def _needed(
    config: Config, environ: Mapping[str, str], *, serves: bool
) -> tuple[dict[str, None], dict[str, None]]:
    """Return the names of the variables that the job is given, and of those that are withheld.

    A proxy, and a variable of a server, is withheld where it holds a password.
    """
    plain, secret = dict.fromkeys(_CARRIED), dict.fromkeys(_SECRETS)
    proxies = (name for node in config.nodes for name in variables_of(node, environ) if name)
    for name in (*(_SERVER if serves else ()), *proxies):
        (secret if _holds_credentials(environ.get(name, "")) else plain)[name] = None
    if config.path is None:
        return plain, secret
    from opskit.config import file
    from opskit.config.document import names
    from opskit.config.yaml import parse

    try:
        document = parse(Path(config.path).read_bytes(), config.path)
    except OSError:
        return plain, secret
    for path, text in _texts(document.data, ()):
        kind = secret if file.is_secret(path) else plain
        kind.update(dict.fromkeys(name for name in names(text) if kind is secret or name not in _GIVEN))
    return plain, secret


def _texts(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*path, key))


def _holds_credentials(value: str) -> bool:
    """Whether an address has a password; a user name alone (`ssh://me@box`) is part of the address.

    That of a proxy may lack its scheme (`me:password@proxy:3128`).
    """
    try:
        return urlsplit(value if "://" in value else f"//{value}").password is not None
    except ValueError:
        return "@" in value


def needed_paths(config: Config, interpreter: str) -> Iterator[tuple[str, Path]]:
    """Yield every path that the job reads, and what it is there for."""
    yield "the Python interpreter", Path(interpreter)
    if config.path is not None:
        yield "the configuration", Path(config.path).absolute()
    for project, files in config.stack.compose.items():
        for file in files:
            yield f"a compose file of {project}", config.located(file)
    for file in config.stack.env_files:
        yield "an env file", config.located(file)
    yield "the state folder", Path(config.state_dir)


def check_reach(config: Config, interpreter: str, *, home: Path) -> None:
    """Raise OpskitError SCHEDULE_003, naming every path that macOS would deny without a question."""
    denied = [
        f"{what} {path} is in ~/{folder}"
        for what, path in needed_paths(config, interpreter)
        if (folder := denied_folder(path, home)) is not None
    ]
    if denied:
        raise OpskitError(
            "SCHEDULE_003",
            "; ".join(denied) + ", which macOS keeps from background jobs",
            remedy="move it to another folder (`~/opskit`, say) and correct its path in the configuration; "
            "to move an interpreter, create the virtual environment again",
        )


def denied_folder(path: Path, home: Path) -> str | None:
    """Return the denied folder that a path lies in: as the path is written, and where its links lead.

    The file system of a Mac does not distinguish capitals from small letters, so neither does this.
    """
    homes = [_folded(home), _folded(home.resolve())]
    for parts in (_folded(path), _folded(path.resolve())):
        for folder in _DENIED:
            if any(parts[: len(base) + 1] == (*base, folder.casefold()) for base in homes):
                return folder
    return None


def _folded(path: Path) -> tuple[str, ...]:
    return tuple(part.casefold() for part in path.absolute().parts)
