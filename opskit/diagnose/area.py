"""What one area of the view is made of, and how its parts are looked at: side by side, each under a deadline.

A part that hangs, fails or is missing becomes a finding and a section that says so; the others are shown.
"""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from opskit.diagnose.redaction import Redactor
from opskit.errors import OpskitError
from opskit.result import Finding, Report, Status

#: How long a part that was cut off may take to tidy up before it is left behind.
_TIDY_S = 1.0


@dataclass(frozen=True, slots=True)
class TableSection:
    """A table for people, with lines below it; either may be empty."""

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()

    def redacted(self, redactor: Redactor) -> "TableSection":
        # Lines of a log belong together: a private key spans several.
        lines = redactor.text("\n".join(self.lines)).split("\n") if self.lines else ()
        rows = tuple(tuple(map(redactor.text, row)) for row in self.rows)
        return replace(self, rows=rows, lines=tuple(lines))


@dataclass(frozen=True, slots=True)
class Part:
    """What one look gave: for people, for programs, what is not well, and secrets that it met on the way."""

    data: Any
    sections: tuple[TableSection, ...] = ()
    findings: tuple[Finding, ...] = ()
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True)
class Look:
    """One part of an area: its key in JSON, its title, the work, and how long it may take."""

    key: str
    title: str
    work: Awaitable[Part]
    limit_s: float


@dataclass(frozen=True, slots=True)
class Area:
    """One area, looked at. `data` has a key for each part; a part that could not be looked at is null."""

    name: str
    seconds: float
    data: Mapping[str, Any] = field(default_factory=dict)
    sections: tuple[TableSection, ...] = ()
    findings: tuple[Finding, ...] = ()
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    def as_json(self) -> dict[str, Any]:
        report = Report(self.name, self.findings or (Finding(self.name, self.name, Status.PASS),))
        return {"status": report.status.value, "seconds": round(self.seconds, 3), **self.data}

    def redacted(self, redactor: Redactor) -> "Area":
        """The same, fit to be shown and given away."""
        return replace(
            self,
            data=redactor.value(self.data),
            sections=tuple(section.redacted(redactor) for section in self.sections),
            findings=tuple(redacted_finding(one, redactor) for one in self.findings),
            secrets=frozenset(),
        )


def redacted_finding(finding: Finding, redactor: Redactor) -> Finding:
    return replace(
        finding,
        target=redactor.text(finding.target),
        detail=redactor.text(finding.detail),
        remedy=redactor.text(finding.remedy) if finding.remedy else finding.remedy,
        evidence=redactor.value(finding.evidence),
    )


async def gathered(name: str, looks: Sequence[Look]) -> Area:
    """Look at everything at once; as slow as the slowest part, which its deadline ends. Never raises."""
    began = time.monotonic()
    parts = await asyncio.gather(*(looked(name, look) for look in looks))
    return Area(
        name,
        time.monotonic() - began,
        {look.key: part.data for look, part in zip(looks, parts, strict=True)},
        tuple(section for part in parts for section in part.sections),
        tuple(finding for part in parts for finding in part.findings),
        frozenset(secret for part in parts for secret in part.secrets),
    )


async def within(work: Awaitable[Part], limit_s: float) -> Part:
    """The part, or OpskitError COMM_003 at the deadline, wherever the work hangs."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
        if not done:
            raise OpskitError("COMM_003", f"no end within {limit_s:g} s")
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_TIDY_S)
    return task.result()


async def looked(area: str, look: Look) -> Part:
    """One part under its deadline. Never raises: what cannot be looked at is a part that says so."""
    began = time.monotonic()
    try:
        return await within(look.work, look.limit_s)
    except OpskitError as error:
        return unseen(area, look.title, error, seconds=time.monotonic() - began)
    except Exception as exc:  # noqa: BLE001 - as for a check: what fails in one part ends no other (STYLE 6)
        bug = OpskitError("BUG_001", f"{type(exc).__name__}: {exc}")
        told = {"traceback": "".join(traceback.format_exception(exc))}
        return unseen(area, look.title, bug, seconds=time.monotonic() - began, evidence=told)


def unseen(
    area: str,
    title: str,
    error: OpskitError,
    *,
    seconds: float = 0.0,
    evidence: Mapping[str, Any] | None = None,
) -> Part:
    """A part that could not be looked at, and why."""
    finding = Finding(
        area,
        title,
        Status.INCONCLUSIVE,
        "unseen",
        error.message,
        error.code,
        error.remedy,
        seconds,
        dict(evidence or {}),
    )
    return Part(None, (TableSection(title, lines=(f"cannot be looked at: {error.message}",)),), (finding,))
