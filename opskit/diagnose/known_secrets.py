"""The secrets that can be known: of configuration, environment, `.env` and Compose files, containers."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from opskit.config.schema import Config, Secret
from opskit.diagnose.compose_text import secrets_in
from opskit.diagnose.secret_names import promises_secret
from opskit.diagnose.secret_shapes import Span, spans
from opskit.diagnose.secret_trees import edited
from opskit.facts.compose_project import env_files, stack_files
from opskit.records import is_record, names
from opskit.system.textfile import parse_env_file

#: What stands before a setting that is commented out.
_COMMENT = re.compile(r"(?m)^[ \t]*#[ \t]*(?=(?:export[ \t]+)?[A-Za-z_][\w.-]*[ \t]*=)")
_LINE_CHARS = 9
_RANDOM = re.compile(r"(?![~.]?/)(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+/=_-]{20,}")
_WORD_CHARS = 6
_FILE_BYTES = 1024 * 1024


def read_known_secrets(config: Config, environ: Mapping[str, str], cwd: Path) -> set[str]:
    """Return secrets of the configuration, the environment, the `.env` and the Compose files. Reads files."""
    known = of_config(config) | of_variables(environ)
    for path in env_files(config, cwd):
        known |= of_env_file(_content(path))
    for path in chain.from_iterable(stack_files(config, cwd).values()):
        known |= secrets_in(_content(path))
    return known


def _content(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_FILE_BYTES).decode("utf-8-sig", "replace")
    except (OSError, ValueError):
        return ""


def of_config(tree: Any) -> set[str]:
    """Return every Secret of a configuration, and the passwords of its addresses."""
    if isinstance(tree, str):
        return {*_passwords(tree), *((str(tree),) if isinstance(tree, Secret) else ())}
    parts: Iterable[Any] = tree if isinstance(tree, tuple | list) else ()
    if is_record(tree):
        parts = [getattr(tree, name) for name in names(tree)]
    elif isinstance(tree, Mapping):
        parts = tree.values()
    return set().union(*map(of_config, parts))


def of_variables(variables: Mapping[str, str]) -> set[str]:
    """Return values of names that promise a secret, passwords in addresses, and what looks random."""
    secrets: set[str] = set()
    for name, value in variables.items():
        if promises_secret(name, alone=name != "PWD") or _RANDOM.fullmatch(value):
            secrets.add(value)
        secrets |= set(_passwords(value))
    return secrets


def of_env_file(text: str) -> set[str]:
    """Return the secrets of an environment file, however they are quoted, and of what is commented out."""
    secrets = _in_text(text, least_chars=1)
    for read in (text, _COMMENT.sub("", text)):
        for name, value in parse_env_file(read).values.items():
            for part in (value, *(line for line in value.split("\n") if len(line) >= _LINE_CHARS)):
                secrets |= of_variables({name: part})
    return secrets


def of_container(item: Mapping[str, Any]) -> set[str]:
    """Return secrets of a container's environment, command, health check and labels (`docker inspect`)."""
    config = item.get("Config") or {}
    secrets = of_variables(variables_of(config.get("Env")))

    def note(leaf: Any, places: Sequence[Span] | None) -> Any:
        if places is None:
            secrets.add(str(leaf))
        elif isinstance(leaf, str):
            secrets.update(leaf[start:end] for start, end in places)
            secrets.update(_in_text(leaf))
        return leaf

    # Compose itself keeps digests in labels.
    labels = {key: value for key, value in (config.get("Labels") or {}).items() if promises_secret(key)}
    shown = {key: {**item, **config}.get(key) for key in ("Path", "Args", "Cmd", "Entrypoint")}
    edited([shown, (config.get("Healthcheck") or {}).get("Test"), labels], note)
    return secrets


def _in_text(text: str, least_chars: int = _WORD_CHARS) -> set[str]:
    """Return what looks like a secret, without its quotes; a short one may be a word of a language."""
    secrets = {text[start:end].strip().strip("\"'") for start, end in spans(text)}
    return {secret for secret in secrets if len(secret) >= least_chars}


def variables_of(entries: object) -> dict[str, str]:
    """Read `NAME=value` entries, as Docker tells a container's environment."""
    if not isinstance(entries, list):
        return {}
    pairs = (str(entry).partition("=") for entry in entries)
    return {name: value for name, equals, value in pairs if equals}


def _passwords(text: str) -> Iterator[str]:
    with contextlib.suppress(ValueError):
        password = urlsplit(text).password if "://" in text else None
        if password:
            yield password
            yield unquote(password)
