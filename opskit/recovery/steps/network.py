"""The way out of this machine: Wi-Fi (power, address, route), and the internet (addresses, names).

A cable that works makes Wi-Fi unimportant. It is repaired by switching it off and on again, which ends every
ssh session through it: only where the configuration allows it, and not more often than it says (ops facts
12). The internet has no repair of its own, and nothing that runs here depends on it.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from opskit.checks.remedies import NO_DNS
from opskit.facts.internet import InternetFacts, InternetTargets, read_internet
from opskit.records import replace
from opskit.recovery.step import Command, Condition, RecoveryContext, Repair, Step, TargetFinding
from opskit.system.program import NotStarted

if TYPE_CHECKING:
    from opskit.system.network import WifiState

_WIFI, _INTERNET = "wifi", "internet"
#: A Mac needs some seconds to find its network again.
_SETTLE_S = 45.0
#: A name that every name server knows, whose host is made to be asked often.
TARGETS = InternetTargets(by_name=("dns.google:443",), limit_s=3.0, until_proven=True)


def wifi(context: RecoveryContext) -> Step | None:
    """Return the step, None on a machine that is no Mac: its Wi-Fi is judged by the step `internet`."""
    return Step(_WIFI, partial(_look, context)) if context.platform == "darwin" else None


async def _look(context: RecoveryContext) -> Sequence[TargetFinding]:
    from opskit.system.network import wifi_of_mac

    try:
        state = await wifi_of_mac(context.environ)
    except (NotStarted, TimeoutError) as error:
        why = getattr(error, "message", "the system's network tools gave no answer within 5 s")
        return [TargetFinding(_WIFI, Condition.UNKNOWN, "unknown", why)]
    finding = _judge_wifi(state)
    if finding.condition is Condition.BROKEN and state.wifi is not None:
        repair = _toggle(context, state.wifi.device, finding, is_off=state.power is False)
        finding = replace(finding, repair=repair)
    return [finding]


def _toggle(context: RecoveryContext, device: str, finding: TargetFinding, *, is_off: bool) -> Repair | None:
    """Switch it off and on, or only on; None where that is not allowed, or was done lately."""
    rules, now_s = context.config.recovery, context.clock()
    tried = context.memory.of(_WIFI).repairs
    if not rules.wifi_toggle or any(now_s - at < rules.wifi_toggle_every_s for at in tried):
        return None
    switch = ("networksetup", "-setairportpower", device)
    return Repair(
        tuple(Command((*switch, power), 15.0) for power in (("on",) if is_off else ("off", "on"))),
        f"{finding.cause}; `recovery.wifi_toggle` allows it",
        f"networksetup -setairportpower {device} off",
        _SETTLE_S,
    )


def _judge_wifi(state: "WifiState") -> TargetFinding:
    """Tell whether the machine is on its network. Pure."""
    port = state.wifi
    if port is None:
        return TargetFinding(_WIFI, Condition.ABSENT, "absent", "this machine has no Wi-Fi")
    evidence = {"device": port.device, "power": state.power, "route": state.route}
    healthy = TargetFinding(_WIFI, Condition.HEALTHY, cause=f"{port.device} is connected", evidence=evidence)
    if state.wired is not None:
        return replace(healthy, cause=f"{state.wired.name} has the network")
    power = f"networksetup -setairportpower {port.device}"
    remedy = f"`{power} off`, then `on`; or set `recovery.wifi_toggle: true`"
    if state.power is False:
        word, cause = "off", "Wi-Fi is switched off, and there is no cable"
        remedy = f"`{power} on`, or set `recovery.wifi_toggle: true`"
    elif not port.usable:
        own = f" but {port.address}, which it gave itself" if port.address else ""
        word, cause = "no address", f"{port.device} has no address{own}, and there is no cable"
    elif state.route is None:
        word = "no route"
        cause = f"{port.device} has the address {port.address}, but there is no default route"
    else:
        return healthy
    return replace(healthy, condition=Condition.BROKEN, state=word, cause=cause, remedy=remedy, minor=True)


def internet(context: RecoveryContext, *, targets: InternetTargets = TARGETS) -> Step:
    """Return the step; what could be repaired of it is Wi-Fi's."""

    async def look() -> Sequence[TargetFinding]:
        """Ends with the first answer that settles it, after the limit of its targets at the latest."""
        facts = await context.survey.get(read_internet, targets, not_before=time.monotonic())
        return [_judge_internet(facts, targets.by_name[0].rpartition(":")[0])]

    return Step(_INTERNET, look, after=("wifi",))


def _judge_internet(facts: InternetFacts, name: str) -> TargetFinding:
    """Tell which part is missing. Pure."""
    by_address = facts.reached(by_name=False)
    if facts.reached(by_name=True):
        return TargetFinding(_INTERNET, Condition.HEALTHY, "ok", "addresses and names answer")
    if by_address and facts.names_resolve:
        return TargetFinding(_INTERNET, Condition.HEALTHY, "ok", f"addresses answer; {name} does not")
    if by_address:
        state, cause = "no names", f"addresses answer, but the name {name} cannot be found: DNS fails"
        remedy = NO_DNS
    elif facts.names_resolve:
        state, cause = "no route", f"the name {name} is found, but nothing outside answers"
        remedy = "check the router, a VPN or a firewall; what runs on this machine does not need it"
    else:
        state, cause = "offline", "no address outside answers, and no name can be found"
        remedy = "check Wi-Fi, the cable and the router; what runs on this machine does not need it"
    return TargetFinding(_INTERNET, Condition.BROKEN, state, cause, remedy=remedy, minor=True)
