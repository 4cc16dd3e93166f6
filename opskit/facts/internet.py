"""The way out of this machine: its default route, and which hosts of the internet accept a connection."""

import asyncio
import socket
import time
from typing import Literal

from opskit.facts.survey import Survey
from opskit.records import Record
from opskit.system.network import NetworkRoute, TcpResult, connects, default_route, endpoint

#: Two operators, on the two ports that firewalls let through.
ADDRESSES = ("1.1.1.1:443", "8.8.8.8:53")


class InternetTargets(Record):
    """Hosts that stand for the internet, as `host:port`: some need a name server, some do not.

    Each is given `limit_s`. With `until_proven` the reading ends as soon as it is known that a name is found
    and answers, or that none does while an address answers.
    """

    by_name: tuple[str, ...]
    by_address: tuple[str, ...] = ADDRESSES
    limit_s: float = 5.0
    until_proven: bool = False


class InternetAttempt(Record):
    """One attempt to connect. `resolved` tells whether the host has an address."""

    target: str
    by_name: bool
    resolved: bool
    result: TcpResult


class InternetFacts(Record):
    """The attempts that ended, in the order of the targets."""

    attempts: tuple[InternetAttempt, ...]

    @property
    def names_resolve(self) -> bool:
        return any(attempt.by_name and attempt.resolved for attempt in self.attempts)

    def reached(self, *, by_name: bool) -> bool:
        """Tell whether a target of this sort accepted a connection."""
        return any(attempt.by_name is by_name and attempt.result.problem is None for attempt in self.attempts)


async def read_default_route(survey: Survey) -> NetworkRoute | None:
    """Read the default route; None where there is none."""
    return await default_route(survey.environ)


async def read_internet(_: Survey, targets: InternetTargets) -> InternetFacts:
    limit_s = targets.limit_s
    named = [asyncio.create_task(_attempt(target, limit_s, by_name=True)) for target in targets.by_name]
    tasks = [*named, *(asyncio.create_task(_attempt(target, limit_s)) for target in targets.by_address)]
    try:
        for ended in asyncio.as_completed(tasks):
            await ended
            facts = InternetFacts(tuple(task.result() for task in tasks if task.done()))
            names_are_done = all(task.done() for task in named) and facts.reached(by_name=False)
            if targets.until_proven and (facts.reached(by_name=True) or names_are_done):
                break
        return InternetFacts(tuple(task.result() for task in tasks if task.done()))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _attempt(target: str, limit_s: float, *, by_name: bool = False) -> InternetAttempt:
    url, began = f"tcp://{target}", time.monotonic()
    if by_name:
        problem = await _resolution_problem(*endpoint(url), limit_s)
        if problem is not None:
            return InternetAttempt(target, by_name, False, TcpResult(time.monotonic() - began, problem))
    result = await connects(url, timeout_s=max(0.0, limit_s - (time.monotonic() - began)))
    return InternetAttempt(target, by_name, True, TcpResult(time.monotonic() - began, result.problem))


async def _resolution_problem(host: str, port: int, limit_s: float) -> Literal["name", "timeout"] | None:
    """Look a name up; a resolver that hangs is left behind in its thread."""
    try:
        async with asyncio.timeout(limit_s):
            await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return "timeout"
    except (OSError, UnicodeError):
        return "name"
    return None
