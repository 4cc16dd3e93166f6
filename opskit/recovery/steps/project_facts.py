"""What is known of a Compose project: what its files declare, its containers, what a look found. Pure."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from opskit.checks.container_assessment import (
    COMPLETES,
    SETTLED_S,
    AssessedContainer,
    ContainerCondition,
    ContainerRules,
    assessed,
)
from opskit.checks.health_check import fresh_health
from opskit.facts.container import KILLED, Container, StartObstacle
from opskit.facts.container_events import ContainerEvents
from opskit.facts.container_survey import ContainerSurvey
from opskit.records import Record, field, replace
from opskit.recovery import pauses
from opskit.system.compose import plain_version
from opskit.system.compose_declaration import Project


class ProjectFacts(Record, kw_only=True):
    """Everything that is known of one project. `key` is its name in the configuration.

    `events` is None while everything seems well, and nobody asked. `busy` is why nothing of the project is
    touched, `missed` why nothing is created, `absent` what Compose lacks to make any container of it.
    `obstacles` is what keeps services from their start, `paused` services that a person paused.
    `remembered` are targets that recovery has repaired before.
    `other_files` says of what other files its containers were made, `unasked` why services are not made that
    were never there.
    `networks` are the ids of existing networks. The files were changed last at `changed_s` (epoch).
    """

    key: str
    project: Project
    containers: Sequence[Container]
    now: datetime
    rules: ContainerRules
    changed_s: float = float("inf")
    events: ContainerEvents | None = None
    networks: frozenset[str] | None = None
    busy: str | None = None
    missed: str | None = None
    absent: StartObstacle | None = None
    obstacles: Mapping[str, StartObstacle] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    remembered: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()
    other_files: str = ""
    unasked: Mapping[str, str] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return f"compose:{self.key}"

    def target_of(self, service: str) -> str:
        """Return the name under which the starts of a service are counted."""
        return f"{self.target}/{service}"

    @property
    def command(self) -> str:
        """Return how a person calls Compose for this project."""
        return self.rules.compose

    def of(self, service: str) -> list[Container]:
        return [container for container in self.containers if container.service == service]

    def is_paused(self, service: str, paused: Mapping[str, pauses.Pause]) -> bool:
        """Tell whether a service is paused by a name of its own; a pause of everything is each target's."""
        names = (self.target_of(service), *(container.name for container in self.of(service)))
        own = {name: pause for name, pause in paused.items() if name != pauses.ALL}
        return service in own or pauses.covering(own, *names) is not None

    def assessed_containers(self) -> list[AssessedContainer]:
        """Assess each container, by what its file says of its needs: a label may lack them."""
        needs = {name: service.depends_on for name, service in self.project.services.items()}
        containers = tuple(
            replace(
                container,
                depends_on={**container.depends_on, **needs.get(container.service or "", {})},
                wanted=container.service in self.project.wanted,
                optional=container.service in self.project.optional
                or (bool(self.other_files) and container.service not in self.project.services),
            )
            for container in self.containers
        )
        survey = ContainerSurvey(
            containers=containers,
            peers={container.id: container for container in containers},
            now=self.now,
            events=self.events,
            networks=self.networks,
        )
        return assessed(survey, self.rules)

    def down(self) -> dict[str, str]:
        """Return the services that `up` would start, and what is wrong with each."""
        containers = self.assessed_containers()
        down: dict[str, str] = {}
        for name in self.project.wanted:
            service = self.project.services[name]
            own = [entry for entry in containers if entry.container.service == name]
            words = [entry.assessment.detail for entry in own if entry.is_down]
            lacking = service.replicas - len(own)
            if lacking > 0:
                count = f"lacks {lacking} of its {service.replicas} containers"
                words.append(count if own else "is not created")
            if words:
                down[name] = "; ".join(word.removeprefix("it ") for word in words)
        return down

    def unmet(self, service: str, together: Collection[str]) -> str:
        """Return what a service waits for that is not started `together` with it; nothing when it may start.

        Compose itself awaits what it starts together.
        """
        for need, condition in self.project.services[service].depends_on.items():
            containers = self.of(need)
            if need in together or need not in self.project.services:
                continue
            if condition == COMPLETES:
                if not all(end.is_stopped and end.started and not end.exit_code for end in containers):
                    return f"{need} has not ended with exit code 0"
            elif not any(container.running for container in containers):
                return f"{need} does not run"
            elif condition == "service_healthy" and any(
                fresh_health(known) != "healthy" for known in containers
            ):
                return f"{need} is not healthy"
        return ""

    def relapsed(self) -> frozenset[str]:
        """Return the services that ended by themselves within moments of their last start."""
        ended = frozenset() if self.events is None else self.events.were_ended
        relapsed = (item for item in self.containers if item.id not in ended and _is_relapse(item))
        return frozenset(container.service or "" for container in relapsed)

    def is_well(self) -> bool:
        """Tell whether nothing is to be repaired, and no more need be known."""
        usual = (ContainerCondition.WELL, ContainerCondition.WAITING)
        return not self.down() and all(entry.condition in usual for entry in self.assessed_containers())

    def may_recreate(self, container: Container) -> bool:
        """Tell whether a new container in its place would be made of the same settings.

        Where Compose's digest does not show it, the files must be older than the container.
        """
        drifted = is_drifted(self.project, container)
        if drifted is not None:
            return not drifted
        return container.created is not None and self.changed_s < container.created.timestamp()


def _is_relapse(container: Container) -> bool:
    """Tell whether a container ended by itself within moments of its start; SIGKILL comes from outside."""
    if container.running or container.started is None or container.finished is None:
        return False
    was_killed = container.exit_code == KILLED and not container.oom_killed
    return not was_killed and 0 <= (container.finished - container.started).total_seconds() < SETTLED_S


def is_drifted(project: Project, container: Container) -> bool | None:
    """Tell whether a container was made of other settings than the files hold now; None where nobody can.

    Versions of Compose digest differently: only a container of the same version can be compared.
    """
    service = project.services.get(container.service or "")
    if service is None or not service.digests or container.config_hash is None:
        return None
    if container.config_hash in service.digests:
        return False
    is_same_version = plain_version(container.compose_version or "") == project.version
    return True if is_same_version and service.has_digest else None
