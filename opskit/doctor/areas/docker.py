"""Docker itself, Compose, the network: why nothing can be said of containers."""

from collections.abc import Iterator

from opskit.doctor.cause import Cause, Fix, key_of, listing
from opskit.doctor.evidence import DockerFacts, Evidence, ProjectFacts
from opskit.result import Status
from opskit.system.docker_host import start_remedy

#: The causes for which no container can be looked at; others may follow from them.
ROOTS = (
    "docker-context-invalid",
    "docker-host-stale",
    "docker-not-permitted",
    "docker-silent",
    "docker-down",
)


def causes(evidence: Evidence) -> Iterator[Cause]:
    if evidence.docker.looked and not evidence.docker.answers and evidence.failed("docker"):
        yield _absent(evidence)
    for project in evidence.projects:
        yield from _project(project)
    name = evidence.config.stack.docker_network
    if evidence.network_exists is False and name is not None:
        command = ("docker", "network", "create", name)
        yield Cause(
            "network-missing",
            name,
            f"the Docker network {name} is missing",
            ("`stack.docker_network` names it, and Docker has none of that name",),
            f"`docker network create {name}`",
            frozenset({f"network {name}"}),
            fix=Fix(command, safe=True, target="network", undo=f"`docker network rm {name}`"),
        )


def dependants(evidence: Evidence) -> frozenset[str]:
    """The checks that cannot be made without Docker."""
    names = {"docker", "containers", "containers are well", "disk docker", "requests of containers"}
    names |= {one.check for one in evidence.findings if one.check.startswith("network ")}
    return frozenset(names)


def _absent(evidence: Evidence) -> Cause:
    facts = evidence.docker
    identifier, title, remedy, fix = _why(facts, evidence.platform)
    told = [facts.problem] if facts.problem else []
    if facts.told_by != "default":
        told.append(f"{facts.told_by} decides where it is looked for")
    if facts.others:
        told.append(f"a daemon answers at {listing(facts.others)}")
    return Cause(identifier, "", title, tuple(told), remedy, dependants(evidence), fix=fix, code="DOCKER_001")


def _why(facts: DockerFacts, platform: str) -> tuple[str, str, str, Fix | None]:
    if facts.invalid:
        remedy = "`docker context ls` shows what there is; correct or unset DOCKER_HOST and DOCKER_CONTEXT"
        return "docker-context-invalid", "Docker's address cannot be told", remedy, None
    if facts.others and not facts.silent and facts.permitted:
        remedy = (
            f"`unset {facts.told_by}`"
            if facts.told_by.startswith("DOCKER_")
            else "`docker context ls`, then `docker context use NAME` with the one that runs"
        )
        remedy += f"; or `export DOCKER_HOST=unix://{facts.others[0]}`"
        return "docker-host-stale", "Docker is looked for where it is not", remedy, None
    if not facts.permitted or "no permission" in facts.problem:
        remedy = "`sudo usermod -aG docker $USER`, then log in again"
        return "docker-not-permitted", "this user may not use Docker", remedy, None
    if facts.silent:
        remedy = (
            "quit Docker and open it again (after sleep a restart from within often fails)"
            if platform == "darwin"
            else "`sudo systemctl restart docker`; `journalctl -u docker -n 50` tells what it waits for"
        )
        return "docker-silent", "Docker accepts connections and never answers", remedy, None
    opening = Fix(("open", "-ga", "Docker"), safe=True, target="docker", undo="quit Docker")
    fix = opening if platform == "darwin" else None
    return "docker-down", "Docker is down", start_remedy(platform), fix


def _project(project: ProjectFacts) -> Iterator[Cause]:
    check = frozenset({f"compose {project.name}"})
    if project.missing_program:
        yield Cause(
            "compose-missing",
            "",
            "there is no Docker Compose",
            ("neither `docker compose` nor `docker-compose` is on PATH",),
            "install the plug-in: `apt-get install docker-compose-plugin`, or Docker Desktop",
            check,
            code="HOST_001",
        )
    elif project.problem:
        command = " ".join((*project.command, "config", "--quiet")) if project.command else ""
        yield Cause(
            "compose-broken",
            project.name,
            f"the Compose files of {project.name} cannot be used",
            (project.problem,),
            f"correct {listing(project.files)}" + (f"; `{command}` checks it" if command else ""),
            check,
            code="CONFIG_001",
        )
    if project.unset:
        yield Cause(
            "compose-variable-unset",
            project.name,
            f"{project.name} uses variables that have no value: {listing(project.unset)}",
            ("Compose puts an empty text in their place",),
            f"set {listing(project.unset)} in the .env beside {project.files[0]}",
            check,
            because=(key_of("compose-broken", project.name),),
            status=Status.WARN,
            code="CONFIG_001",
        )
