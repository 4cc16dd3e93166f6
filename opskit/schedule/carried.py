"""Which variables of the shell the job is given: those that decide what it looks at, and never a secret."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opskit.config.origins import URLS
from opskit.config.schema import Config
from opskit.errors import OpskitError

#: opskit's own, those of the nodes and agents, and those by which Docker finds its daemon.
NAMES = (
    *(name for names in URLS.values() for name in names),
    "USE_MLX_FALLBACK",
    "VICTORIA_MODEL",
    "OPSKIT_STATE_DIR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
)
#: Secrets that the environment alone may hold.
SECRETS = ("OLLAMA_API_KEY", "MLX_API_KEY")
#: Every scheduler sets them by itself.
_GIVEN = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "PWD", "OPSKIT_CONFIG")
_SECRET_NAME = re.compile(r"(?i)(^|_)(api_?key|key|token|secret|passw(or)?d|pass|credentials?|auth)s?(_|$)")


def variables(config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the job needs, with their values. Raises OpskitError SCHEDULE_004 for a secret."""
    result = {} if config.path is None else {"OPSKIT_CONFIG": str(Path(config.path).absolute())}
    plain, _ = referred(config)
    for name in (*NAMES, *(one for one in plain if one not in _GIVEN)):
        value = environ.get(name)
        if value is None:
            continue
        if _SECRET_NAME.search(name) or _holds_credentials(value):
            raise OpskitError(
                "SCHEDULE_004",
                f"{name} holds a credential, and the scheduler would show it to every program",
                remedy=f"take the user name and password out of {name}, or unset it for this command; a key "
                "belongs in a file that its own program reads",
            )
        result[name] = value
    return result


def withheld(config: Config, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Secrets that this shell holds and the job will do without, by name."""
    _, secret = referred(config)
    return tuple(name for name in dict.fromkeys((*SECRETS, *secret)) if environ.get(name))


def referred(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The variables that the configuration file refers to: those of plain settings, and those of secrets."""
    if config.path is None:
        return (), ()
    from opskit.config import file
    from opskit.config.document import names
    from opskit.config.yaml import parse

    try:
        document = parse(Path(config.path).read_bytes(), config.path)
    except OSError:
        return (), ()
    plain: dict[str, None] = {}
    secret: dict[str, None] = {}
    for path, text in _texts(document.data, ()):
        (secret if file.is_secret(path) else plain).update(dict.fromkeys(names(text)))
    return tuple(plain), tuple(secret)


def _texts(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, str):
        yield path, value


def _holds_credentials(value: str) -> bool:
    """A user name alone is an address (`ssh://me@box`); with a password behind it, it is a secret."""
    try:
        return "://" in value and urlsplit(value).password is not None
    except ValueError:
        return "@" in value
