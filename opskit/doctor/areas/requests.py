"""Requests: prompts that are cut, clients with different num_ctx, an MLX server that gets no work."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial

from opskit.checks.agent_probe import probe_agent
from opskit.checks.node_probe import probe_node
from opskit.checks.probe_record import NodeProbe
from opskit.checks.spec import Check, CheckContext, NotHere, Observation, assessing
from opskit.checks.state import GONE
from opskit.doctor.areas.failures import judge_failures, noted
from opskit.doctor.areas.models import silencing
from opskit.doctor.cause import Cause, key_of, warning
from opskit.doctor.evidence import Evidence
from opskit.doctor.target import ExaminationTarget
from opskit.facts.kernel_log import read_kernel_kills
from opskit.facts.model_requests import CutPrompt, read_container_requests, read_own_requests
from opskit.facts.server_log import read_server_log
from opskit.facts.stack_containers import read_stack_containers
from opskit.logs.calls import ModelCall
from opskit.system.network import endpoint
from opskit.text import counted, listing

#: A token is at most a word in the prompt of `--deep`, so fewer tokens than this share of it mean a cut.
_READ_SHARE = 0.9
#: So many requests in the last hour are work, and a share that never reaches MLX is no accident.
_WORK = 5
_LOGGING = ("running", "restarting", "exited")


def checks(target: ExaminationTarget) -> Iterator[Check]:
    imports = ("opskit.logs.select", "opskit.logs.container")
    check = partial(assessing, "requests", target="logs", timeout_s=20.0, tags=("requests",), imports=imports)
    # The probes tell too whether what failed is well again.
    probes = [f"node {node.name}" for node in target.config.nodes]
    probes += [f"agent {agent.name}" for agent in target.config.agents]
    yield check(_of_files, target, name="requests", after=probes)
    yield check(_of_containers, None, name="requests of containers", requires=("containers",))


async def _of_files(target: ExaminationTarget, context: CheckContext) -> Observation:
    survey = context.survey
    own, kills, logs = await asyncio.gather(
        survey.get(read_own_requests),
        survey.get(read_kernel_kills),
        asyncio.gather(*(survey.get(read_server_log, node) for node in target.config.nodes)),
    )
    nodes, agents = survey.known(probe_node).values(), survey.known(probe_agent).values()
    problem, note = noted(judge_failures([*nodes, *agents], [own], logs, kills))
    cuts = [cut for log in logs for cut in log.cuts]
    if not (own.requests or own.calls or cuts or problem or note):
        raise NotHere("no log tells of a request in the last hour")
    requests, failed = sum(own.requests.values()), own.requests.get("failed", 0)
    detail = f"{counted(requests, 'request')} in the last hour, {counted(len(own.calls), 'call')}"
    detail = "; ".join(filter(None, (f"{detail}, {failed} failed" if failed else detail, note)))
    return Observation({}, detail, problem=problem, state="failing" if problem else "ok")


async def _of_containers(_: None, context: CheckContext) -> Observation:
    survey = context.survey
    stack = await survey.get(read_stack_containers)
    names = [container.name for container in stack.survey.containers if container.status in _LOGGING]
    logs = await asyncio.gather(*(survey.get(read_container_requests, name) for name in names))
    calls = sum(len(log.calls) for log in logs)
    if not calls:
        raise NotHere("no container tells of a request in the last hour")
    return Observation({}, f"{counted(calls, 'request')} in the last hour", state="ok")


def causes(evidence: Evidence) -> Iterator[Cause]:
    for probe in evidence.nodes:
        if probe.facts.likely_kind.context_per_request:
            yield from _differing_contexts(probe, evidence)
            yield from _small_context(probe, evidence)
    yield from _cut_prompts(evidence)
    yield from _idle_mlx(evidence)


def _small_context(probe: NodeProbe, evidence: Evidence) -> Iterator[Cause]:
    name, wanted, resident = probe.config.name, probe.config.num_ctx, probe.facts.resident
    trained = {model.name: model.context_length for model in probe.facts.models or ()}
    signs = [
        f"{model.name} is loaded with a context of {model.context_length}, `num_ctx` is {wanted}"
        for model in resident
        if wanted
        and model.context_length
        and model.context_length < min(wanted, trained.get(model.name) or wanted)
    ]
    prompt = evidence.prompts.get(name)
    if prompt is not None and prompt.tokens is not None and prompt.tokens < prompt.words * _READ_SHARE:
        read = counted(prompt.tokens, "token")
        signs.append(f"{prompt.model} was sent {prompt.words} words and read {read} of them")
    if signs:
        yield _truncated(
            name,
            f"long prompts to {name} are cut, without an error",
            tuple(signs),
            model=resident[0].name if resident else "NAME",
            because=tuple(key_of("num-ctx-differs", f"{name}/{model.name}") for model in resident),
        )


def _cut_prompts(evidence: Evidence) -> Iterator[Cause]:
    by_source: dict[str, list[CutPrompt]] = {}
    readings = [log.cuts for log in evidence.requests] + [log.cuts for log in evidence.server_logs]
    for reading in readings:
        for source in {cut.source for cut in reading}:
            # The log of a container of the stack that is also a node is read twice.
            of_source = [cut for cut in reading if cut.source == source]
            by_source[source] = max(by_source.get(source, []), of_source, key=len)
    cuts = [cut for of_source in by_source.values() for cut in of_source]
    if cuts:
        worst = max(cuts, key=lambda cut: cut.prompt - cut.limit)
        signs = [
            f"{source}: {counted(len(of_source), 'prompt')} in the last hour"
            for source, of_source in by_source.items()
        ]
        signs.insert(1, f"one of {worst.prompt} tokens at a limit of {worst.limit}")
        title = "Ollama cut prompts that were longer than its context"
        yield _truncated(worst.source, title, tuple(signs))


def _truncated(
    target: str, title: str, signs: tuple[str, ...], *, model: str = "NAME", because: tuple[str, ...] = ()
) -> Cause:
    return warning(
        id="context-truncated",
        target=target,
        title=title,
        evidence=signs,
        remedy=f"`ollama stop {model}`, and let all clients ask with one larger `num_ctx` (or set "
        "OLLAMA_CONTEXT_LENGTH where Ollama is started); or send less",
        because=because,
    )


def _differing_contexts(probe: NodeProbe, evidence: Evidence) -> Iterator[Cause]:
    """A different num_ctx is another runner to Ollama: it unloads and loads the model (wire facts A3)."""
    node = probe.config.name
    configured = dict(_configured_contexts(probe, evidence))
    by_model: dict[str, dict[str, int]] = {}
    for requests in evidence.requests:
        for call in requests.calls:
            if call.node == node and call.num_ctx is not None and call.model:
                sizes = by_model.setdefault(call.model, {})
                # One client that changes its mind is as bad as two that differ.
                changes = sizes.get(requests.client, call.num_ctx) != call.num_ctx
                sizes[f"{requests.client} again" if changes else requests.client] = call.num_ctx
    contexts = {model: {**configured, **sizes} for model, sizes in by_model.items()} or {"": configured}
    for model, sizes in contexts.items():
        if len(set(sizes.values())) < 2:
            continue
        what = model or f"the models of {node}"
        yield warning(
            id="num-ctx-differs",
            target=f"{node}/{model}" if model else node,
            title=f"clients ask {what} with different num_ctx: it reloads at each change",
            evidence=tuple(f"{client} asks with {size}" for client, size in sorted(sizes.items())),
            remedy=f"let {listing(sorted(sizes))} use one value: {max(sizes.values())}",
        )


def _configured_contexts(probe: NodeProbe, evidence: Evidence) -> Iterator[tuple[str, int]]:
    """What clients are set up to ask with: the configuration, and variables of containers."""
    for node in evidence.config.nodes:
        if node.url == probe.config.url and node.num_ctx is not None:
            yield f"`nodes.{node.name}.num_ctx`", node.num_ctx
    port = endpoint(probe.config.url)[1]
    for container in evidence.containers:
        environment = container.environment
        if not any(url.port == port for url in environment.urls.values()):
            continue
        for name in ("OLLAMA_NUM_CTX", "NUM_CTX"):
            text = environment.settings.get(name, "")
            if text.isdigit():
                yield f"container {container.name} ({name})", int(text)
                break


def _idle_mlx(evidence: Evidence) -> Iterator[Cause]:
    """MLX idle while Ollama works (SPEC B13): with its cause, or nothing is said."""
    probe = next((probe for probe in evidence.nodes if probe.config.is_mlx), None)
    is_mac = evidence.target.platform == "darwin"
    if probe is None or not (probe.config.explicit or probe.config.required or is_mac):
        return
    sources = {node.name: node.source for node in evidence.config.nodes}
    calls: dict[str, list[ModelCall]] = {}
    for call in (call for requests in evidence.requests for call in requests.calls if call.node):
        # Other writers name the kind of back end in the place of a node.
        calls.setdefault(sources.get(str(call.node), str(call.node)), []).append(call)
    to_ollama, to_mlx = calls.get("ollama", []), calls.get("mlx", [])
    if len(to_ollama) < _WORK or any(call.outcome != "fault" for call in to_mlx):
        return
    reason = _why_idle(probe, to_mlx, evidence)
    if reason is None:
        return
    title, signs, remedy = reason
    work = f"in the last hour {counted(len(to_ollama), 'request')} went to Ollama, none was answered by MLX"
    yield warning(
        id="mlx-idle",
        target=probe.config.name,
        title=f"MLX is idle while Ollama works: {title}",
        evidence=(work, *signs),
        remedy=remedy,
        claims=frozenset({"requests"}),
        because=silencing(probe.config.name),
    )


def _why_idle(
    probe: NodeProbe, to_mlx: Sequence[ModelCall], evidence: Evidence
) -> tuple[str, tuple[str, ...], str] | None:
    if probe.state in GONE:
        hint = probe.facts.likely_kind.start_hint(probe.config.url)
        return "it is not running", (), f"start it: {hint}"
    if to_mlx:
        faults = listing(sorted({call.fault or "failed" for call in to_mlx}))
        sign = f"{counted(len(to_mlx), 'request')} to MLX failed: {faults}"
        remedy = "`opskit probe --use-mlx` tests it; its circuit closes by itself once it answers"
        return "every request to it failed", (sign,), remedy
    if not evidence.config.router.use_mlx_fallback:
        remedy = "set USE_MLX_FALLBACK=true (or `router.use_mlx_fallback: true`)"
        return "USE_MLX_FALLBACK is false", (), remedy
    variables = {"OLLAMA_API_URL", "OLLAMA_BASE_URL"}
    environments = ((container.name, container.environment) for container in evidence.containers)
    workers = [(name, known) for name, known in environments if variables & known.names]
    settings = ((name, environment.settings.get("USE_MLX_FALLBACK", "")) for name, environment in workers)
    forbidden = next((name for name, text in settings if text.lower() in ("false", "0", "no")), None)
    if forbidden is not None:
        remedy = f"set USE_MLX_FALLBACK=true for {forbidden}, then `docker compose up -d`"
        sign = f"container {forbidden} has USE_MLX_FALLBACK=false"
        return f"{forbidden} may not use it", (sign,), remedy
    unaware = [name for name, environment in workers if "MLX_API_URL" not in environment.names]
    if unaware:
        names = listing(unaware)
        sign = f"{names}: OLLAMA_* is set, MLX_API_URL is not"
        url = "MLX_API_URL=http://host.docker.internal:11435"
        return f"{names} does not know of it", (sign,), f"set {url} for {names}, then `docker compose up -d`"
    return None
