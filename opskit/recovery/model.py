"""`recover model NAME` (SPEC C14): stop, remove, start again, wait for the load, and a real chat to prove it.

NAME is a container or a Compose service (starcoder-chat), a model node, or a model that a node holds. What
could not be started again afterwards is not taken down.
"""

import asyncio
import difflib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from opskit.config.schema import NodeConfig
from opskit.errors import OpskitError
from opskit.facts.container import Container
from opskit.facts.container_survey import read_container
from opskit.facts.node import read_node
from opskit.llm.plan import same_model
from opskit.recovery.chat import address, chat, healthy
from opskit.recovery.compose_projects import (
    ComposeProject,
    UnusableProject,
    configured,
    labelled,
    read_project,
)
from opskit.recovery.node_model import anew, reload
from opskit.recovery.procedure import Procedure, ProcedureResult
from opskit.recovery.startup import containers_of, risen, standing
from opskit.recovery.step import Command
from opskit.result import Finding, Status
from opskit.system.docker_records import SERVICE

_STOP_S = 120.0
_START_S = 120.0
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class ModelService:
    """A service of Compose, or with `work` None a container that something else made."""

    container: str | None
    service: str
    work: ComposeProject | None
    count: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in (self.service, self.container) if name)


@dataclass(frozen=True, slots=True)
class NodeModel:
    """A node, with `model` None, or a model that it holds."""

    node: NodeConfig
    model: str | None


Target = ModelService | NodeModel


async def found(it: Procedure, name: str) -> Target:
    """What NAME is; containers come first. Raises OpskitError RECOVER_002 with near names, RECOVER_003."""
    problem: OpskitError | None = None
    try:
        service = await _service(it, name)
    except OpskitError as error:
        if error.code != "DOCKER_001":
            raise
        service, problem = None, error
    target = service or await _node(it, name)
    if target is None:
        raise await _unknown(it, name, problem)
    it.check_pauses(name, *(target.names if isinstance(target, ModelService) else (target.node.name,)))
    return target


def commands(target: ModelService) -> list[Command]:
    """What is run for a service or a container, in order. Pure."""
    if target.work is None:
        name = target.container or target.service
        return [Command(("docker", "stop", name), _STOP_S), Command(("docker", "start", name), _START_S)]
    scale = ("--scale", f"{target.service}={target.count}") if target.count > 1 else ()
    work = target.work
    return [
        work.command("rm", "--stop", "--force", target.service, timeout_s=_STOP_S),
        work.command(*work.up, "--no-deps", *scale, target.service, timeout_s=_START_S),
    ]


def warned(target: Target) -> str:
    """What a person agrees to. Pure."""
    if isinstance(target, NodeModel):
        what = f"model {target.model}" if target.model else "the server"
        return f"{what} on {target.node.name} is unloaded and loaded again; its requests are cut off"
    if target.work is None:
        return f"container {target.container} is stopped and started; nothing here could make it anew"
    return (
        f"the containers of {target.service} (project {target.work.name}) are removed and made anew; "
        "volumes stay, what they wrote elsewhere is lost"
    )


async def recover(it: Procedure, target: Target, *, wait_s: float, url: str | None = None) -> ProcedureResult:
    """Do it. `wait_s` is how long the start may take, `url` where to chat instead of what is known."""
    if isinstance(target, NodeModel):
        findings = await (
            anew(it, target.node, wait_s)
            if target.model is None
            else reload(it, target.node, target.model, wait_s)
        )
        return it.done(findings)
    await it.check_nobody_is_at_it()
    await _check_image(it, target)
    failed = await it.do_all(commands(target))
    if it.dry:
        return it.done([])
    if failed is not None:
        detail = f"`{failed.command.shown}` failed: {failed.said}"
        it.notes.append(_back(target))
        return it.done([Finding("start", target.service, Status.FAIL, "failed", detail, "DOCKER_003")])
    began = time.monotonic()
    findings = await _up(it, target, wait_s)
    if findings[0].status is Status.PASS:
        findings.append(await _chat(it, target, url, max(1.0, wait_s - (time.monotonic() - began))))
    if any(one.status is Status.FAIL for one in findings):
        it.notes.append(_back(target))
    return it.done(findings)


async def _up(it: Procedure, target: ModelService, wait_s: float) -> list[Finding]:
    if target.work is not None:
        return await risen(
            it.context,
            target.work.name,
            [target.service],
            limit_s=wait_s,
            say=it.say,
            narrow=target.service,
        )
    container = await read_container(it.context.docker, target.container or "")
    now = None if container is None else standing(container, {container.id: container}, datetime.now(UTC))
    # Its health may take its time: the chat waits for that.
    runs = now is not None and (now.well or not now.final or now.unchecked)
    status, state = (Status.PASS, "running") if runs else (Status.FAIL, "not running")
    words = state if now is None or now.assessment is None or runs else f"{state}: {now.words}"
    return [Finding("service", target.service, status, state, f"container {target.container} is {words}")]


async def _chat(it: Procedure, target: ModelService, url: str | None, limit_s: float) -> Finding:
    """Wait until it says that it is healthy, then ask it."""
    where = url or address(it.context.config, target.names, await _container(it, target))
    if where is None:
        why = "no port of it is published and its address is not configured, so nothing was asked"
        remedy = "give its address with --url"
        return Finding("chat", target.service, Status.INCONCLUSIVE, "not asked", why, remedy=remedy)
    it.say(f"waiting for {where}/health, then asking it")
    limit = time.monotonic() + limit_s
    while True:
        if await healthy(where) or time.monotonic() + _POLL_S > limit:
            return await chat(where, target.names, limit_s=it.context.config.budgets.total_s)
        await asyncio.sleep(_POLL_S)


async def _container(it: Procedure, target: ModelService) -> Container | None:
    if target.work is None:
        return await read_container(it.context.docker, target.container or "")
    return next(iter(await containers_of(it.context, target.work.name, target.service)), None)


async def _check_image(it: Procedure, target: ModelService) -> None:
    """What is removed must be there to be made again: nothing is pulled or built here."""
    if target.work is None:
        return
    container = await _container(it, target)
    project = target.work.project
    names: Sequence[str] = ()
    if container is not None:
        names = (container.image,)
    elif project is not None:
        names = project.services[target.service].images
    there = [await it.context.docker.found("image", name) for name in names if name]
    if not any(there):
        raise OpskitError(
            "RECOVER_004",
            f"the image of {target.service} is not on this machine: {', '.join(names)}",
            remedy=f"`{target.work.shown} build {target.service}`, or pull it; then again",
        )
    try:
        services = await target.work.compose.services()
    except ValueError as exc:
        raise OpskitError("RECOVER_004", f"Compose does not accept its files: {exc}") from exc
    if target.service not in services:
        raise OpskitError(
            "RECOVER_004", f"the Compose files of {target.work.name} do not declare {target.service} any more"
        )


def _back(target: ModelService) -> str:
    logs = f"`docker logs --tail 50 {target.container}`" if target.container else "its log"
    last = commands(target)[-1].shown
    return f"{logs} tells why; to start it again: `{last}`"


async def _service(it: Procedure, name: str) -> ModelService | None:
    container = await read_container(it.context.docker, name)
    if container is None:
        listed = await it.context.docker.containers(labels=[f"{SERVICE}={name}"])
        projects = {one.project for one in listed}
        if len(projects) > 1:
            known = ", ".join(sorted(one.name for one in listed))
            why = f"several projects have a service {name}"
            raise OpskitError("RECOVER_002", why, remedy=f"name its container: {known}")
        container = await read_container(it.context.docker, listed[0].id) if listed else None
    if container is None:
        return await _declared(it, name)
    project, service = container.project, container.service
    if project is None or service is None:
        return ModelService(container.name, container.name, None)
    count = len(await containers_of(it.context, project, service))
    return ModelService(
        container.name, service, await labelled(it.context, container, project), max(1, count)
    )


async def _declared(it: Procedure, name: str) -> ModelService | None:
    """A service of the configured projects that has no container now."""
    for key in it.context.config.stack.compose:
        try:
            _, project = await read_project(it.context, key)
        except UnusableProject:
            continue
        if name in project.services:
            return ModelService(None, name, await configured(it.context, key))
    return None


async def _node(it: Procedure, name: str) -> NodeModel | None:
    nodes = it.context.config.nodes
    for node in nodes:
        if node.name == name:
            return NodeModel(node, None)
    for node in nodes:
        held = next((one for one in await _models(it, node) if same_model(name, one)), None)
        if held is not None:
            return NodeModel(node, held)
    return None


async def _models(it: Procedure, node: NodeConfig) -> list[str]:
    """What a node holds; nothing when it does not answer."""
    facts = await it.context.survey.get(read_node, node)
    return [model.name for model in facts.models or ()]


async def _unknown(it: Procedure, name: str, problem: OpskitError | None) -> OpskitError:
    known = [node.name for node in it.context.config.nodes]
    for node in it.context.config.nodes:
        known += await _models(it, node)
    if problem is None:
        listed = await it.context.docker.containers()
        known += [word for one in listed for word in (one.name, one.service) if word]
    near = difflib.get_close_matches(name, dict.fromkeys(known), 3, 0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    told = f" ({problem.message})" if problem is not None else ""
    return OpskitError(
        "RECOVER_002",
        f"no container, service, node or model is called {name!r}{hint}{told}",
        remedy="`opskit models list` and `docker ps --all` show the names"
        + (f"; `opskit recover model {shlex.quote(near[0])}`" if near else ""),
    )
