"""One agent as its status page tells of it (SPEC D1). It is given no work."""

import time
from collections.abc import Mapping
from typing import Any

from opskit.config.schema import AgentConfig
from opskit.facts.address import AddressProblem, examine_address
from opskit.facts.endpoint import not_connected
from opskit.facts.survey import Survey
from opskit.providers.agent import AgentClient, AgentQueue, levels_of, queue_of
from opskit.providers.base import CallError
from opskit.records import Record, replace
from opskit.system.network import TcpResult, connects

_ERROR_CHARS = 120
#: What health pages call a server that does not do its work, as in the health check drafts of the IETF.
_ILL = frozenset({"degraded", "unhealthy", "error", "fail", "failed", "failing", "down", "offline",
                  "critical", "unavailable", "warn", "warning", "outage"})  # fmt: skip


class AgentFacts(Record, kw_only=True):
    """One agent as it answered in one reading.

    `page` is its status page, None where it did not answer with one; `error` is then the failed call, and
    `address_problem` what is wrong with the address, where that explains it.
    """

    config: AgentConfig
    tcp: TcpResult
    page: Mapping[str, Any] | None = None
    error: CallError | None = None
    address_problem: AddressProblem | None = None
    http_s: float = 0.0

    @property
    def levels(self) -> dict[str, bool] | None:
        """Those of Victoria; None where it tells none."""
        return levels_of(self.page)

    @property
    def queue(self) -> AgentQueue | None:
        """The runs that its server holds; None where it tells none."""
        return queue_of(self.page)

    @property
    def last_error(self) -> str:
        """The newest failed run in its own words; empty where it tells none."""
        error = (self.page or {}).get("last_error")
        message = error.get("error_message") if isinstance(error, Mapping) else None
        return " ".join(message.split())[:_ERROR_CHARS] if isinstance(message, str) else ""

    @property
    def own_problem(self) -> str:
        """Its status in its own word, where that says that it is not well; empty where it is."""
        word = (self.page or {}).get("status")
        return word if isinstance(word, str) and word.strip().casefold() in _ILL else ""

    @property
    def is_stranger(self) -> bool:
        """Tell whether something answers there that is no agent (SPEC D1, C1).

        An agent that is ill answers 5xx; a stranger has no such page, or does not speak JSON or HTTP.
        """
        error = self.error
        return error is not None and self.tcp.problem is None and (error.status or 0) < 500


async def read_agent(survey: Survey, config: AgentConfig) -> AgentFacts:
    """Connect, then read the status page of an agent. Never raises for what the agent does."""
    tcp = await connects(config.url, timeout_s=survey.config.budgets.connect_s)
    facts = AgentFacts(config=config, tcp=tcp)
    if tcp.problem is not None:
        error = not_connected(config.url, tcp)
        return replace(facts, error=error, address_problem=await examine_address(config, error))
    began = time.monotonic()
    try:
        async with AgentClient(config, survey.config.budgets) as agent:
            page = await agent.status(timeout_s=survey.config.probe.http_s)
    except CallError as error:
        facts = replace(facts, error=error, http_s=time.monotonic() - began)
        return replace(facts, address_problem=await examine_address(config, error))
    return replace(facts, page=page, http_s=time.monotonic() - began)


async def read_agent_paths(survey: Survey, config: AgentConfig) -> frozenset[str] | None:
    """Read the paths of an agent's API, which it describes itself; None where it does not."""
    try:
        async with AgentClient(config, survey.config.budgets) as agent:
            return await agent.paths(timeout_s=survey.config.probe.http_s)
    except CallError:
        return None
