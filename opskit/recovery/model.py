"""`recover model NAME` (SPEC C14): stop, remove, start again, wait for the load, and a real chat to prove it.

NAME is a container or a Compose service (starcoder-chat), a model node, or a model that a node holds. What
could not be started again afterwards is not taken down.
"""

import difflib
import shlex
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from opskit.config.schema import NodeConfig
from opskit.errors import OpskitError
from opskit.facts.container import Container
from opskit.facts.container_survey import read_container
from opskit.facts.node import read_node
from opskit.providers.base import ModelInfo
from opskit.recovery.chat import address, chat
from opskit.recovery.compose_projects import (
    ComposeProject,
    UnusableProject,
    configured,
    labelled,
    read_project,
)
from opskit.recovery.node_model import reload_model, restart_server
from opskit.recovery.procedure import Procedure, ProcedureResult
from opskit.recovery.startup import service_containers, standing, wait_until_well
from opskit.recovery.step import Command
from opskit.result import Finding, Status
from opskit.system.docker_records import SERVICE

_STOP_S = 120.0
_START_S = 120.0


@dataclass(frozen=True, slots=True)
class ModelService:
    """A service of Compose, or with `project` None a container that something else made."""

    service: str
    container: str | None = None
    project: ComposeProject | None = None
    count: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        return (self.service, self.container) if self.container else (self.service,)

    @property
    def commands(self) -> list[Command]:
        project = self.project
        if project is None:
            name = self.container or self.service
            return [Command(("docker", "stop", name), _STOP_S), Command(("docker", "start", name), _START_S)]
        scale = ("--scale", f"{self.service}={self.count}") if self.count > 1 else ()
        return [
            project.command("rm", "--stop", "--force", self.service, timeout_s=_STOP_S),
            project.command(*project.up, "--no-deps", *scale, self.service, timeout_s=_START_S),
        ]

    @property
    def warning(self) -> str:
        if self.project is None:
            return f"container {self.container} is stopped and started; nothing here could create it again"
        return (
            f"the containers of {self.service} (project {self.project.name}) are removed and created again; "
            "volumes stay, what they wrote elsewhere is lost"
        )


@dataclass(frozen=True, slots=True)
class NodeModel:
    """A node, with `model` None, or a model that it holds."""

    node: NodeConfig
    model: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.node.name,)

    @property
    def warning(self) -> str:
        what = f"model {self.model}" if self.model else "the server"
        return f"{what} on {self.node.name} is unloaded and loaded again; its requests are cut off"


async def find(procedure: Procedure, name: str) -> ModelService | NodeModel:
    """Return what NAME is; containers come first.

    Raises OpskitError RECOVER_002 with near names, RECOVER_003 for a paused one.
    """
    docker_problem = ""
    target: ModelService | NodeModel | None = None
    try:
        target = await _service(procedure, name)
    except OpskitError as error:
        if error.code != "DOCKER_001":
            raise
        docker_problem = f" ({error.message})"
    target = target or await _node(procedure, name)
    if target is None:
        raise await _unknown(procedure, name, docker_problem)
    procedure.check_pauses(name, *target.names)
    return target


async def recover(
    procedure: Procedure, target: ModelService | NodeModel, *, wait_s: float, url: str | None = None
) -> ProcedureResult:
    """Do it. `wait_s` is how long the start may take, `url` where to chat instead of what is known."""
    if isinstance(target, NodeModel):
        if target.model is None:
            return procedure.done(await restart_server(procedure, target.node, wait_s))
        return procedure.done(await reload_model(procedure, target.node, target.model, wait_s))
    if target.project is not None:
        await procedure.check_not_half_restored(target.project.compose.files)
    await procedure.check_nobody_is_at_it()
    await _check_image(procedure, target)
    failed = await procedure.do_all(target.commands)
    if procedure.dry:
        return procedure.done([])
    if failed is not None:
        detail = f"`{failed.command.shown}` failed: {failed.said}"
        findings = [Finding("start", target.service, Status.FAIL, "failed", detail, "DOCKER_003")]
    else:
        began = time.monotonic()
        findings = await _up(procedure, target, wait_s)
        if findings[0].status is Status.PASS:
            findings.append(
                await _chat(procedure, target, url, max(1.0, wait_s - (time.monotonic() - began)))
            )
    if any(finding.status is Status.FAIL for finding in findings):
        log = f"`docker logs --tail 50 {target.container}`" if target.container else "its log"
        procedure.notes.append(f"{log} tells why; to start it again: `{target.commands[-1].shown}`")
    return procedure.done(findings)


async def _up(procedure: Procedure, target: ModelService, wait_s: float) -> list[Finding]:
    service = target.service
    if target.project is not None:
        return await wait_until_well(
            procedure.context, target.project.name, [service], limit_s=wait_s, say=procedure.say, only=service
        )
    container = await read_container(procedure.context.docker, target.container or "")
    now = None if container is None else standing(container, {container.id: container}, datetime.now(UTC))
    # Its health may take its time: the chat waits for that.
    runs = now is not None and (now.well or not now.final or now.unchecked)
    status, state = (Status.PASS, "running") if runs else (Status.FAIL, "not running")
    words = state if now is None or now.assessment is None or runs else f"{state}: {now.words}"
    return [Finding("service", service, status, state, f"container {target.container} is {words}")]


async def _chat(procedure: Procedure, target: ModelService, url: str | None, limit_s: float) -> Finding:
    """Wait until it says that it is healthy, then ask it."""
    url = url or address(procedure.context.config, target.names, await _container(procedure, target))
    if url is None:
        why = "no port of it is published and its address is not configured, so nothing was asked"
        remedy = "give its address with --url"
        return Finding("chat", target.service, Status.INCONCLUSIVE, "not asked", why, remedy=remedy)
    procedure.say(f"waiting for {url}/health, then asking it")
    answer_s = procedure.context.config.budgets.total_s
    return await chat(url, target.names, healthy_s=limit_s, limit_s=answer_s)


async def _container(procedure: Procedure, target: ModelService) -> Container | None:
    if target.project is None:
        return await read_container(procedure.context.docker, target.container or "")
    containers = await service_containers(procedure.context, target.project.name, target.service)
    return next(iter(containers), None)


async def _check_image(procedure: Procedure, target: ModelService) -> None:
    """What is removed must be there to be created again: nothing is pulled or built here."""
    project = target.project
    if project is None:
        return
    container = await _container(procedure, target)
    names: tuple[str, ...] = () if container is None else (container.image,)
    if container is None and project.project is not None:
        names = tuple(project.project.services[target.service].images)
    if not any([await procedure.context.docker.found("image", name) for name in names if name]):
        raise OpskitError(
            "RECOVER_004",
            f"the image of {target.service} is not on this machine: {', '.join(names)}",
            remedy=f"`{project.shown} build {target.service}`, or pull it; then again",
        )
    try:
        services = await project.compose.services()
    except ValueError as exc:
        raise OpskitError("RECOVER_004", f"Compose does not accept its files: {exc}") from exc
    if target.service not in services:
        raise OpskitError(
            "RECOVER_004", f"the Compose files of {project.name} do not declare {target.service} any more"
        )


async def _service(procedure: Procedure, name: str) -> ModelService | None:
    docker = procedure.context.docker
    container = await read_container(docker, name)
    if container is None:
        listed = await docker.containers(labels=[f"{SERVICE}={name}"])
        if len({item.project for item in listed}) > 1:
            known = ", ".join(sorted(item.name for item in listed))
            problem = f"several projects have a service {name}"
            raise OpskitError("RECOVER_002", problem, remedy=f"name its container: {known}")
        container = await read_container(docker, listed[0].id) if listed else None
    if container is None:
        return await _declared(procedure, name)
    project, service = container.project, container.service
    if project is None or service is None:
        return ModelService(container.name, container.name)
    count = max(1, len(await service_containers(procedure.context, project, service)))
    return ModelService(service, container.name, await labelled(procedure.context, container, project), count)


async def _declared(procedure: Procedure, name: str) -> ModelService | None:
    """A service of the configured projects that has no container now."""
    for key in procedure.context.config.stack.compose:
        try:
            _, project = await read_project(procedure.context, key)
        except UnusableProject:
            continue
        if name in project.services:
            return ModelService(name, project=await configured(procedure.context, key))
    return None


async def _node(procedure: Procedure, name: str) -> NodeModel | None:
    nodes = procedure.context.config.nodes
    for node in nodes:
        if node.name == name:
            return NodeModel(node)
    for node in nodes:
        for model in await _models(procedure, node):
            if model.is_called(name):
                return NodeModel(node, model.name)
    return None


async def _models(procedure: Procedure, node: NodeConfig) -> tuple[ModelInfo, ...]:
    """What a node holds; nothing when it does not answer."""
    return (await procedure.context.survey.get(read_node, node)).models or ()


async def _unknown(procedure: Procedure, name: str, docker_problem: str) -> OpskitError:
    known = [node.name for node in procedure.context.config.nodes]
    for node in procedure.context.config.nodes:
        known += [name for model in await _models(procedure, node) for name in model.names]
    if not docker_problem:
        listed = await procedure.context.docker.containers()
        known += [word for item in listed for word in (item.name, item.service) if word]
    near = difflib.get_close_matches(name, dict.fromkeys(known), 3, 0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return OpskitError(
        "RECOVER_002",
        f"no container, service, node or model is called {name!r}{hint}{docker_problem}",
        remedy="`opskit models list` and `docker ps --all` show the names"
        + (f"; `opskit recover model {shlex.quote(near[0])}`" if near else ""),
    )
