"""`recover full` (SPEC C14): a Compose project built again, down, cleaned, up, and judged by its health.

It is built first, so that a build which fails changes nothing. Only what is the project's own is removed: its
containers and networks, and the images that the build replaced. Never a prune of the whole machine;
volumes only when that was asked for and typed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from opskit.errors import OpskitError, UsageError
from opskit.facts.container_survey import read_containers
from opskit.records import Record
from opskit.recovery.compose_projects import ComposeProject, configured
from opskit.recovery.outcome import Ran
from opskit.recovery.procedure import Procedure
from opskit.recovery.startup import wait_until_well
from opskit.recovery.step import Command
from opskit.result import Finding, Status
from opskit.system.docker_records import PROJECT
from opskit.text import counted

_DOWN_S = 180.0
_CLEAN_S = 60.0
_UP_S = 180.0


class RebuildOptions(Record):
    """How it is done; each phase has its own deadline. `prune_volumes` was confirmed by a person."""

    prune_volumes: bool = False
    build_timeout_s: float = 1800.0
    wait_s: float = 300.0


class RebuildPlan(Record):
    """What is going to be removed, built and started, for a person to agree to.

    `orphans` are containers of the project that its files do not declare, and stay. `images` are the ids of
    the images that containers of built services use now, by name: the way back. `tags` are the tags that the
    names of built images stand for now.
    """

    project: ComposeProject
    containers: tuple[str, ...]
    orphans: tuple[str, ...]
    declared: tuple[str, ...]
    services: tuple[str, ...]
    volumes: tuple[str, ...]
    built: tuple[str, ...]
    images: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def kept(self) -> str:
        """Which containers are left as they are, and why; empty where there are none."""
        names = ", ".join(self.orphans)
        return f"kept: {names}, which the files of {self.project.key} do not declare" if names else ""

    def down(self, *, prune_volumes: bool) -> list[Command]:
        """Return what takes the project down; its networks stay where other containers are in them."""
        if not self.orphans:
            volumes = ("--volumes",) if prune_volumes else ()
            return [self.project.command("down", *volumes, timeout_s=_DOWN_S)]
        removal = self.project.command("rm", "--stop", "--force", *self.declared, timeout_s=_DOWN_S)
        pruned = Command(("docker", "volume", "rm", *self.volumes), _CLEAN_S)
        return [removal, pruned] if prune_volumes and self.volumes else [removal]

    def warnings(self, options: RebuildOptions) -> list[str]:
        """Return what a person agrees to, line by line."""
        volumes = ", ".join(self.volumes) or "none"
        containers = f"{counted(len(self.containers), 'container')} ({', '.join(self.containers) or 'none'})"
        pruned = f"VOLUMES ARE DELETED with all that is in them: {volumes}"
        return [
            f"project {self.project.name}: {containers} and their networks are removed",
            *filter(None, (self.kept,)),
            f"built again without cache: {', '.join(self.built) or 'nothing'}",
            f"started: {', '.join(self.services)}",
            pruned if options.prune_volumes else f"kept: volumes ({volumes})",
        ]

    @property
    def way_back(self) -> str:
        """How to run what ran before: the images are still there, under their names or by their ids."""
        tags = [
            f"docker tag {_short(identifier)} {name}"
            for name, identifier in self.images.items()
            if name and not name.startswith("sha256:")
        ]
        again = f"{self.project.shown} {' '.join(self.project.up)}"
        return f"to go back to what ran before: `{'; '.join([*tags, again])}`"


def choose_project(configured_keys: Sequence[str], name: str | None) -> str:
    """Return the project that is meant. Raises OpskitError RECOVER_002, UsageError where it must be named."""
    if not configured_keys:
        raise UsageError(
            "no Compose project is configured",
            remedy="name its files in `stack.compose` of the configuration",
        )
    known = ", ".join(configured_keys)
    if name is None and len(configured_keys) > 1:
        raise UsageError(f"there are several Compose projects: {known}", remedy="name one with --project")
    if name is not None and name not in configured_keys:
        raise OpskitError("RECOVER_002", f"there is no Compose project {name!r}; known: {known}")
    return name or configured_keys[0]


async def plan_rebuild(procedure: Procedure, key: str) -> RebuildPlan:
    """Check everything that the end needs before anything is taken down.

    Raises OpskitError: RECOVER_003 (paused, or somebody works on it), BACKUP_005 (half restored),
    RECOVER_004 (a file is wrong, an image is missing), DOCKER_*.
    """
    procedure.check_pauses(f"compose:{key}", key)
    await procedure.check_not_half_restored(procedure.context.config.compose_files()[key])
    project = await configured(procedure.context, key)
    if project.project is None:
        raise AssertionError("a configured project is declared")
    services, wanted = project.project.services, project.project.wanted
    built = tuple(sorted(name for name, service in services.items() if service.built))
    docker = procedure.context.docker
    listed = await docker.containers(labels=[f"{PROJECT}={project.name}"])
    containers = await read_containers(docker, [container.id for container in listed])
    tags: dict[str, str] = {}
    for name, service in services.items():
        images = {image: await docker.found("image", image) for image in service.images}
        present = {image: str(item["Id"]) for image, item in images.items() if item is not None}
        if service.built:
            tags |= present
        elif name in wanted and not present:
            raise OpskitError(
                "RECOVER_004",
                f"service {name} needs the image {service.images[0]}, which is not on this machine",
                remedy=f"`docker pull {service.images[0]}`, then again",
            )
    await procedure.check_nobody_is_at_it()
    labelled = await _own(procedure, "volume", project)
    return RebuildPlan(
        project=project,
        containers=tuple(container.name for container in listed if container.service in services),
        orphans=tuple(container.name for container in listed if container.service not in services),
        declared=tuple(sorted(services)),
        services=tuple(sorted(wanted)),
        volumes=tuple(sorted({volume["Name"] for volume in labelled} & set(project.project.own_volumes))),
        built=built,
        images={
            container.image: container.image_id for container in containers if container.service in built
        },
        tags=tags,
    )


async def rebuild(procedure: Procedure, plan: RebuildPlan, options: RebuildOptions) -> Procedure:
    """Do it, phase by phase; a phase that fails ends it with what is down now and what to type.

    Nothing is pulled; `down` keeps volumes unless they are to go, and never takes images.
    """
    project, services = plan.project, ", ".join(plan.services)
    if plan.built:
        built = ", ".join(plan.built)
        procedure.say(f"build: {built}, without cache, for {options.build_timeout_s:.0f} s at most")
        command = project.command("build", "--no-cache", *plan.built, timeout_s=options.build_timeout_s)
        build = await procedure.do(command)
        if build.exit != 0:
            await _restore_tags(procedure, plan)
            procedure.notes.append("nothing was taken down, and the images bear the names that they had")
            remedy = f"correct what the build says, then `opskit recover full --project {project.key}`"
            return procedure.done([_failed("build", build, remedy)])
    procedure.notes += filter(None, (plan.kept,))
    procedure.say(f"down: {counted(len(plan.containers), 'container')} and the networks of {project.name}")
    down = await procedure.do_all(plan.down(prune_volumes=options.prune_volumes))
    if down is not None:
        procedure.notes.append(plan.way_back)
        return procedure.done([_failed("down", down, f"`{project.shown} ps --all` shows what is left")])
    procedure.say(f"up: {services}, without pulling")
    up = await procedure.do(project.command(*project.up, timeout_s=_UP_S))
    if up.exit != 0:
        procedure.notes += [f"not all of {services} are up", plan.way_back]
        remedy = f"`{project.shown} ps --all`, then `{project.shown} {' '.join(project.up)}`"
        return procedure.done([_failed("up", up, remedy)])
    if procedure.dry:
        return procedure.done([])
    findings = await wait_until_well(
        procedure.context, project.name, plan.services, limit_s=options.wait_s, say=procedure.say
    )
    if all(finding.status is Status.PASS for finding in findings):
        await _remove_replaced(procedure, plan)
    else:
        procedure.notes.append(plan.way_back)
    return procedure.done(findings)


def _failed(phase: str, ran: Ran, remedy: str) -> Finding:
    detail = f"`{ran.command.shown}` failed: {ran.said}"
    return Finding("phase", phase, Status.FAIL, "failed", detail, "DOCKER_003", remedy, ran.seconds)


async def _restore_tags(procedure: Procedure, plan: RebuildPlan) -> None:
    """Give names back that a build which failed later has moved, and remove what it made."""
    for name, identifier in plan.tags.items():
        item = await procedure.context.docker.found("image", name)
        if item is None or str(item["Id"]) == identifier:
            continue
        await procedure.do(Command(("docker", "tag", _short(identifier), name), _CLEAN_S))
        await procedure.do(Command(("docker", "image", "rm", _short(str(item["Id"]))), _CLEAN_S))


async def _remove_replaced(procedure: Procedure, plan: RebuildPlan) -> None:
    """All is well: the images that the build replaced are no way back any more.

    Version 1 of Compose writes no labels on images, so they are known by the containers that used them.
    """
    images = {str(image["Id"]): image for image in await procedure.context.docker.all_of("image")}
    for identifier in dict.fromkeys(plan.images.values()):
        if identifier in images and not _names(images[identifier]):
            removal = await procedure.do(Command(("docker", "image", "rm", _short(identifier)), _CLEAN_S))
            if removal.exit != 0:
                procedure.notes.append(f"the replaced image {_short(identifier)} stays: {removal.said}")


async def _own(procedure: Procedure, kind: str, project: ComposeProject) -> list[Mapping[str, Any]]:
    """The volumes or images that carry the label of a project."""
    objects = await procedure.context.docker.all_of(kind)
    return [item for item in objects if (item.get("Labels") or {}).get(PROJECT) == project.name]


def _names(image: Mapping[str, Any]) -> list[str]:
    names = (*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ()))
    return [name for name in names if "<none>" not in name]


def _short(identifier: str) -> str:
    return identifier.removeprefix("sha256:")[:12]
