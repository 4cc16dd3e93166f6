"""`recover model NAME` (SPEC C14): stop, remove, start again, wait for the load, and a real chat to prove it.

NAME is a container or a Compose service (starcoder-chat), a model node, or a model that a node holds. What
could not be started again afterwards is not taken down.
"""

import asyncio
import json
import shlex
import time
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import Any

from opskit.checks.container_assessment import ContainerCondition
from opskit.checks.node_probe import probe_node
from opskit.checks.probe_record import ProbeOptions
from opskit.config.schema import NodeConfig
from opskit.errors import OpskitError
from opskit.facts.container import Container
from opskit.facts.container_survey import read_container
from opskit.facts.node import read_node
from opskit.llm.loads import load_budget_s
from opskit.providers.base import CallError, ModelInfo
from opskit.providers.kinds import expected_kind
from opskit.providers.node import Node
from opskit.records import Record, replace
from opskit.recovery.chat import PROMPT, address, chat
from opskit.recovery.compose_projects import ComposeProject, configured, labelled, usable_projects
from opskit.recovery.outcome import Ran
from opskit.recovery.procedure import Procedure
from opskit.recovery.startup import is_final, service_containers, standing, wait_until_well, words
from opskit.recovery.step import Command
from opskit.recovery.steps.decision import ServerProblem
from opskit.recovery.steps.server_step import ServerStep
from opskit.recovery.unload import UNLOAD_S
from opskit.recovery.unload import unload as unload_model
from opskit.result import Finding, Status
from opskit.system.docker_records import SERVICE
from opskit.text import near_names

_STOP_S = 120.0
_START_S = 120.0
_POLL_S = 0.5
_RUNNING = (ContainerCondition.WELL, ContainerCondition.UNCHECKED)


class ModelService(Record):
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


class NodeModel(Record):
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
) -> Procedure:
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


async def restart_server(procedure: Procedure, node: NodeConfig, wait_s: float) -> list[Finding]:
    """Restart the server of a node the way its owner does; then wait for a token and judge an answer.

    Raises OpskitError RECOVER_004 when nobody is known who would start it again.
    """
    config = procedure.context.config
    before = await read_node(procedure.context.survey, node)
    # Asked for by a person: nothing is too young to be restarted.
    rules = replace(config.recovery, startup_grace_s=0.0, load_grace_s=0.0)
    step = ServerStep(replace(procedure.context, config=replace(config, recovery=rules)), node)
    problem = ServerProblem("restart", "a restart was asked for", speaks=before.version is not None)
    restart = await step.planned(problem)
    repair = restart.repair
    if repair is None:
        remedy = restart.remedy or f"set `stack.start.{node.name}`"
        raise OpskitError("RECOVER_004", f"{node.name}: {restart.cause}", remedy=remedy)
    failed = await procedure.do_all(repair.commands)
    if procedure.dry:
        return []
    if failed is not None:
        detail = f"`{failed.command.shown}` failed: {failed.said}"
        remedy = f"`opskit probe` shows how {node.name} is"
        finding = Finding("restart", node.name, Status.FAIL, "failed", detail, "MODEL_001", remedy)
    else:
        # What was loaded before is loaded again; a server that loads only at its start loads its own.
        on_demand = expected_kind(node.source).loads_on_demand
        loaded = next((model.name for model in before.resident if on_demand), None)
        procedure.say(f"waiting for a token of {node.name}, for {wait_s:.0f} s at most")
        finding = await _judged_answer(procedure, node, loaded, wait_s)
        await step.note_start()
    if finding.status is Status.FAIL:
        procedure.notes.append(f"to go back: {repair.undo}")
    return [finding]


async def reload_model(procedure: Procedure, node: NodeConfig, model: str, wait_s: float) -> list[Finding]:
    """Unload one model and load it again, then judge its answer. The model itself is never deleted.

    On a server that only loads at its start this is a restart.
    """
    client = Node(node, procedure.context.config.budgets)
    try:
        provider = await client.provider()
        if not provider.kind.loads_on_demand:
            return await restart_server(procedure, node, wait_s)
        size = next((known.size_bytes for known in await provider.models() if known.name == model), None)
        load_s = max(wait_s, load_budget_s(procedure.context.config.budgets, size))
        unload = _request(node, "/api/generate", {"model": model, "keep_alive": 0}, UNLOAD_S)
        load = _request(node, "/api/chat", {"model": model, "messages": []}, load_s)
        if procedure.dry:
            procedure.planned += [unload, load]
            return []
        failed = await _requested(procedure, unload, unload_model(provider, model))
        failed = failed or await _requested(procedure, load, provider.load(model))
    except CallError as error:
        why = f"{node.name} does not answer: {error.text}"
        return [Finding("node", node.name, Status.FAIL, error.cause.value, why, "COMM_001")]
    finally:
        await client.aclose()
    if failed:
        procedure.notes.append(f"nothing was deleted; `opskit probe --model {model}` loads it")
        return [Finding("load", model, Status.FAIL, "failed", failed, "MODEL_002")]
    return [await _judged_answer(procedure, node, model, wait_s)]


def _request(node: NodeConfig, path: str, body: Mapping[str, Any], timeout_s: float) -> Command:
    """A request of the server's API, shown as one."""
    return Command(("POST", f"{node.url}{path}", json.dumps(body, ensure_ascii=False)), timeout_s)


async def _requested(procedure: Procedure, request: Command, work: Awaitable[Any]) -> str:
    """Make one request of the server's API, recorded like a command. Empty when it succeeded."""
    procedure.say(f"$ {request.shown}")
    began, problem = time.monotonic(), ""
    try:
        async with asyncio.timeout(request.timeout_s):
            await work
    except CallError as error:
        problem = error.text
    except TimeoutError:
        problem = f"no end within {request.timeout_s:g} s"
    procedure.record(Ran(request, None if problem else 0, time.monotonic() - began, problem))
    return f"`{request.shown}`: {problem}" if problem else ""


async def _judged_answer(procedure: Procedure, node: NodeConfig, model: str | None, wait_s: float) -> Finding:
    """A judged answer, as soon as the server gives one; else how it stood at last."""
    deadline = time.monotonic() + wait_s
    load = model is not None or expected_kind(node.source).loads_on_demand
    options = ProbeOptions(model=model, load=load, goal=PROMPT, required=True)
    while True:
        probe = await probe_node(procedure.context.survey, node, options)
        finding = probe.finding()
        if probe.is_well and probe.answer:
            detail = f"{probe.detail}; it answered {probe.answer[:60]!r}"
            return replace(finding, detail=detail, remedy=None)
        if time.monotonic() + _POLL_S > deadline or probe.facts.models == ():
            return replace(finding, status=Status.FAIL)
        await asyncio.sleep(_POLL_S)


async def _up(procedure: Procedure, target: ModelService, wait_s: float) -> list[Finding]:
    service = target.service
    if target.project is not None:
        return await wait_until_well(
            procedure.context, target.project.name, [service], limit_s=wait_s, say=procedure.say, only=service
        )
    container = await read_container(procedure.context.docker, target.container or "")
    now = None if container is None else standing(container, {container.id: container}, datetime.now(UTC))
    # Its health may take its time: the chat waits for that.
    runs = now is not None and (not is_final(now) or now.condition in _RUNNING)
    status, state = (Status.PASS, "running") if runs else (Status.FAIL, "not running")
    detail = state if now is None or runs else f"{state}: {words(now)}"
    return [Finding("service", service, status, state, f"container {target.container} is {detail}")]


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
        async for key, declared in usable_projects(procedure.context):
            if name in declared.services:
                return ModelService(name, project=await configured(procedure.context, key))
        return None
    project, service = container.project, container.service
    if project is None or service is None:
        return ModelService(container.name, container.name)
    count = max(1, len(await service_containers(procedure.context, project, service)))
    return ModelService(service, container.name, await labelled(procedure.context, container, project), count)


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
    near = near_names(name, known)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return OpskitError(
        "RECOVER_002",
        f"no container, service, node or model is called {name!r}{hint}{docker_problem}",
        remedy="`opskit models list` and `docker ps --all` show the names"
        + (f"; `opskit recover model {shlex.quote(near[0])}`" if near else ""),
    )
