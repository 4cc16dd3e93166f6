"""The API area: every page of nodes and agents with status, seconds and size (SPEC C4)."""

import asyncio
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.checks.jsonpath import MISSING
from opskit.checks.kinds.http import HttpParams, Reply, fetch, without_secrets
from opskit.checks.spec import CheckContext
from opskit.config.schema import Budgets, NodeConfig
from opskit.diagnose.area import Area, Look, Part, TableSection, gathered
from opskit.diagnose.endpoints import EndpointServer, servers
from opskit.diagnose.quantities import seconds, size
from opskit.facts.survey import Survey
from opskit.providers.base import CallError
from opskit.providers.kinds import ServerKind, expected_kind
from opskit.providers.node import Node
from opskit.result import Finding, Status

_COLUMNS = ("request", "verdict", "status", "seconds", "size", "")
#: Of a longer body only the beginning is read.
_MAX_BYTES = 1024 * 1024
_NOT_THERE = "not there"
_ABSENT = ("refused", "name", "unreachable")


@dataclass(frozen=True, slots=True)
class EndpointReply:
    """What one request gave. `error` is a cause in one word, `detail` the same in a sentence."""

    server: EndpointServer
    path: str
    seconds: float
    reply: Reply | None = None
    error: str | None = None
    detail: str = ""

    @property
    def url(self) -> str:
        return f"{without_secrets(self.server.url)}{self.path}"

    @property
    def ok(self) -> bool:
        return self.reply is not None and self.reply.status < 400 and not self.detail

    def as_json(self, verdict: str, *, slow: bool) -> dict[str, Any]:
        reply = self.reply
        return {
            "server": self.server.name,
            "method": "GET",
            "url": self.url,
            "verdict": verdict,
            "status": None if reply is None else reply.status,
            "seconds": round(self.seconds, 4),
            "first_byte_s": None if reply is None else round(reply.first_byte_s, 4),
            "size_bytes": None if reply is None else len(reply.body),
            "truncated": reply is not None and reply.truncated,
            "slow": slow,
            "error": self.error,
            "detail": self.detail,
        }


async def area(around: Survey) -> Area:
    """Ask everything at once, each request under `probe.http_s`."""
    limit_s = around.config.probe.http_s
    return await gathered("api", [Look("endpoints", "endpoints", _endpoints(around), 2 * limit_s + 5.0)])


async def _endpoints(around: Survey) -> Part:
    config = around.config
    kinds = await asyncio.gather(*(_kind(node, config.budgets) for node in config.nodes))
    asked = servers(config, dict(zip((node.name for node in config.nodes), kinds, strict=True)))
    answers = await asyncio.gather(
        *(_ask(around, server, path, config.probe.http_s) for server in asked for path in server.paths)
    )
    return part(answers, asked, slow_s=config.watch.slow_request_s)


def part(answers: Sequence[EndpointReply], asked: Sequence[EndpointServer], *, slow_s: float) -> Part:
    """The verdict on each answer, and the sum. Pure."""
    by_server: dict[str, list[EndpointReply]] = {}
    for one in answers:
        by_server.setdefault(one.server.name, []).append(one)
    rows: dict[str, list[tuple[str, ...]]] = {}
    data, findings = [], []
    for one in answers:
        status, state = judged(one, by_server[one.server.name])
        slow = one.reply is not None and one.seconds > slow_s
        finding = _finding(one, status, state, slow=slow)
        findings.append(finding)
        data.append(one.as_json(finding.status.value, slow=slow))
        if finding.state != _NOT_THERE:
            rows.setdefault(one.server.name, []).append(_cells(one, finding))
    tables = [
        TableSection(f"{one.name} at {without_secrets(one.url)}", _COLUMNS, tuple(rows[one.name]))
        for one in asked
        if one.name in rows
    ]
    return Part(
        data, (*tables, TableSection("summary", lines=_summary(asked, findings, rows))), tuple(findings)
    )


def _summary(
    asked: Sequence[EndpointServer], findings: Sequence[Finding], there: Container[str]
) -> tuple[str, ...]:
    counts = {
        word: sum(one.status is status for one in findings)
        for word, status in (("PASS", Status.PASS), ("FAIL", Status.FAIL), ("WARN", Status.WARN))
    }
    absent = [f"{one.name} ({without_secrets(one.url)})" for one in asked if one.name not in there]
    costly = [f"{one.name} {', '.join(one.costly)}" for one in asked if one.costly and one.name in there]
    lines = [", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nobody answers"]
    lines += [f"not there: {', '.join(absent)}"] if absent else []
    lines += [f"not asked, because a model would work: {'; '.join(costly)}"] if costly else []
    return tuple(lines)


def judged(one: EndpointReply, of_server: Sequence[EndpointReply]) -> tuple[Status, str]:
    """A page that only this server lacks is no fault, nor is a server that nobody said is there."""
    if one.ok:
        return Status.PASS, "ok"
    if one.error in _ABSENT and not one.server.wanted:
        return Status.SKIP, _NOT_THERE
    if one.reply is not None and one.reply.status == 404 and any(other.ok for other in of_server):
        return Status.SKIP, "no such page"
    return Status.FAIL, one.error or (f"status {one.reply.status}" if one.reply else "failing")


def _finding(one: EndpointReply, status: Status, state: str, *, slow: bool) -> Finding:
    told = one.detail or (f"HTTP {one.reply.status}" if one.reply else "")
    if slow and status is Status.PASS:
        status, state, told = Status.WARN, "slow", f"{told} after {one.seconds:.1f} s"
    remedy = None if status in (Status.PASS, Status.SKIP) else f"`curl -sv {one.url}` shows the whole answer"
    if one.error in _ABSENT:
        remedy = f"start {one.server.name}, or correct its address in the configuration"
    if one.reply is not None and one.reply.status in (401, 403):
        remedy = f"set the key of {one.server.name} (`api_key` in the configuration)"
    code = "COMM_002" if status is Status.FAIL and one.reply is None else None
    target = f"{one.server.name} GET {one.path}"
    return Finding("endpoint", target, status, state, f"{one.url}: {told}", code, remedy, one.seconds)


def _cells(one: EndpointReply, finding: Finding) -> tuple[str, ...]:
    verdict = finding.state if finding.status is Status.SKIP else finding.status.value.upper()
    reply = one.reply
    taken = "" if reply is None else size(len(reply.body))
    if reply is not None and reply.truncated:
        taken = f"over {size(_MAX_BYTES)}"
    note = "slow" if finding.state == "slow" else one.detail
    return (
        f"GET {one.path}",
        verdict,
        "" if reply is None else str(reply.status),
        seconds(one.seconds),
        taken,
        note,
    )


async def _ask(around: Survey, server: EndpointServer, path: str, limit_s: float) -> EndpointReply:
    params = HttpParams(f"{server.url}{path}", headers=dict(server.headers), max_bytes=_MAX_BYTES)
    began = time.monotonic()
    try:
        async with asyncio.timeout(limit_s):
            reply = await fetch(CheckContext(around, Path(), limit_s), params)
    except TimeoutError:
        told = f"no whole answer within {limit_s:g} s"
        return EndpointReply(server, path, time.monotonic() - began, error="timeout", detail=told)
    except CallError as error:
        took = time.monotonic() - began
        return EndpointReply(server, path, took, error=error.cause.value, detail=error.text)
    return EndpointReply(server, path, reply.seconds, reply, detail=_complaint(reply))


def _complaint(reply: Reply) -> str:
    """What is wrong with an answer that came."""
    if reply.status >= 400:
        return " ".join(reply.text.split())[:200] or "no reason given"
    says_json = "json" in reply.headers.get("content-type", "")
    if says_json and not reply.truncated and reply.json is MISSING:
        return "it says that it is JSON, and it is not"
    return ""


async def _kind(node: NodeConfig, budgets: Budgets) -> ServerKind:
    """What a node turned out to be; what it is configured as where it does not tell in time."""
    one = Node(node, budgets)
    try:
        async with asyncio.timeout(budgets.metadata_s):
            return (await one.provider()).kind
    except (CallError, TimeoutError):
        return expected_kind(node.source)
    finally:
        await one.aclose()
