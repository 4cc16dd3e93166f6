"""Whether there is a Docker to look at, and which of its containers belong to the stack."""

import re
from collections.abc import Iterable, Mapping, Sequence

from opskit.config.schema import StackConfig
from opskit.diagnose.stack_files import ProjectSources
from opskit.facts.docker_daemon import docker_address
from opskit.system.docker_records import ListedContainer

_FILES = "com.docker.compose.project.config_files"


def not_installed(environ: Mapping[str, str]) -> bool:
    """Tell whether Docker is not missing here, but not used. Reads files."""
    return docker_address(environ).is_unused


def of_stack(
    there: Sequence[ListedContainer], projects: Iterable[ProjectSources], named: Mapping[str, tuple[str, ...]]
) -> list[ListedContainer]:
    """Those of the Compose projects, those that are named, and what shares a project with them. Pure.

    Where that is none, all: nobody told which ones belong to the stack.
    """
    names = {name for group in named.values() for name in group}
    known, files = set(), set()
    for project in projects:
        files |= {str(path) for path in project.files}
        known |= {_normalised(project.name)} if project.name else set()
    known |= {one.project for one in there if one.name in names and one.project}
    chosen = [
        one
        for one in there
        if one.name in names or one.project in known or files & set(one.labels.get(_FILES, "").split(","))
    ]
    return chosen or list(there)


def missing(there: Sequence[ListedContainer], stack: StackConfig) -> list[str]:
    """Containers that the configuration names and that do not exist. Its defaults name nobody."""
    usual = StackConfig().containers
    told = [group for member, group in stack.containers.items() if usual.get(member) != group]
    names = {one.name for one in there}
    return [name for group in told for name in group if name not in names]


def _normalised(name: str) -> str:
    """As Compose writes a project's name into its labels."""
    return re.sub(r"[^-_a-z0-9]", "", name.lower())
