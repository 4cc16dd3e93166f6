"""Which containers a spec means: a name, an id, a glob, `label:KEY=VALUE`, `compose:PROJECT[/SERVICE]`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from opskit.errors import OpskitError
from opskit.system.docker import no_such
from opskit.system.docker_records import PROJECT, SERVICE, ListedContainer

#: The shortest start of an id that is taken for one.
_ID_CHARS = 4


@dataclass(frozen=True, slots=True)
class ContainerSelector:
    """What a spec asks for. `labels` must all hold (a value of None: the key alone); `glob` is for names."""

    spec: str
    labels: Mapping[str, str | None]
    glob: str | None = None

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a container with this name and these labels is meant."""
        if self.glob is not None and not fnmatchcase(name, self.glob):
            return False
        return all(key in labels and value in (None, labels[key]) for key, value in self.labels.items())


def selection(spec: str) -> ContainerSelector | None:
    """What a spec asks for when it may mean several containers; None for the name of one.

    Raises OpskitError(DOCKER_002) for a prefix without anything behind it.
    """
    kind, _, rest = spec.partition(":")
    if kind in ("label", "compose") and _ and not rest.strip("/="):
        raise OpskitError(
            "DOCKER_002", f"{spec!r} names nothing", remedy="write label:KEY=VALUE or compose:PROJECT/SERVICE"
        )
    if kind == "label" and rest:
        key, given, value = rest.partition("=")
        return ContainerSelector(spec, {key: value if given else None})
    if kind == "compose" and rest:
        project, _, service = rest.partition("/")
        labels: dict[str, str | None] = {PROJECT: project} if project else {}
        return ContainerSelector(spec, labels | ({SERVICE: service} if service else {}))
    if any(char in spec for char in "*?["):
        return ContainerSelector(spec, {}, spec)
    return None


def chosen(
    spec: str, there: Iterable[ListedContainer]
) -> tuple[list[ListedContainer], ContainerSelector | None]:
    """The containers that a spec means, and the selection that newcomers must match, if it is one.

    A name is a container's, else a compose service's, else the start of an id. Raises
    OpskitError(DOCKER_002) naming near names when there is none.
    """
    known = list(there)
    wanted = selection(spec)
    if wanted is None:
        named = [one for one in known if spec in (one.name, one.id)]
        if named:
            return named, None
        wanted = ContainerSelector(spec, {SERVICE: spec})
    found = [one for one in known if wanted.matches(one.name, one.labels)]
    if found:
        return found, wanted
    if len(spec) >= _ID_CHARS:
        found = [one for one in known if one.id.startswith(spec)]
        if len(found) == 1:
            return found, None
    raise no_such(spec, _names(spec, known))


def _names(spec: str, known: list[ListedContainer]) -> set[str]:
    if spec.startswith("compose:"):
        projects = {f"compose:{one.project}" for one in known if one.project}
        return projects | {f"compose:{one.project}/{one.service}" for one in known if one.project}
    if spec.startswith("label:"):
        return {f"label:{key}={value}" for one in known for key, value in one.labels.items()}
    return {one.name for one in known} | {one.service for one in known if one.service}
