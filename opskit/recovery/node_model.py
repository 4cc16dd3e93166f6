"""A model server restarted by its owner, or one model unloaded and loaded; a judged answer proves it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any

from opskit.checks.node_probe import probe_node
from opskit.checks.probe_record import ProbeOptions
from opskit.config.schema import NodeConfig
from opskit.errors import OpskitError
from opskit.facts.node import read_node
from opskit.llm.loads import load_budget_s
from opskit.providers.base import CallError
from opskit.providers.kinds import expected_kind
from opskit.providers.node import Node
from opskit.recovery.chat import PROMPT
from opskit.recovery.outcome import Ran
from opskit.recovery.procedure import Procedure
from opskit.recovery.step import Command
from opskit.recovery.steps.decision import ServerProblem
from opskit.recovery.steps.server_step import ServerStep
from opskit.recovery.unload import UNLOAD_S
from opskit.recovery.unload import unload as unload_model
from opskit.result import Finding, Status

_POLL_S = 0.5


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
        finding = await _answer(procedure, node, loaded, wait_s)
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
        failed = await _ask(procedure, unload, unload_model(provider, model))
        failed = failed or await _ask(procedure, load, provider.load(model))
    except CallError as error:
        why = f"{node.name} does not answer: {error.text}"
        return [Finding("node", node.name, Status.FAIL, error.cause.value, why, "COMM_001")]
    finally:
        await client.aclose()
    if failed:
        procedure.notes.append(f"nothing was deleted; `opskit probe --model {model}` loads it")
        return [Finding("load", model, Status.FAIL, "failed", failed, "MODEL_002")]
    return [await _answer(procedure, node, model, wait_s)]


def _request(node: NodeConfig, path: str, body: Mapping[str, Any], timeout_s: float) -> Command:
    """A request of the server's API, shown as one."""
    return Command(("POST", f"{node.url}{path}", json.dumps(body, ensure_ascii=False)), timeout_s)


async def _ask(procedure: Procedure, request: Command, work: Awaitable[Any]) -> str:
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


async def _answer(procedure: Procedure, node: NodeConfig, model: str | None, wait_s: float) -> Finding:
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
