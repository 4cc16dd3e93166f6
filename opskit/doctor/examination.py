"""One examination: run the checks of every area side by side, then compute causes from facts and findings."""

import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

from opskit.app import App
from opskit.checks import runner
from opskit.checks.spec import Check
from opskit.doctor.areas import (
    addresses,
    agents,
    configuration,
    containers,
    docker,
    failures,
    machine,
    models,
    nodes,
    requests,
    schedule,
    settings,
)
from opskit.doctor.cause import Cause
from opskit.doctor.diagnosis import Diagnosis, diagnosed
from opskit.doctor.evidence import Evidence, evidence_of
from opskit.doctor.target import ExaminationTarget
from opskit.facts.machine import read_state_folder
from opskit.records import replace
from opskit.result import Finding, Status

_EXAMINED = (configuration, machine, addresses, docker, containers, nodes, agents, requests, schedule)
_DIAGNOSED = (*(area for area in _EXAMINED if area is not agents), models, settings, failures)


def checks(target: ExaminationTarget) -> list[Check]:
    """Return what is examined, as a graph. Everything that can runs side by side."""
    return list(chain.from_iterable(area.checks(target) for area in _EXAMINED))


def causes(evidence: Evidence) -> list[Cause]:
    """Return everything that is certain, in no order yet. Pure."""
    return list(chain.from_iterable(area.causes(evidence) for area in _DIAGNOSED))


async def examine(
    target: ExaminationTarget,
    *,
    on_start: Callable[[int], None] = lambda _: None,
    on_finding: Callable[[Finding], None] = lambda _: None,
) -> Diagnosis:
    """Examine everything and diagnose. `on_start` gets the number of checks.

    Never raises for what is examined. Every check has its own deadline and cannot end the others.
    """
    began = time.monotonic()
    examined = checks(target)
    on_start(len(examined))
    async with App(
        target.config,
        environ=target.environ,
        cwd=target.cwd,
        config_path=target.config_path,
        folder=Path(target.config.state_dir),
    ) as app:
        # The checks keep their locks in it.
        await app.survey.get(read_state_folder)
        findings = await runner.run(examined, app.survey, on_finding=on_finding)
        evidence = evidence_of(target, app.survey, tuple(settled(findings, examined)))
    areas = {check.name: check.tags[0] for check in examined}
    return diagnosed(causes(evidence), evidence.findings, areas=areas, seconds=time.monotonic() - began)


def settled(findings: Sequence[Finding], examined: Sequence[Check]) -> list[Finding]:
    """Return the findings without those that could only be asked of a Docker that nothing needs. Pure.

    A check that was late on a busy machine has judged nothing.
    """
    left_out = {finding.check for finding in findings if finding.status is Status.SKIP}
    requires = {check.name: check.requires for check in examined}
    judged = []
    for finding in findings:
        reason = next((name for name in requires.get(finding.check, ()) if name in left_out), None)
        if finding.status is Status.INCONCLUSIVE and reason is not None:
            left_out.add(finding.check)
            detail = f"{reason} was left out"
            judged.append(replace(finding, status=Status.SKIP, state="left out", detail=detail))
        elif finding.state == runner.LATE:
            judged.append(replace(finding, status=Status.INCONCLUSIVE))
        else:
            judged.append(finding)
    return judged
