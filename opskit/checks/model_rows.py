"""Models as `models list`, `models loaded` and others show them: rows for a table, and what is amiss.

What is loaded, and what the process behind each model does, is read without a token, a load or a trace.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePath
from typing import Any

from opskit.checks.node_assessment import as_news, assess_contents, assess_residency, assess_whole
from opskit.checks.runner_assessment import (
    RunnerAssessment,
    RunnerStatus,
    assess_unlisted,
    remedy_of_orphans,
    runner_status,
    slots_status,
)
from opskit.checks.state import OVERDUE_S
from opskit.facts.node import NodeFacts
from opskit.facts.runner import (
    NodeRunners,
    RunnerHealth,
    RunnerProcess,
    known_weights,
    read_orphaned_runners,
    read_runners,
)
from opskit.facts.survey import Survey
from opskit.llm.catalog import NodeView
from opskit.llm.fit import Fit, gib
from opskit.providers.base import CallError, ModelInfo, Resident
from opskit.providers.kinds import ServerKind
from opskit.records import Record, asdict, field
from opskit.result import Finding, Report, Status
from opskit.system.host import is_loopback
from opskit.text import span

#: An expiry this far away means for ever.
_FOR_EVER_S = 365 * 86_400.0
INSTALLED_COLUMNS = ("node", "model", "size", "params", "quant", "loaded", "fits", "context")
LOADED_COLUMNS = ("node", "model", "memory", "on GPU", "context", "its process", "expires in")
#: Processes seldom outlive their server; a watch does not look for them each time.
_ORPHANS_OLD_S = 30.0


class InstalledModel(Record):
    """A model that a node holds. `loaded` None means that it is not known."""

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
            "aliases": list(self.model.aliases),
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
        others = [alias for alias in model.aliases if alias not in self.shown]
        return [
            self.node,
            self.shown + (f" (also {', '.join(others)})" if others else ""),
            _size(model.size_bytes),
            _billions(model.parameters),
            model.quantization or "?",
            "-" if model.cloud else {True: "yes", False: "no", None: "?"}[self.loaded],
            "in the cloud" if model.cloud else fits,
            str(model.context_length or "?"),
        ]


class LoadedModel(Record):
    """A model in memory. `expires_in_s` is infinite for one that stays, None when it is not known.

    Negative: a request has been in flight since it expired. `kind` is the server that holds it, `runner` what
    the process behind it does.
    """

    node: str
    resident: Resident
    shown: str
    expires_in_s: float | None
    kind: ServerKind | None = None
    runner: RunnerStatus | None = None

    @property
    def gpu_share(self) -> float | None:
        """The part in GPU memory, 0 to 1."""
        size, vram = self.resident.size_bytes, self.resident.size_vram_bytes
        return min(1.0, vram / size) if size and vram is not None else None

    def as_json(self) -> dict[str, Any]:
        stays, share = self.expires_in_s == math.inf, self.gpu_share
        known = self.expires_in_s is not None and not stays
        return {
            "node": self.node,
            "model": self.resident.name,
            "name": self.shown,
            "size_bytes": self.resident.size_bytes,
            "size_vram_bytes": self.resident.size_vram_bytes,
            "gpu_share": None if share is None else round(share, 4),
            "context_length": self.resident.context_length,
            "expires_in_s": round(max(0.0, self.expires_in_s or 0.0), 1) if known else None,
            "stays": stays,
            "runner": None if self.runner is None else asdict(self.runner),
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
            "?" if self.runner is None else self.runner.words,
            _remaining(self.expires_in_s),
        ]


def installed(
    nodes: Sequence[NodeFacts], fits: Callable[[NodeView, ModelInfo], Fit]
) -> tuple[list[InstalledModel], Report]:
    rows = [_installed(node, model, fits) for node in nodes for model in node.models or ()]
    findings = [
        assess_contents(node) if node.silence is None else as_news(assess_residency(node)) for node in nodes
    ]
    return rows, Report("models list", [*findings, *assess_whole(nodes)])


class BehindNode(Record, kw_only=True):
    """What the processes behind the models of one node show.

    `statuses` belong to loaded models, by name; `loading` are models that are being loaded, which are not
    listed yet. `silence` is why the list of loaded models is silent, where they show that.
    """

    statuses: Mapping[str, RunnerStatus] = field(default_factory=dict)
    loading: Mapping[str, RunnerStatus] = field(default_factory=dict)
    silence: RunnerAssessment | None = None


def loaded(
    nodes: Sequence[NodeFacts], now: datetime, behind: Mapping[str, BehindNode] | None = None
) -> tuple[list[LoadedModel], Report]:
    """Return what is in memory; `behind` is by the names of nodes.

    A model that is partly on the CPU is a warning: it is many times slower.
    """
    rows: list[LoadedModel] = []
    findings: list[Finding] = []
    for node in nodes:
        shown = (behind or {}).get(node.config.name, BehindNode())
        of_node = [_loaded(node, model, now, shown.statuses.get(model.name)) for model in node.resident]
        of_node += [
            LoadedModel(node.config.name, Resident(name), node.shown(name), None, node.kind, status)
            for name, status in shown.loading.items()
        ]
        rows += of_node
        findings.append(assess_residency(node, shown.silence))
        findings += [_resident_finding(row) for row in of_node]
    return rows, Report("models loaded", [*findings, *assess_whole(nodes)])


def _installed(
    node: NodeFacts, model: ModelInfo, fits: Callable[[NodeView, ModelInfo], Fit]
) -> InstalledModel:
    name, shown = node.config.name, model.shown
    if model.cloud:
        return InstalledModel(name, model, shown, None, Fit(None, "it runs in the cloud"))
    return InstalledModel(name, model, shown, node.view.is_resident(model), fits(node.view, model))


def _loaded(node: NodeFacts, resident: Resident, now: datetime, runner: RunnerStatus | None) -> LoadedModel:
    remaining_s: float | None = None
    if resident.expires_at is not None:
        remaining_s = (resident.expires_at - now).total_seconds()
        # A model may be on its way out for a moment; a request in flight holds it for longer.
        remaining_s = max(0.0, remaining_s) if remaining_s > -OVERDUE_S else remaining_s
        remaining_s = math.inf if remaining_s > _FOR_EVER_S else remaining_s
    shown = node.shown(resident.name)
    return LoadedModel(node.config.name, resident, shown, remaining_s, node.kind, runner)


def _resident_finding(row: LoadedModel) -> Finding:
    if (trouble := _trouble(row)) is not None:
        return trouble
    share, size = row.gpu_share, row.resident.size_bytes
    finding = partial(Finding, "resident", f"{row.node}/{row.resident.name}")
    if share is None or size is None:
        return finding(Status.PASS, "ok", "it is loaded")
    if share in (0, 1):
        return finding(Status.PASS, "ok", f"{gib(size)}, all of it on the {'GPU' if share else 'CPU'}")
    detail = (
        f"only {share:.0%} of its {gib(size)} is on the GPU, the rest is on the CPU: expect it to be slow"
    )
    remedy = (
        "free GPU memory (`opskit models loaded`), lower its context (`num_ctx`) or take a smaller "
        f"quantisation; then {_unload(row)} and ask it again"
    )
    return finding(Status.WARN, "partly on the CPU", detail, None, remedy)


def _trouble(row: LoadedModel) -> Finding | None:
    """Return a warning where the process behind a model does not serve it; a probe knows more."""
    runner, name = row.runner, row.shown
    warning = partial(Finding, "resident", f"{row.node}/{row.resident.name}", Status.WARN)
    if runner is None:
        if row.expires_in_s is None or row.expires_in_s >= 0:
            return None
        since = f"a request has been in flight since it expired {_remaining(-row.expires_in_s)} ago"
        return warning("overdue", f"{since}: it is busy or wedged", None, "`opskit probe`")
    remedies = {
        "stopped": f"`kill -CONT {runner.pid}` lets it go on",
        "silent": "`opskit probe` tells whether it works",
        "failing": "`opskit probe` tells what is wrong",
    }
    if runner.state.value == "gone":
        why = f"the process that served {name} is gone; the next request loads it again"
        return warning("gone", why, None, _unload(row))
    if (remedy := remedies.get(runner.state.value)) is None:
        return None
    why = f"process {runner.pid}, which serves {name}, is {runner.state.value}"
    return warning(runner.state.value, why, "MODEL_002", remedy)


def _unload(row: LoadedModel) -> str:
    unload = row.kind.unload_hint(row.resident.name) if row.kind is not None else ""
    return unload or "load it again"


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
    if seconds < 0:
        return "overdue"
    return span(seconds, rounded=True)


async def read_loaded(survey: Survey, nodes: Sequence[NodeFacts]) -> tuple[list[LoadedModel], Report]:
    """Return the models in memory of nodes that were just read, with what each works on."""
    shown = await asyncio.gather(*(_behind(survey, facts) for facts in nodes))
    behind = {facts.config.name: node for facts, node in zip(nodes, shown, strict=True)}
    rows, report = loaded(nodes, datetime.now(UTC), behind)
    if any(_starts_runners(facts) for facts in nodes):
        orphans = await survey.get(read_orphaned_runners, not_before=time.monotonic() - _ORPHANS_OLD_S)
        if orphans:
            report = Report(report.command, [*report.findings, assess_orphans(orphans)])
    return rows, report


def assess_orphans(orphans: Sequence[RunnerProcess]) -> Finding:
    """Return the warning about processes of models whose server has ended: they hold memory for nobody."""
    held, words = sum(orphan.process.rss_bytes for orphan in orphans), [orphan.words for orphan in orphans]
    runners = [
        {
            "state": "orphaned",
            "pid": orphan.pid,
            "weights": PurePath(orphan.weights).name,
            "memory_bytes": orphan.process.rss_bytes,
        }
        for orphan in orphans
    ]
    detail = f"{', '.join(words)} outlived Ollama and {'hold' if len(orphans) > 1 else 'holds'} {gib(held)}"
    warning = partial(Finding, "runner", "this machine", Status.WARN, evidence={"runners": runners})
    return warning("orphaned", detail, "MODEL_003", remedy_of_orphans(orphans))


def _starts_runners(facts: NodeFacts) -> bool:
    return facts.likely_kind.runs_model_processes and is_loopback(facts.config.url)


async def _behind(survey: Survey, facts: NodeFacts) -> BehindNode:
    """Read what stands behind the models of one node."""
    if facts.failed is not None:
        return BehindNode()
    if not _starts_runners(facts):
        return await _by_slots(survey, facts)
    runners = await read_runners(survey, facts.config)
    if runners.server is None:
        return BehindNode()
    names = [model.name for model in facts.resident]
    files = [await known_weights(survey, facts.config, name) for name in names]
    statuses = {
        name: status
        for name, weights in zip(names, files, strict=True)
        if (status := runner_status(runners, weights)) is not None
    }
    silence = assess_unlisted(runners) if facts.silence is not None else None
    loading = await _loading(survey, facts, runners, set(files))
    return BehindNode(statuses=statuses, loading=loading, silence=silence)


async def _by_slots(survey: Survey, facts: NodeFacts) -> BehindNode:
    """Read what a server works on that serves its one model itself and has a page of its slots."""
    if "/slots" in facts.likely_kind.pages and len(facts.resident) == 1:
        with contextlib.suppress(CallError):
            slots = await (await survey.node(facts.config).provider()).slots()
            if slots is not None:
                return BehindNode(statuses={facts.resident[0].name: slots_status(slots)})
    return BehindNode()


async def _loading(
    survey: Survey, facts: NodeFacts, runners: NodeRunners, loaded_files: set[str | None]
) -> dict[str, RunnerStatus]:
    """Read which models are being loaded: the server lists them only when they are.

    A stopped process may also be that of a listed model, unless the files of all of these are known.
    """
    files = {
        runner.process.weights: runner
        for runner in runners.runners
        if (runner.health is RunnerHealth.LOADING or (runner.process.is_stopped and None not in loaded_files))
        and runner.process.weights not in loaded_files
    }
    names: dict[str, str] = {}
    for model in facts.models or () if files else ():
        weights = None if model.cloud else await known_weights(survey, facts.config, model.name)
        if weights in files:
            names.setdefault(weights, model.name)
        if len(names) == len(files):
            break
    return {
        names.get(file, PurePath(file).name): status
        for file in files
        if (status := runner_status(runners, file)) is not None
    }
