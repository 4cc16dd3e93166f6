"""The internet: can addresses be reached, and can names be found? Nothing that runs here depends on it."""

import time
from collections.abc import Sequence

from opskit.facts.internet import InternetFacts, InternetTargets, read_internet
from opskit.recovery.step import Condition, RecoveryContext, Step, TargetFinding

_NAME = "internet"
#: A name that every name server knows, whose host is made to be asked often.
TARGETS = InternetTargets(by_name=("dns.google:443",), limit_s=3.0, until_proven=True)


def internet(context: RecoveryContext, *, targets: InternetTargets = TARGETS) -> Step:
    """Return the step. It has no repair: what could be repaired here is Wi-Fi's."""

    async def look() -> Sequence[TargetFinding]:
        """Ends with the first answer that settles it, after the limit of its targets at the latest."""
        facts = await context.survey.get(read_internet, targets, not_before=time.monotonic())
        return [judge(facts, targets.by_name[0].rpartition(":")[0])]

    return Step(_NAME, look, after=("wifi",))


def judge(facts: InternetFacts, name: str) -> TargetFinding:
    """Tell which part is missing. Pure."""
    by_address = facts.reached(by_name=False)
    if facts.reached(by_name=True):
        return TargetFinding(_NAME, Condition.HEALTHY, "ok", "addresses and names answer")
    if by_address and facts.names_resolve:
        return TargetFinding(_NAME, Condition.HEALTHY, "ok", f"addresses answer; {name} does not")
    if by_address:
        state, cause = "no names", f"addresses answer, but the name {name} cannot be found: DNS fails"
        remedy = "check the name server: `scutil --dns` on a Mac, `resolvectl status` on Linux"
    elif facts.names_resolve:
        state, cause = "no route", f"the name {name} is found, but nothing outside answers"
        remedy = "check the router, a VPN or a firewall; what runs on this machine does not need it"
    else:
        state, cause = "offline", "no address outside answers, and no name can be found"
        remedy = "check Wi-Fi, the cable and the router; what runs on this machine does not need it"
    return TargetFinding(_NAME, Condition.BROKEN, state, cause, remedy=remedy, minor=True)
