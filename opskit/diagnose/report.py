"""`opskit diagnose`: the areas that were asked for, read side by side, and what they come to."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from opskit import __version__
from opskit.app import App
from opskit.diagnose import containers, endpoints, machine, models, network
from opskit.diagnose.area import Area, SectionSource, read_areas
from opskit.diagnose.known_secrets import read_known_secrets
from opskit.diagnose.redaction import Redactor
from opskit.diagnose.stack_files import docker_is_used
from opskit.facts.internet import InternetTargets
from opskit.facts.stack_containers import read_stack_containers
from opskit.facts.survey import Survey
from opskit.records import Record, replace
from opskit.result import SCHEMA_VERSION, Finding, Report, Status

AREAS = ("system", "containers", "api", "network", "models")
_WORDS = {Status.FAIL: "broken", Status.INCONCLUSIVE: "not looked at", Status.WARN: "worth a look"}


class DiagnoseRequest(Record):
    """What to look at, how many log lines of each container, and whether models are asked."""

    areas: tuple[str, ...] = AREAS
    lines: int = 5
    ask: bool = False
    targets: InternetTargets = network.TARGETS


@dataclass(frozen=True, slots=True)
class DiagnosticReport:
    """Everything that was seen, without a secret. `redactor` knows the secrets that were met on the way.

    `trouble` is what befell opskit itself, such as a bundle that could not be written.
    """

    areas: tuple[Area, ...]
    at: datetime
    seconds: float
    redactor: Redactor = field(repr=False)
    trouble: tuple[Finding, ...] = ()

    @property
    def report(self) -> Report:
        findings = [finding for area in self.areas for finding in area.judged]
        return Report("diagnose", [*self.trouble, *findings])

    @property
    def problems(self) -> list[Finding]:
        """What is not well, worst first. That Docker does not answer is reported once."""
        problems: dict[object, Finding] = {}
        for status in _WORDS:
            for finding in self.report.findings:
                if finding.status is status:
                    key = finding.code if finding.code == "DOCKER_001" else id(finding)
                    problems.setdefault(key, finding)
        return list(problems.values())

    @property
    def conclusion(self) -> str:
        """The last line: what is broken, and what could not be looked at."""
        parts = []
        for status, word in _WORDS.items():
            problems = (finding for finding in self.problems if finding.status is status)
            names = dict.fromkeys(f"{f.target} ({f.state})" if f.state else f.target for f in problems)
            parts += [f"{word}: {', '.join(names)}"] if names else []
        return "; ".join(parts) or "nothing is broken"

    def as_json(self) -> dict[str, Any]:
        return {
            **self.report.as_json(),
            "schema_version": SCHEMA_VERSION,
            "opskit_version": __version__,
            "at": self.at.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "areas": {area.name: area.as_json() for area in self.areas},
        }


async def diagnose(app: App, request: DiagnoseRequest) -> DiagnosticReport:
    """Read all areas at once. Never raises for what is found: what hangs or fails is reported so."""
    began, survey = time.monotonic(), app.survey
    areas = await read_areas(request.areas, await _sources(app, survey, request), survey)
    known = await asyncio.to_thread(read_known_secrets, survey.config, survey.environ, survey.cwd)
    stack = survey.known(read_stack_containers).get(())
    redactor = Redactor(known if stack is None else known | containers.secrets_of(stack))
    shown = tuple(area.redacted(redactor) for area in areas)
    return DiagnosticReport(shown, datetime.now(UTC), time.monotonic() - began, redactor)


async def _sources(app: App, survey: Survey, request: DiagnoseRequest) -> list[SectionSource]:
    with_docker = await docker_is_used(survey)
    every = [
        *machine.sources(),
        *containers.sources(request.lines),
        *endpoints.sources(survey.config),
        *network.sources(request.targets, with_docker=with_docker),
        *models.sources(app, ask=request.ask),
    ]
    wanted = [source for source in every if source.area in request.areas]
    # Reading is work too: memory and processor are measured before it begins.
    first = (machine.LOAD,) if "system" in request.areas else ()
    return [source if source.name in first else replace(source, after=first) for source in wanted]


def areas_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the areas in their order; `all`, or none, is every one. Raises ValueError(unknown name)."""
    for name in names:
        if name not in (*AREAS, "all"):
            raise ValueError(name)
    if not names or "all" in names:
        return AREAS
    return tuple(name for name in AREAS if name in names)
