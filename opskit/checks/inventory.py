"""What the nodes hold and what is loaded just now: rows for a table, and findings for what cannot be told.

All nodes are read side by side, each under `budgets.metadata_s`, by their metadata alone: nothing is loaded,
and no model is asked.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePath
from typing import Any

from opskit.checks.remedies import node_remedy
from opskit.checks.state import CODES, NodeState, state_of
from opskit.config.schema import NodeConfig
from opskit.llm.catalog import NodeView, generates
from opskit.llm.faults import Fault, FaultKind, classify
from opskit.llm.fit import Fit, gib
from opskit.providers.base import DEFAULT_MODEL, CallError, ModelInfo, Provider, Resident
from opskit.providers.kinds import ServerKind
from opskit.providers.node import Node
from opskit.result import Finding, Report, Status
from opskit.system.host import is_loopback
from opskit.system.network import endpoint

#: An expiry this far away means for ever.
_FOR_EVER_S = 365 * 86_400.0
INSTALLED_COLUMNS = ("node", "model", "size", "params", "quant", "loaded", "fits", "context")
LOADED_COLUMNS = ("node", "model", "memory", "on GPU", "context", "expires in")


@dataclass(frozen=True, slots=True)
class NodeInventory:
    """One node as it answered just now.

    `silence` is why it does not tell what is loaded; `started_with` the model behind DEFAULT_MODEL, where
    that can be told.
    """

    node: NodeConfig
    view: NodeView
    seconds: float
    silence: Fault | None = None
    started_with: str | None = None

    def shown(self, model: str) -> str:
        """A model's name for people."""
        return f"{self.started_with} (default)" if model == DEFAULT_MODEL and self.started_with else model

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """Each model once: the default one may be listed a second time under its own name."""
        return tuple(model for model in self.view.models if model.name != self.started_with)


@dataclass(frozen=True, slots=True)
class Installed:
    """A model that a node holds. `loaded` None means that it cannot be told."""

    node: str
    model: ModelInfo
    shown: str
    loaded: bool | None
    fit: Fit

    def as_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "model": self.model.name,
            "name": self.shown,
            "size_bytes": self.model.size_bytes,
            "parameters": self.model.parameters,
            "quantization": self.model.quantization,
            "context_length": self.model.context_length,
            "loaded": self.loaded,
            "cloud": self.model.cloud,
            "fits": self.fit.ok,
            "fit": self.fit.reason,
        }

    def cells(self) -> list[str]:
        """One row under INSTALLED_COLUMNS."""
        model = self.model
        fits = {True: "yes", None: "?"}.get(self.fit.ok) or self.fit.reason.replace("it does not fit", "no")
        return [
            self.node,
            self.shown,
            _size(model.size_bytes),
            _billions(model.parameters),
            model.quantization or "?",
            "-" if model.cloud else {True: "yes", False: "no", None: "?"}[self.loaded],
            "in the cloud" if model.cloud else fits,
            str(model.context_length or "?"),
        ]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory. `expires_in_s` is infinite for one that stays, None when nothing is told.

    `kind` is the server that holds it.
    """

    node: str
    resident: Resident
    shown: str
    expires_in_s: float | None
    kind: ServerKind | None = None

    @property
    def gpu_share(self) -> float | None:
        """The part in GPU memory, 0 to 1."""
        size, vram = self.resident.size_bytes, self.resident.size_vram_bytes
        return min(1.0, vram / size) if size and vram is not None else None

    def as_json(self) -> dict[str, Any]:
        stays = self.expires_in_s == math.inf
        share = self.gpu_share
        return {
            "node": self.node,
            "model": self.resident.name,
            "name": self.shown,
            "size_bytes": self.resident.size_bytes,
            "size_vram_bytes": self.resident.size_vram_bytes,
            "gpu_share": None if share is None else round(share, 4),
            "context_length": self.resident.context_length,
            "expires_in_s": None if self.expires_in_s is None or stays else round(self.expires_in_s, 1),
            "stays": stays,
        }

    def cells(self) -> list[str]:
        """One row under LOADED_COLUMNS."""
        share = self.gpu_share
        return [
            self.node,
            self.shown,
            _size(self.resident.size_bytes),
            "?" if share is None else f"{share:.0%}",
            str(self.resident.context_length or "?"),
            _remaining(self.expires_in_s),
        ]


async def look(nodes: Sequence[Node]) -> tuple[NodeInventory, ...]:
    """Read all nodes at once; as slow as the slowest, which is cut off by its own deadline."""
    return tuple(await asyncio.gather(*map(_look, nodes)))


async def look_again(node: Node, before: NodeInventory) -> NodeInventory:
    """A node once more, for those who look often: a sign of life and what is loaded, nothing else is asked.

    Its list of models and what it was started with are taken over from `before`: mlx_lm.server reads its
    whole cache for each list (wire facts B1).
    """
    began = time.monotonic()
    try:
        provider = await node.provider()
        alive, resident = await asyncio.gather(
            provider.version(), provider.resident(), return_exceptions=True
        )
        if isinstance(alive, BaseException):
            raise alive
        if isinstance(resident, BaseException) and not isinstance(resident, CallError):
            raise resident
    except CallError as error:
        view = NodeView(node.name, node.source, fault=classify(error))
        return NodeInventory(node.config, view, time.monotonic() - began)
    took = time.monotonic() - began
    return _seen(node, provider, before.view.models, resident, before.started_with, took)


def installed(
    seen: Sequence[NodeInventory], fits: Callable[[NodeView, ModelInfo], Fit]
) -> tuple[list[Installed], Report]:
    """What there is to choose from."""
    rows = [_installed(one, model, fits) for one in seen for model in one.models]
    findings = [node_finding(one) if one.silence is None else as_news(_tells(one)) for one in seen]
    return rows, Report("models list", [*findings, *_nobody(seen)])


def loaded(seen: Sequence[NodeInventory], now: datetime) -> tuple[list[LoadedModel], Report]:
    """What is in memory. A model that is partly on the CPU is a warning: it is many times slower."""
    rows: list[LoadedModel] = []
    findings: list[Finding] = []
    for one in seen:
        rows += (here := [_loaded(one, resident, now) for resident in one.view.resident])
        findings.append(_tells(one) if one.view.fault is None else node_finding(one))
        findings += [_resident_finding(row) for row in here]
    return rows, Report("models loaded", [*findings, *_nobody(seen)])


def node_finding(seen: NodeInventory) -> Finding:
    """A node that was read passes; one that was not says why, and what to type next."""
    node, fault = seen.node, seen.view.fault
    if fault is None:
        return _with_models(seen)
    state = state_of(fault)
    detail = f"{node.url}: {fault.detail}"
    remedy = node_remedy(node, state, model=None, process=None, kind=seen.view.kind)
    if fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT and fault.status is None:
        return _silent(seen, detail)
    status = Status.FAIL
    if state in (NodeState.BUSY, NodeState.LOADING):
        status = Status.INCONCLUSIVE
    elif state in (NodeState.REFUSED, NodeState.UNREACHABLE) and not node.required:
        status = Status.WARN if node.explicit else Status.SKIP
    code = CODES.get(state) if status in (Status.FAIL, Status.WARN) else None
    return Finding("node", node.name, status, state.shown, detail, code, remedy, seen.seconds)


def _silent(seen: NodeInventory, detail: str) -> Finding:
    """So short a silence does not tell a busy server from a wedged one; a probe has the evidence."""
    return Finding(
        "node",
        seen.node.name,
        Status.INCONCLUSIVE,
        "silent",
        f"{detail}: it is busy, loading or wedged",
        "MODEL_002",
        "`opskit probe --verbose` tells which",
        seen.seconds,
    )


def as_news(finding: Finding) -> Finding:
    """The same, where something else decides: a node that could not be read is told, and fails nothing."""
    if finding.status in (Status.FAIL, Status.INCONCLUSIVE):
        return replace(finding, status=Status.WARN)
    return finding


def unread(seen: Sequence[NodeInventory]) -> list[Finding]:
    """The nodes that did not tell everything, as news."""
    told = [node_finding(one) if one.view.fault is not None else _tells(one) for one in seen]
    return [as_news(finding) for finding in told if finding.status is not Status.PASS]


async def _look(node: Node) -> NodeInventory:
    began = time.monotonic()
    try:
        provider = await node.provider()
        models, resident = await asyncio.gather(
            provider.models(), provider.resident(), return_exceptions=True
        )
        if isinstance(models, BaseException):
            raise models
        if isinstance(resident, BaseException) and not isinstance(resident, CallError):
            raise resident
    except CallError as error:
        view = NodeView(node.name, node.source, fault=classify(error))
        return NodeInventory(node.config, view, time.monotonic() - began)
    hidden = any(model.name == DEFAULT_MODEL for model in models)
    default = await started_with(node.config) if hidden else None
    return _seen(node, provider, models, resident, default, time.monotonic() - began)


def _seen(
    node: Node,
    provider: Provider,
    models: Sequence[ModelInfo],
    resident: tuple[Resident, ...] | CallError | None,
    default: str | None,
    seconds: float,
) -> NodeInventory:
    silence = classify(resident) if isinstance(resident, CallError) else None
    held = None if isinstance(resident, CallError) else resident
    if held is None:
        held = tuple(Resident(model.name) for model in models if model.resident)
    view = NodeView(
        node.name,
        node.source,
        provider.kind,
        tuple(filter(generates, models)),
        held,
        residency_known=silence is None and (bool(held) or resident is not None),
    )
    return NodeInventory(node.config, view, seconds, silence, default)


async def started_with(node: NodeConfig) -> str | None:
    """The model that mlx_lm.server loads when a request names none; the server itself does not tell."""
    if node.default_model is not None:
        return node.default_model
    if not is_loopback(node.url):
        return None
    from opskit.system.sockets import command_line_of

    return model_in_command(await command_line_of(endpoint(node.url)[1]) or ())


def model_in_command(command: Sequence[str]) -> str | None:
    """The `--model` of an `mlx_lm.server` command line; None for any other process."""
    names = {PurePath(word).name for word in command}
    if not names & {"mlx_lm", "mlx_lm.server"} and not any("mlx_lm/server" in word for word in command):
        return None
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word == "--model" and following:
            return following
        if word.startswith("--model="):
            return word.removeprefix("--model=") or None
    return None


def _installed(
    seen: NodeInventory, model: ModelInfo, fits: Callable[[NodeView, ModelInfo], Fit]
) -> Installed:
    name, shown = seen.view.name, seen.shown(model.name)
    if model.cloud:
        return Installed(name, model, shown, None, Fit(None, "it runs in the cloud"))
    return Installed(name, model, shown, seen.view.is_resident(model), fits(seen.view, model))


def _with_models(seen: NodeInventory) -> Finding:
    count = len(seen.models)
    if count == 0:
        return Finding(
            "node",
            seen.node.name,
            Status.WARN,
            "empty",
            "no model that can chat is installed",
            "MODEL_001",
            seen.view.likely_kind.fill,
            seen.seconds,
        )
    detail = f"{count} model{'s' if count > 1 else ''}"
    return Finding("node", seen.node.name, Status.PASS, "ok", detail, seconds=seen.seconds)


def _tells(seen: NodeInventory) -> Finding:
    """Whether a node that lists its models also tells what is loaded."""
    node, silence = seen.node, seen.silence
    if silence is not None and silence.kind is FaultKind.FIRST_TOKEN_TIMEOUT:
        if not seen.view.likely_kind.loads_on_demand:
            return _silent(seen, f"it does not tell what is loaded ({silence.detail})")
        # Ollama holds /api/ps for the whole load of an MLX-engine runner (wire facts A2).
        detail = f"it does not tell what is loaded ({silence.detail}): a model is being loaded"
        state = NodeState.LOADING
    elif silence is not None:
        detail, state = f"it does not tell what is loaded: {silence.detail}", state_of(silence)
    elif not seen.view.residency_known:
        return Finding(
            "node", node.name, Status.SKIP, "ok", "it never tells what is loaded", seconds=seen.seconds
        )
    else:
        count = len(seen.view.resident)
        detail = f"{count} model{'s are' if count > 1 else ' is'} loaded" if count else "no model is loaded"
        return Finding("node", node.name, Status.PASS, "ok", detail, seconds=seen.seconds)
    return Finding(
        "node",
        node.name,
        Status.INCONCLUSIVE,
        state.shown,
        detail,
        CODES.get(state),
        node_remedy(node, state, model=None, process=None, kind=seen.view.kind),
        seen.seconds,
    )


def _loaded(seen: NodeInventory, resident: Resident, now: datetime) -> LoadedModel:
    left: float | None = None
    if resident.expires_at is not None:
        left = max(0.0, (resident.expires_at - now).total_seconds())
        left = math.inf if left > _FOR_EVER_S else left
    return LoadedModel(seen.view.name, resident, seen.shown(resident.name), left, seen.view.kind)


def _resident_finding(row: LoadedModel) -> Finding:
    share, size = row.gpu_share, row.resident.size_bytes
    target = f"{row.node}/{row.resident.name}"
    if share is None or size is None:
        return Finding("resident", target, Status.PASS, "ok", "it is loaded")
    if share == 0:
        return Finding("resident", target, Status.PASS, "ok", f"{gib(size)}, all of it on the CPU")
    if share == 1:
        return Finding("resident", target, Status.PASS, "ok", f"{gib(size)}, all of it on the GPU")
    return Finding(
        "resident",
        target,
        Status.WARN,
        "partly on the CPU",
        f"only {share:.0%} of its {gib(size)} is on the GPU, the rest is on the CPU: expect it to be slow",
        None,
        "free GPU memory (`opskit models loaded`), lower its context (`num_ctx`) or take a smaller "
        f"quantisation; then {_unload(row)} and ask it again",
    )


def _unload(row: LoadedModel) -> str:
    unload = row.kind.unload_hint(row.resident.name) if row.kind is not None else ""
    return unload or "load it again"


def _nobody(seen: Sequence[NodeInventory]) -> list[Finding]:
    """No node at all could be read: that is a failure, whoever was expected to be there."""
    if any(one.view.fault is None for one in seen):
        return []
    detail = "no node could be read" if seen else "no node is configured"
    first = next((node_finding(one).remedy for one in seen), None)
    remedy = first or "`opskit config init`, or set OLLAMA_API_URL or MLX_API_URL"
    return [Finding("catalog", "models", Status.FAIL, "failing", detail, "MODEL_001", remedy)]


def _size(size_bytes: int | None) -> str:
    return gib(size_bytes) if size_bytes else "?"


def _billions(parameters: float | None) -> str:
    if parameters is None:
        return "?"
    return f"{parameters / 1e9:.3g}B" if parameters >= 1e9 else f"{parameters / 1e6:.3g}M"


def _remaining(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds == math.inf:
        return "never"
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
