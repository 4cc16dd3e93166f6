"""The API area: every page that costs nothing to ask, with status, seconds and size (SPEC C4)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from opskit.checks.kinds.agents import APIS
from opskit.checks.kinds.network import without_secrets
from opskit.config.schema import Config
from opskit.diagnose.area import Columns, Section, SectionSource, TableSection, table
from opskit.facts.endpoint import EndpointFacts, json_request, read_endpoint
from opskit.facts.node import read_node
from opskit.facts.survey import Survey
from opskit.providers.kinds import ServerKind, expected_kind
from opskit.records import Record
from opskit.result import Finding, Status
from opskit.text import size

_AGENT_PATHS = ("/status", "/health")
_NOT_THERE, _NO_PAGE = "not there", "no such page"
_COUNTED = (Status.PASS, Status.FAIL, Status.WARN)
_ABSENT = ("refused", "name", "unreachable")


_COLUMNS: Columns = {
    "request": lambda page: f"GET {urlsplit(page['url']).path}",
    "verdict": lambda page: _NO_PAGE if page["verdict"] == "skip" else page["verdict"].upper(),
    "status": "status",
    "seconds": lambda page: f"{page['seconds']:.3f} s",
    "size": lambda page: (
        "" if page["size_bytes"] is None else f"{'over ' * page['truncated']}{size(page['size_bytes'])}"
    ),
    "": lambda page: page["detail"] or ("slow" if page["slow"] else ""),
}


class EndpointServer(Record, kw_only=True):
    """A server and its pages.

    `wanted` is False where nobody said that it is there: its absence is no news. `costly` are the requests
    that would make a model work and are left alone.
    """

    name: str
    url: str
    paths: tuple[str, ...]
    costly: tuple[str, ...] = ()
    key: str | None = None
    wanted: bool = True

    @property
    def shown_url(self) -> str:
        return without_secrets(self.url)


class EndpointPage(Record):
    server: EndpointServer
    path: str
    facts: EndpointFacts

    @property
    def url(self) -> str:
        return f"{self.server.shown_url}{self.path}"

    @property
    def detail(self) -> str:
        """What is wrong with it; empty where nothing is."""
        reply, error = self.facts.reply, self.facts.error
        return error.text if error is not None else reply.problem if reply is not None else ""

    @property
    def ok(self) -> bool:
        return self.facts.reply is not None and not self.detail


def sources(config: Config) -> list[SectionSource]:
    """Return the one section of the area; each request has `probe.http_s`."""
    limit_s = config.budgets.metadata_s + 2 * config.probe.http_s + 5.0
    return [SectionSource("api", "endpoints", "endpoints", endpoints, limit_s)]


async def endpoints(survey: Survey) -> Section:
    """Ask for all pages at once, as soon as it is known what kind of server each node is.

    One that does not tell soon is asked as what it is configured as.
    """
    config = survey.config
    async with asyncio.TaskGroup() as group:
        nodes = [group.create_task(survey.get(read_node, node)) for node in config.nodes]
        if nodes:
            await asyncio.wait(nodes, timeout=config.budgets.metadata_s)
        known = [node.result() for node in nodes if node.done()]
        members = servers(config, {node.config.name: node.likely_kind for node in known})
        pages = [(server, path) for server in members for path in server.paths]
        limit_s = config.probe.http_s
        requests = [
            json_request(f"{server.url}{path}", key=server.key, limit_s=limit_s) for server, path in pages
        ]
        facts = await asyncio.gather(*(survey.get(read_endpoint, request) for request in requests))
    answers = [EndpointPage(server, path, page) for (server, path), page in zip(pages, facts, strict=True)]
    return section(answers, members, slow_s=config.watch.slow_request_s)


def servers(config: Config, kinds: Mapping[str, ServerKind]) -> list[EndpointServer]:
    """Return nodes, agents, and the code agents at their usual ports, in this order. Pure.

    `kinds` is what each node turned out to be; one that did not tell is asked as what it is configured as.
    """
    members = [
        EndpointServer(
            name=node.name,
            url=node.url,
            paths=kinds.get(node.name, expected_kind(node.source)).pages,
            key=node.api_key,
            wanted=node.explicit or node.required,
        )
        for node in config.nodes
    ]
    agents = {agent.name: agent for agent in config.agents}
    known = {server.name for server in members} | {"victoria", "veronica"}
    for name in (*agents, *(name for name in APIS if name not in agents and name not in known)):
        agent, api = agents.get(name), APIS.get(name)
        members.append(
            EndpointServer(
                name=name,
                url=agent.url if agent else f"http://localhost:{APIS[name].port}",
                paths=api.looks if api else _AGENT_PATHS,
                costly=tuple(f"POST {path}" for path in (api.asks if api else ("/run",))),
                key=agent.api_key if agent else None,
                wanted=agent is not None and (agent.explicit or agent.required),
            )
        )
    return members


def section(pages: Sequence[EndpointPage], members: Sequence[EndpointServer], *, slow_s: float) -> Section:
    """Judge each page, and sum it up. Pure."""
    findings = tuple(_finding(page, pages, slow_s) for page in pages)
    data = [_json(page, finding, slow_s) for page, finding in zip(pages, findings, strict=True)]
    rows: dict[str, list[dict[str, Any]]] = {}
    for document, finding in zip(data, findings, strict=True):
        if finding.state != _NOT_THERE:
            rows.setdefault(document["server"], []).append(document)
    here = [server for server in members if server.name in rows]
    tables = [table(f"{server.name} at {server.shown_url}", rows[server.name], _COLUMNS) for server in here]
    statuses = [finding.status for finding in findings]
    counts = [(statuses.count(status), status.value.upper()) for status in _COUNTED]
    absent = [f"{server.name} ({server.shown_url})" for server in members if server not in here]
    costly = [f"{server.name} {', '.join(server.costly)}" for server in here if server.costly]
    lines = [", ".join(f"{count} {word}" for count, word in counts if count) or "nobody answers"]
    lines += [f"not there: {', '.join(absent)}"] if absent else []
    lines += [f"not asked, because a model would work: {'; '.join(costly)}"] if costly else []
    return Section(data, (*tables, TableSection("summary", lines=tuple(lines))), findings)


def _finding(page: EndpointPage, pages: Sequence[EndpointPage], slow_s: float) -> Finding:
    """Judge a page. One that only this server lacks is no fault, nor is a server that nobody named."""
    reply, name = page.facts.reply, page.server.name
    error = page.facts.error.cause.value if page.facts.error else None
    answer = f"HTTP {reply.status}" if reply else ""
    status, state, detail = Status.FAIL, error or answer.replace("HTTP", "status"), page.detail or answer
    remedy: str | None = f"`curl -sv {page.url}` shows the whole answer"
    if page.ok and page.facts.seconds > slow_s:
        status, state, detail = Status.WARN, "slow", f"{detail} after {page.facts.seconds:.1f} s"
    elif page.ok:
        status, state, remedy = Status.PASS, "ok", None
    elif error in _ABSENT and not page.server.wanted:
        status, state = Status.SKIP, _NOT_THERE
    elif reply is not None and reply.status == 404 and any(p.ok for p in pages if p.server == page.server):
        status, state, remedy = Status.SKIP, _NO_PAGE, None
    if error in _ABSENT:
        remedy = f"start {name}, or correct its address in the configuration"
    if reply is not None and reply.status in (401, 403):
        remedy = f"set the key of {name} (`api_key` in the configuration)"
    target, detail = f"{name} GET {page.path}", f"{page.url}: {detail}"
    code = "COMM_002" if status is Status.FAIL and reply is None else None
    return Finding("endpoint", target, status, state, detail, code, remedy, page.facts.seconds)


def _json(page: EndpointPage, finding: Finding, slow_s: float) -> dict[str, Any]:
    reply = page.facts.reply
    return {
        "server": page.server.name,
        "method": "GET",
        "url": page.url,
        "verdict": finding.status.value,
        "status": None if reply is None else reply.status,
        "seconds": round(page.facts.seconds, 4),
        "first_byte_s": None if reply is None else round(reply.first_byte_s, 4),
        "size_bytes": None if reply is None else len(reply.body),
        "truncated": reply is not None and reply.truncated,
        "slow": reply is not None and page.facts.seconds > slow_s,
        "error": page.facts.error.cause.value if page.facts.error else None,
        "detail": page.detail,
    }
