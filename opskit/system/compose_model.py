"""What Compose files declare, out of Compose's own resolved configuration (1: YAML, 2: JSON). Pure.

Only what is needed to compare with the containers that are there is kept: resolved environments hold secrets.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

_UNSET = re.compile(r'The \\?"?([A-Za-z_][A-Za-z0-9_]*)\\?"? variable is not set')
_REFERENCE = re.compile(r"(?<!\$)\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*))")
#: Keys whose values name further files.
_FILE_KEYS = frozenset({"env_file", "extends", "include", "file", "path"})
_HEALERS = ("opskit.", "autoheal")
_NOT_A_NAME = re.compile(r"[^-_a-z0-9]")


@dataclass(frozen=True, slots=True)
class ComposeService:
    """One service that `up` would start.

    `images` are the names under which its image may be there: a built one is named after its project, with
    `-` by Compose 2 and `_` by 1. `needs` are the services that it must not be started without. `labels` are
    those that speak to healers. `digest` is Compose's own, which it writes on the containers that it makes.
    `blank` are variables that have no value here: a new container would be made without them.
    """

    name: str
    images: tuple[str, ...]
    built: bool = False
    replicas: int = 1
    needs: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None
    blank: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Project:
    """`version` is that of the Compose that read it; `own_networks` are those that the project makes."""

    name: str
    version: str
    services: Mapping[str, ComposeService] = field(default_factory=dict)
    own_networks: tuple[str, ...] = ()


def project(
    text: str, digests: str, *, name: str | None, version: str, complaints: str = "", raw: str = ""
) -> Project:
    """Read `compose config` and `compose config --hash '*'`.

    `name` is for Compose 1, whose configuration does not hold it. `complaints` is what it wrote to its
    standard error, `raw` the files as they are. Raises ValueError for what is no configuration.
    """
    try:
        content = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
        declared = content["services"] or {}
        found = str(content.get("name") or name or "")
        networks = {
            key: str((one or {}).get("name") or f"{found}_{key}")
            for key, one in (content.get("networks") or {}).items()
        }
        own = [
            networks[key]
            for key, one in (content.get("networks") or {}).items()
            if not (one or {}).get("external")
        ]
        hashes = dict(pair for line in digests.splitlines() if len(pair := line.split()) == 2)
        blank = unset(complaints)
        references = references_of(raw, list(declared)) if blank else {}
        services = {
            key: _service(
                key, declared[key], found, networks, hashes[key], blank & references.get(key, set())
            )
            for key in hashes
            if key in declared
        }
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, RecursionError) as exc:
        raise ValueError(f"what `compose config` wrote cannot be read ({type(exc).__name__})") from exc
    return Project(found, version, services, tuple(dict.fromkeys((*own, f"{found}_default"))))


def unset(complaints: str) -> set[str]:
    """The variables without a value, out of Compose's warnings."""
    return set(_UNSET.findall(complaints))


def references_of(raw: str, services: list[str]) -> dict[str, set[str]]:
    """The variables that each service's own declaration mentions; files are separated as YAML documents."""
    found: dict[str, set[str]] = {name: set() for name in services}
    try:
        for document in yaml.safe_load_all(raw):
            for name in services:
                text = json.dumps((document or {}).get("services", {}).get(name), default=str)
                found[name] |= {a or b for a, b in _REFERENCE.findall(text)}
    except (yaml.YAMLError, AttributeError, RecursionError):
        return {name: set() for name in services}
    return found


def variables(raw: str) -> set[str]:
    """Every variable that a file mentions anywhere; more is no harm."""
    return {a or b for a, b in _REFERENCE.findall(raw)}


def further_files(raw: str) -> set[str]:
    """Paths that the files point to as they stand there: environment files, includes, bases."""
    found: set[str] = set()

    def collect(value: Any, *, named: bool) -> None:
        if isinstance(value, str):
            if named:
                found.add(value)
        elif isinstance(value, Mapping):
            for key, one in value.items():
                collect(one, named=key in _FILE_KEYS)
        elif isinstance(value, list):
            for one in value:
                collect(one, named=named)

    try:
        for document in yaml.safe_load_all(raw):
            collect(document, named=False)
    except (yaml.YAMLError, RecursionError):
        return set()
    return found


def old_name(folder_name: str, chosen: str | None) -> str:
    """The project's name as Compose 1 decides it: COMPOSE_PROJECT_NAME, else the folder's name."""
    return _NOT_A_NAME.sub("", (chosen or folder_name).lower()) or "default"


def _service(
    key: str,
    one: Mapping[str, Any],
    project_name: str,
    networks: Mapping[str, str],
    digest: str,
    blank: set[str],
) -> ComposeService:
    image, built = one.get("image"), one.get("build") is not None
    images = (str(image),) if image else (f"{project_name}-{key}", f"{project_name}_{key}")
    deploy = one.get("deploy") or {}
    replicas = deploy.get("replicas") if deploy.get("mode", "replicated") == "replicated" else None
    mode = str(one.get("network_mode") or "")
    needs = [str(name) for name in one.get("depends_on") or ()]
    needs += [mode.partition(":")[2]] if mode.startswith("service:") else []
    labels = _labels(one.get("labels"))
    joined = () if mode else tuple(one.get("networks") or ("default",))
    return ComposeService(
        key,
        images,
        built,
        int(one.get("scale", 1) if replicas is None else replicas),
        tuple(dict.fromkeys(needs)),
        tuple(networks.get(name, f"{project_name}_{name}") for name in joined),
        labels,
        digest,
        tuple(sorted(blank)),
    )


def _labels(given: Any) -> dict[str, str]:
    pairs = given.items() if isinstance(given, Mapping) else (str(one).split("=", 1) for one in given or ())
    known = {str(key): str(value) for key, value in pairs}
    return {key: value for key, value in known.items() if key.startswith(_HEALERS)}
