"""What is loaded on nodes, and what the process behind each model does: no token, no load, no trace."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePath

from opskit.checks.model_rows import BehindNode, LoadedModel, loaded
from opskit.checks.runner_assessment import (
    RunnerStatus,
    assess_unlisted,
    remedy_of_orphans,
    runner_status,
    slots_status,
)
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
from opskit.llm.fit import gib
from opskit.providers.base import CallError
from opskit.result import Finding, Report, Status
from opskit.system.host import is_loopback

#: Processes seldom outlive their server; a watch does not look for them each time.
_ORPHANS_OLD_S = 30.0


async def read_loaded(survey: Survey, nodes: Sequence[NodeFacts]) -> tuple[list[LoadedModel], Report]:
    """Return the models in memory of nodes that were just read, with what each works on."""
    shown = await asyncio.gather(*(_behind(survey, facts) for facts in nodes))
    behind = {facts.config.name: node for facts, node in zip(nodes, shown, strict=True) if node is not None}
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


async def _behind(survey: Survey, facts: NodeFacts) -> BehindNode | None:
    """Read what stands behind the models of one node; None where nothing can be known."""
    if facts.failed is not None:
        return None
    if not _starts_runners(facts):
        return await _by_slots(survey, facts)
    runners = await read_runners(survey, facts.config)
    if runners.server is None:
        return None
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


async def _by_slots(survey: Survey, facts: NodeFacts) -> BehindNode | None:
    """Read what a server works on that serves its one model itself and has a page of its slots."""
    if "/slots" not in facts.likely_kind.pages or len(facts.resident) != 1:
        return None
    try:
        slots = await (await survey.node(facts.config).provider()).slots()
    except CallError:
        return None
    if slots is None:
        return None
    return BehindNode(statuses={facts.resident[0].name: slots_status(slots)}, loading={})


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
