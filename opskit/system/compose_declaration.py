"""What the files of a Compose project declare, out of the configuration that Compose itself resolves. Pure.

Compose 1 writes it as YAML, 2 as JSON. Only what is needed to compare with the containers that are there is
kept: resolved environments hold secrets.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from opskit.records import Record, field
from opskit.system.compose import is_modern
from opskit.text import counted

_UNSET = re.compile(r'[Tt]he \\?"?([A-Za-z_][A-Za-z0-9_]*)\\?"? variable is not set')
_REFERENCE = re.compile(r"(?<!\$)\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*))")
#: Keys whose values name further files.
_FILE_KEYS = frozenset({"env_file", "extends", "include", "file", "path"})
_HEALERS = ("opskit.", "autoheal")
#: What stands at the top of a Compose file and needs nobody to resolve it.
_PLAIN_KEYS = frozenset({"version", "name", "services", "networks", "volumes", "secrets", "configs"})
#: What Compose mounts into services as files.
_FILES = ("secrets", "configs")
#: What decides whether a service is wanted, and how it is found.
_DECISIVE = ("deploy", "network_mode", "profiles", "scale")
#: Addresses of published ports that meet a listener at the loopback address.
LOCAL_ADDRESSES = ("", "0.0.0.0", "::", "127.0.0.1")  # noqa: S104 - addresses that are compared
_NOT_A_NAME = re.compile(r"[^-_a-z0-9]")


class ComposeService(Record):
    """One service that `up` would start.

    `images` are the names under which its image may be there: a built one is named after its project, with
    `-` by Compose 2 and `_` by 1. With no `replicas` it is declared and not wanted. `needs` are the services
    that it must not be started without; `depends_on` are named in its file, with Compose's word for when
    they are ready, `joins` are those whose network, processes or memory it shares. `labels` are what speaks
    to healers. `digests` are Compose's own, one of which it writes on each container that it makes; no
    container `has_digest` where ids of other containers are part of it. `blank` are variables that have no
    value here: a new container would be made without them. `mounts` are paths of this machine that it mounts,
    `files` those of its secrets and configs,
    `volumes` the names of volumes, `ports` what it publishes by TCP at the loopback address.
    """

    name: str
    images: tuple[str, ...]
    built: bool = False
    replicas: int = 1
    depends_on: Mapping[str, str] = field(default_factory=dict)
    joins: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    digests: tuple[str, ...] = ()
    has_digest: bool = True
    blank: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.depends_on, *self.joins)))


class Project(Record):
    """What the files declare. `version` is of the Compose that read it.

    The project itself makes `own_networks`, which have `subnets` where the files say so, and `own_volumes`.

    `services` are what `up` would start; `optional` are others, of profiles that are not active.
    """

    name: str
    version: str
    services: Mapping[str, ComposeService] = field(default_factory=dict)
    own_networks: tuple[str, ...] = ()
    own_volumes: tuple[str, ...] = ()
    subnets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    optional: tuple[str, ...] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of the services that are to have containers."""
        return tuple(name for name, service in self.services.items() if service.replicas > 0)


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
        project_name = str(content.get("name") or name or "")
        networks, own_networks = _named(content.get("networks"), project_name)
        files = {
            (group, key): str(item["file"])
            for group in _FILES
            for key, item in (content.get(group) or {}).items()
            if item and item.get("file")
        }
        volumes, own_volumes = _named(content.get("volumes"), project_name)
        pools = {key: (item or {}).get("ipam") or {} for key, item in (content.get("networks") or {}).items()}
        subnets = {
            networks[key]: tuple(
                str(pool["subnet"]) for pool in ipam.get("config") or () if pool.get("subnet")
            )
            for key, ipam in pools.items()
        }
        hashes: dict[str, tuple[str, ...]] = {}
        for pair in map(str.split, digests.splitlines()):
            if len(pair) == 2:
                hashes[pair[0]] = (*hashes.get(pair[0], ()), pair[1])
        blank = unset(complaints)
        references = references_of(raw, list(declared)) if blank else {}
        # What no service mentions stands in a file of variables, or where all are concerned.
        elsewhere = blank - set().union(*references.values())
        services = {
            key: _service(
                key,
                declared[key],
                project_name,
                networks,
                volumes,
                files,
                modern=is_modern(version),
                digests=hashes[key],
                blank=blank & references.get(key, set()) | elsewhere,
            )
            for key in hashes
            if key in declared
        }
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, RecursionError) as exc:
        raise ValueError(f"what `compose config` wrote cannot be read ({type(exc).__name__})") from exc
    own_networks = tuple(dict.fromkeys((*own_networks, f"{project_name}_default")))
    return Project(project_name, version, services, own_networks, own_volumes, subnets)


def optional_services(raw: str) -> set[str]:
    """Return the services that belong to profiles, as the files hold them."""
    return {name for name, service in _declared(raw) if service.get("profiles")}


def _declared(raw: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the services of each file by name; none where a file cannot be read."""
    try:
        files = [((document or {}).get("services") or {}).items() for document in yaml.safe_load_all(raw)]
    except (yaml.YAMLError, AttributeError, RecursionError):
        return []
    return [(name, service) for file in files for name, service in file if isinstance(service, Mapping)]


def _named(declared: Any, project_name: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the real names of networks or volumes by their keys, and which of them the project makes."""
    items = {key: item or {} for key, item in (declared or {}).items()}
    outside = {key: item["external"] for key, item in items.items() if item.get("external")}
    names = {
        key: str(item.get("name") or (key if key in outside else f"{project_name}_{key}"))
        for key, item in items.items()
    }
    # The oldest files name an external one below `external`.
    names |= {key: str(given["name"]) for key, given in outside.items() if isinstance(given, Mapping)}
    return names, tuple(name for key, name in names.items() if key not in outside)


def unset(complaints: str) -> set[str]:
    """Return the variables without a value, out of Compose's warnings."""
    return set(_UNSET.findall(complaints))


def references_of(raw: str, services: list[str]) -> dict[str, set[str]]:
    """Return the variables that each service's own declaration mentions, as files or Compose hold it."""
    references: dict[str, set[str]] = {name: set() for name in services}
    for name, service in _declared(raw):
        if name in references:
            references[name] |= variables(json.dumps(service, default=str))
    return references


def plain_project(texts: Sequence[str], name: str, profiles: str = "") -> tuple[Project, tuple[str, ...]]:
    """Read Compose files without Compose, and say what of them only Compose knows.

    `profiles` is COMPOSE_PROFILES. Raises ValueError for what is no Compose file.
    """
    unknown = [f"how {counted(len(texts), 'file')} are merged"] if len(texts) > 1 else []
    merged: dict[str, Any] = {"services": {}, "networks": {}, "volumes": {}}
    active: dict[str, None] = {}
    try:
        for text in texts:
            content = yaml.safe_load(text) or {}
            unknown += [f"`{key}`" for key in content if key not in _PLAIN_KEYS and not key.startswith("x-")]
            for section in merged:
                merged[section] |= content.get(section) or {}
            for key, service in (content.get("services") or {}).items():
                unknown += [f"`extends` of {key}"] if "extends" in service else []
                blanks = {word for word in _DECISIVE if variables(json.dumps(service.get(word), default=str))}
                unknown += [f"`{word}` of {key}" for word in sorted(blanks)]
                plain = {word: value for word, value in service.items() if word not in blanks}
                merged["services"][key] = plain
                needed = set(plain.get("profiles") or ())
                if not needed or "*" in profiles or needed & set(profiles.split(",")):
                    active[key] = None
        resolved = yaml.safe_dump({"name": name, **merged})
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"it is no Compose file that can be read ({type(exc).__name__})") from exc
    return project(resolved, "".join(f"{key} -\n" for key in active), name=name, version=""), tuple(unknown)


def variables(raw: str) -> set[str]:
    """Return every variable that a text mentions anywhere; more is no harm."""
    return {bare or braced for bare, braced in _REFERENCE.findall(raw)}


def further_files(raw: str) -> set[str]:
    """Return paths that the files point to as they stand there: environment files, includes, bases."""
    paths: set[str] = set()

    def collect(value: Any, *, names_file: bool) -> None:
        if isinstance(value, str):
            if names_file:
                paths.add(value)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                collect(item, names_file=key in _FILE_KEYS)
        elif isinstance(value, list):
            for item in value:
                collect(item, names_file=names_file)

    try:
        for document in yaml.safe_load_all(raw):
            collect(document, names_file=False)
    except (yaml.YAMLError, RecursionError):
        return set()
    return paths


def old_name(folder_name: str, chosen: str | None) -> str:
    """Return the project's name as Compose 1 decides it: COMPOSE_PROJECT_NAME, else the folder's name."""
    return _NOT_A_NAME.sub("", (chosen or folder_name).lower()) or "default"


def _service(
    key: str,
    item: Mapping[str, Any],
    project_name: str,
    networks: Mapping[str, str],
    volumes: Mapping[str, str],
    files: Mapping[tuple[str, str], str],
    *,
    modern: bool,
    digests: tuple[str, ...],
    blank: set[str],
) -> ComposeService:
    image = item.get("image")
    deploy = item.get("deploy") or {}
    # Compose 1 does not count the replicas of a global service.
    is_counted = modern or deploy.get("mode", "replicated") == "replicated"
    replicas = deploy.get("replicas") if is_counted else None
    mode = str(item.get("network_mode") or "")
    shared = (str(item.get(word) or "").partition(":") for word in ("network_mode", "pid", "ipc"))
    joins = tuple(name for kind, _, name in shared if kind == "service")
    sources = [_mounted(volume) for volume in item.get("volumes") or ()]
    given = ((group, entry) for group in _FILES for entry in item.get(group) or ())
    names = ((group, entry["source"] if isinstance(entry, Mapping) else entry) for group, entry in given)
    joined = () if mode else tuple(item.get("networks") or ("default",))
    return ComposeService(
        name=key,
        images=(str(image),) if image else (f"{project_name}-{key}", f"{project_name}_{key}"),
        built=item.get("build") is not None,
        replicas=int(item.get("scale", 1) if replicas is None else replicas),
        depends_on=_depends_on(item.get("depends_on") or ()),
        joins=joins,
        networks=tuple(networks.get(name, f"{project_name}_{name}") for name in joined),
        labels=_labels(item.get("labels")),
        digests=digests,
        has_digest=not (modern and (item.get("volumes_from") or joins)),
        blank=tuple(sorted(blank)),
        mounts=tuple(source for source in sources if source.startswith("/")),
        files=tuple(files[name] for name in names if name in files),
        volumes=tuple(volumes[source] for source in sources if source in volumes),
        ports=tuple(port for given in item.get("ports") or () if (port := _published(given))),
    )


def _mounted(given: Any) -> str:
    """Return the path, or the key of the volume, that a resolved configuration mounts; empty for neither."""
    if isinstance(given, Mapping):
        return str(given.get("source") or "") if given.get("type") in ("bind", "volume") else ""
    return str(given).rpartition(":")[0].partition(":")[0]


def _published(given: Any) -> int | None:
    """Return the port of this machine that a resolved configuration publishes; None for another kind."""
    if isinstance(given, Mapping):
        address, port = str(given.get("host_ip") or ""), str(given.get("published") or "")
        protocol = given.get("protocol") or "tcp"
    else:
        rest, _, protocol = str(given).partition("/")
        address, _, port = rest.rpartition(":")[0].rpartition(":")
    is_local = protocol in ("", "tcp") and address in LOCAL_ADDRESSES
    return int(port) if is_local and port.isdecimal() else None


def _depends_on(given: Any) -> dict[str, str]:
    rules = given if isinstance(given, Mapping) else {name: {} for name in given}
    return {
        str(name): str(rule.get("condition") or "service_started")
        for name, rule in rules.items()
        if rule.get("required", True)
    }


def _labels(given: Any) -> dict[str, str]:
    pairs = (
        given.items() if isinstance(given, Mapping) else (str(label).split("=", 1) for label in given or ())
    )
    labels = {str(key): str(value) for key, value in pairs}
    return {key: value for key, value in labels.items() if key.startswith(_HEALERS)}
