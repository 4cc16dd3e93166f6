"""Agents: the database of their tasks, and what answering agents cannot do.

They may be of another version, another agent at their address, not well, or without levels.
"""

from collections.abc import Iterator
from functools import partial

from opskit.checks.probe_record import AgentProbe
from opskit.checks.remedies import address_setting
from opskit.checks.spec import Check, CheckContext, Observation, assessing
from opskit.doctor.cause import Cause
from opskit.doctor.evidence import Evidence
from opskit.doctor.target import ExaminationTarget
from opskit.explain.search import system_explanation
from opskit.records import replace
from opskit.result import Finding, Status
from opskit.system.network import postgres_url
from opskit.text import counted, listing

#: Where an agent takes work (SPEC D2), and what switches Victoria's levels on (SPEC D1).
_RUN = "/run"
_LEVELS = {"enhanced": "USE_VICTORIA_ENHANCED", "initiative": "ENABLE_EVENT_MONITORING"}
#: The job that keeps our own server, whose settings come from its installation.
_OWN_JOBS = ("opskit-victoria.service", "dev.opskit.victoria")
#: A server that is silent is left a little earlier, with words of its own.
_DATABASE_S = 20.0
#: Who has held a lock for so long that it is no ordinary work, and waits for none.
_BLOCKING = """
SELECT held.pid, coalesce(held.state, 'unknown') AS state, count(*) AS clients,
       coalesce(nullif(held.application_name, ''), held.usename) AS name
  FROM pg_stat_activity waiting JOIN pg_stat_activity held ON held.pid = ANY(pg_blocking_pids(waiting.pid))
 WHERE waiting.wait_event_type = 'Lock' AND held.wait_event_type IS DISTINCT FROM 'Lock'
   AND clock_timestamp() - waiting.query_start > interval '5 s'
 GROUP BY held.pid, 2, 4 ORDER BY clients DESC
"""
_WAITING = "{clients} clients wait for a lock of process {pid} ({name}, {state})"
_REMEDY = (
    "wait where it starts or recovers; else start what DATABASE_URL names (`docker ps --all` shows "
    "containers, `systemctl status postgresql` a unit), or correct DATABASE_URL"
)


def checks(target: ExaminationTarget) -> Iterator[Check]:
    """Yield the check of the PostgreSQL that DATABASE_URL names; a file is made by the first who needs it."""
    url = postgres_url(target.environ.get("DATABASE_URL"))
    if url is not None:
        check = partial(assessing, name="database", timeout_s=_DATABASE_S, tags=("agents",))
        yield check("database", _database, url, "DATABASE_URL")


async def _database(url: str, context: CheckContext) -> Observation:
    """Look at it as a checklist does; one that takes no writes, or where clients wait, is of no use."""
    # psycopg is for a machine that has one.
    from opskit.checks.kinds.databases import DatabaseParams, database

    seen = await database.observe(DatabaseParams(url=url, query=_BLOCKING), context)
    if isinstance(seen, Finding):
        raise TypeError
    problem, remedy, blocking = seen.problem, _REMEDY, seen.values.get("row")
    known = system_explanation(problem)
    if not problem and seen.values["standby"]:
        problem = seen.detail
    elif blocking is not None:
        problem, pid = _WAITING.format(**blocking), blocking["pid"]
        remedy = f"`SELECT pg_terminate_backend({pid})` ends that session and undoes its transaction"
    state = "ok" if not problem else "not usable" if known is None else known.title
    remedy = remedy if known is None else known.remedy
    return replace(seen, problem=problem, state=state, remedy=remedy, settled=())


def of_answering(probe: AgentProbe, evidence: Evidence, failing: Cause) -> Iterator[Cause]:
    """What an agent that answers cannot do; `failing` is the cause of one that answers with errors."""
    name, paths = probe.config.name, evidence.agent_paths.get(probe.config.name)
    base = replace(failing, claims=frozenset(), status=Status.WARN)
    if paths is not None and not any(path.endswith(_RUN) for path in paths):
        yield replace(
            base,
            id="agent-version",
            title=f"{name} is of another version than opskit speaks to",
            evidence=(f"its API has no {_RUN}: {listing(sorted(paths)) or 'no path at all'}",),
            remedy=f"update {name} (pull or build its image), then `docker compose up -d`",
        )
    if (other := _other_agent(probe, evidence)) is not None:
        yield replace(
            base,
            id="wrong-server",
            title=f"the address of {name} leads to {other}",
            evidence=(f"the status page at {probe.config.url} is that of {other}",),
            remedy=f"correct {address_setting(probe.config)}; `opskit config show` tells where it stands",
            status=Status.FAIL,
        )
    if probe.facts.own_problem:
        yield replace(
            base,
            title=f"{name} answers, and says of itself that it is not well",
            evidence=(f"its status page: {probe.facts.own_problem}",),
            remedy=f"`curl -s {probe.config.url}/status` shows what it complains of",
        )
    off = [level for level, is_on in (probe.facts.levels or {}).items() if not is_on]
    if off:
        variables = listing([f"{_LEVELS[level]}=true" for level in off if level in _LEVELS])
        owner = next(iter(evidence.owners(probe.config)), None)
        again = evidence.upkeep(probe.config).restart or f"`docker restart {name}-agent`"
        if owner is not None and owner.service is not None and owner.service.name in _OWN_JOBS:
            again = "`opskit schedule install victoria`"
        yield replace(
            base,
            id="agent-level-off",
            title=f"{name} works without {counted(len(off), 'level')}: {listing(off)}",
            evidence=(f"its status page: {probe.detail}",),
            remedy=f"{f'set {variables} for it; ' if variables else ''}{again}",
        )


def _other_agent(probe: AgentProbe, evidence: Evidence) -> str | None:
    """Return the configured agent whose name the status page bears, where that is another one."""
    name = str((probe.facts.page or {}).get("agent", "")).casefold()
    others = [agent.name for agent in evidence.config.agents if agent.name != probe.config.name]
    return next((other for other in others if other.casefold() == name), None)
