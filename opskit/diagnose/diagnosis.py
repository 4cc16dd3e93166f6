"""`opskit diagnose`: the areas that were asked for, side by side, and what they come to."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit import __version__
from opskit.config.schema import Config
from opskit.diagnose import api, containers, models, network, system
from opskit.diagnose.area import Area, Part, unseen
from opskit.diagnose.compose_text import secrets_in
from opskit.diagnose.redaction import Redactor
from opskit.diagnose.secrets import of_config, of_env_file, of_variables
from opskit.diagnose.stack_files import env_files, projects
from opskit.errors import OpskitError
from opskit.facts.survey import Survey
from opskit.result import SCHEMA_VERSION, Finding, Report, Status

AREAS = ("system", "containers", "api", "network", "models")
#: No area needs so long: its parts have shorter deadlines. This one is for what has none.
_AREA_S = 60.0
_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look at, how many log lines of each container, and whether models are asked."""

    areas: tuple[str, ...] = AREAS
    lines: int = 5
    ask: bool = False
    targets: network.Targets = field(default_factory=network.Targets)


@dataclass(frozen=True, slots=True)
class DiagnosticReport:
    """Everything that was seen, without a secret. `redactor` knows those that were met on the way.

    `trouble` is what befell opskit itself, such as a bundle that could not be written.
    """

    areas: tuple[Area, ...]
    at: datetime
    seconds: float
    redactor: Redactor = field(repr=False)
    trouble: tuple[Finding, ...] = ()

    @property
    def report(self) -> Report:
        """Findings of all areas; one that has none is well."""
        found: list[Finding] = list(self.trouble)
        for area in self.areas:
            well = Finding(area.name, area.name, Status.PASS, "ok", "nothing is amiss", seconds=area.seconds)
            found += area.findings or (well,)
        return Report("diagnose", found)

    @property
    def told(self) -> list[Finding]:
        """What is not well, worst first. That Docker does not answer is told once, whoever wanted it."""
        found: dict[object, Finding] = {}
        for status in (Status.FAIL, Status.INCONCLUSIVE, Status.WARN):
            for one in self.report.findings:
                if one.status is status:
                    found.setdefault(one.code if one.code == "DOCKER_001" else id(one), one)
        return list(found.values())

    @property
    def conclusion(self) -> str:
        """The last line: what is broken, and what could not be looked at."""
        words = {Status.FAIL: "broken", Status.INCONCLUSIVE: "not looked at", Status.WARN: "worth a look"}
        parts = []
        for status, word in words.items():
            names = dict.fromkeys(_name(one) for one in self.told if one.status is status)
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


async def diagnose(around: Survey, wanted: Wanted) -> DiagnosticReport:
    """Look at all areas at once. Never raises for what is found: what hangs or fails is told as such."""
    began = time.monotonic()
    load = await system.load(around) if "system" in wanted.areas else Part(None)
    work: Mapping[str, Callable[[], Coroutine[Any, Any, Area]]] = {
        "system": lambda: system.area(around, load),
        "containers": lambda: containers.area(around, wanted.lines),
        "api": lambda: api.area(around),
        "network": lambda: network.area(around, wanted.targets),
        "models": lambda: models.area(around, ask=wanted.ask),
    }
    limit_s = _AREA_S + (around.config.budgets.total_s if wanted.ask else 0.0)
    areas = await asyncio.gather(*(_guarded(name, work[name](), limit_s) for name in wanted.areas))
    known = await asyncio.to_thread(known_secrets, around.config, around.environ, around.cwd)
    redactor = Redactor(known.union(*(area.secrets for area in areas)))
    shown = tuple(area.redacted(redactor) for area in areas)
    return DiagnosticReport(shown, datetime.now(UTC), time.monotonic() - began, redactor)


def known_secrets(config: Config, environ: Mapping[str, str], cwd: Path) -> set[str]:
    """Those of the configuration, the environment, the `.env` and the Compose files. Reads files."""
    found = of_config(config) | of_variables(environ)
    for path in env_files(config, cwd):
        found |= of_env_file(_content(path))
    for project in projects(config, cwd):
        for path in project.files:
            found |= secrets_in(_content(path))
    return found


def _content(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_FILE_BYTES).decode("utf-8-sig", "replace")
    except (OSError, ValueError):
        return ""


async def _guarded(name: str, work: Coroutine[Any, Any, Area], limit_s: float) -> Area:
    began = time.monotonic()
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except OpskitError as error:
        problem = error
    except TimeoutError:
        problem = OpskitError("COMM_003", f"no end within {limit_s:g} s")
    part = unseen(name, name, problem, seconds=time.monotonic() - began)
    return Area(name, time.monotonic() - began, {}, part.sections, part.findings)


def _name(finding: Finding) -> str:
    return f"{finding.target} ({finding.state})" if finding.state else finding.target


def areas_of(names: Sequence[str]) -> tuple[str, ...]:
    """The areas in their order; `all`, or none, is every one. Raises ValueError with a name there is not."""
    for name in names:
        if name not in (*AREAS, "all"):
            raise ValueError(name)
    if not names or "all" in names:
        return AREAS
    return tuple(name for name in AREAS if name in names)
