"""The internet: can addresses be reached, and can names be found? Nothing that runs here depends on it."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from opskit.recovery.step import Condition, RecoveryContext, Step, TargetFinding

_NAME = "internet"
LIMIT_S = 3.0
Target = tuple[str, int]
#: Two operators, by address and by the two ports that firewalls let through; and one name.
ADDRESSES: tuple[Target, ...] = (("1.1.1.1", 443), ("8.8.8.8", 53))
NAMED: Target = ("dns.google", 443)


def internet(
    context: RecoveryContext,
    *,
    addresses: tuple[Target, ...] = ADDRESSES,
    named: Target = NAMED,
    limit_s: float = LIMIT_S,
) -> Step:
    """The step. It has no repair: what could be repaired here is Wi-Fi's."""
    del context

    async def look() -> Sequence[TargetFinding]:
        """Ends with the first answer that settles it, after `limit_s` at the latest."""
        return [judge(await _reach(addresses, named, limit_s), named[0])]

    return Step(_NAME, look, after=("wifi",))


@dataclass(frozen=True, slots=True)
class InternetAnswer:
    """What answered: one of the addresses, the name's lookup, and the host of that name."""

    address: bool
    found: bool
    named: bool


def judge(reached: InternetAnswer, name: str) -> TargetFinding:
    """Which part is missing. Pure."""
    if reached.named:
        return TargetFinding(_NAME, Condition.HEALTHY, "ok", "addresses and names answer")
    if reached.address and reached.found:
        return TargetFinding(_NAME, Condition.HEALTHY, "ok", f"addresses answer; {name} does not")
    if reached.address:
        state, cause = "no names", f"addresses answer, but the name {name} cannot be found: DNS fails"
        remedy = "check the name server: `scutil --dns` on a Mac, `resolvectl status` on Linux"
    elif reached.found:
        state, cause = "no route", f"the name {name} is found, but nothing outside answers"
        remedy = "check the router, a VPN or a firewall; what runs on this machine does not need it"
    else:
        state, cause = "offline", "no address outside answers, and no name can be found"
        remedy = "check Wi-Fi, the cable and the router; what runs on this machine does not need it"
    return TargetFinding(_NAME, Condition.BROKEN, state, cause, remedy=remedy, minor=True)


async def _reach(addresses: tuple[Target, ...], named: Target, limit_s: float) -> InternetAnswer:
    by_address = asyncio.create_task(_any_answers(addresses))
    found = asyncio.create_task(_found(*named))
    by_name = asyncio.create_task(_any_found_answers(found))
    tasks = (by_address, found, by_name)
    try:
        async with asyncio.timeout(limit_s):
            if not await asyncio.shield(by_name):
                await asyncio.shield(by_address)
    except TimeoutError:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return InternetAnswer(*(not task.cancelled() and bool(task.result()) for task in tasks))


async def _found(host: str, port: int) -> tuple[Target, ...]:
    """The addresses of a name, none when it cannot be found."""
    from opskit.system.threads import Abandonable

    pool = Abandonable()
    try:
        # A lookup that hangs cannot be ended: its thread is left behind, and nobody waits for it.
        found = await asyncio.get_running_loop().run_in_executor(
            pool, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
    except (OSError, UnicodeError):
        return ()
    finally:
        pool.shutdown(wait=False)
    return tuple(dict.fromkeys((str(one[4][0]), port) for one in found))


async def _any_found_answers(found: "asyncio.Task[tuple[Target, ...]]") -> bool:
    return await _any_answers(await asyncio.shield(found))


async def _any_answers(targets: tuple[Target, ...]) -> bool:
    """True with the first that accepts a connection, False once all have refused."""
    tasks = [asyncio.create_task(_connects(*target)) for target in targets]
    try:
        for task in asyncio.as_completed(tasks):
            if await task:
                return True
        return False
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _connects(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
