"""Wi-Fi: has it power, an address and a route? A cable that works makes it unimportant.

It is repaired by switching it off and on again, which ends every ssh session through it: only where the
configuration allows it, and not more often than it says (ops facts 12).
"""

import shutil
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from opskit.records import replace
from opskit.recovery.step import Command, Condition, RecoveryContext, Repair, Step, TargetFinding
from opskit.system.program import NotStarted

if TYPE_CHECKING:
    from opskit.system.network import WifiState

_NAME = "wifi"
#: A Mac needs some seconds to find its network again.
_SETTLE_S = 45.0


def wifi(context: RecoveryContext) -> Step | None:
    """Return the step, None on a machine without macOS's or NetworkManager's tools."""
    if context.platform != "darwin" and shutil.which("nmcli", path=context.environ.get("PATH")) is None:
        return None
    return Step(_NAME, partial(_look, context))


async def _look(context: RecoveryContext) -> Sequence[TargetFinding]:
    from opskit.system.network import wifi_of_mac, wifi_of_network_manager

    is_mac = context.platform == "darwin"
    try:
        state = await (wifi_of_mac if is_mac else wifi_of_network_manager)(context.environ)
    except (NotStarted, TimeoutError) as error:
        why = getattr(error, "message", "the system's network tools gave no answer within 5 s")
        return [TargetFinding(_NAME, Condition.UNKNOWN, "unknown", why)]
    if state is None:
        return [TargetFinding(_NAME, Condition.ABSENT, "absent", "NetworkManager does not run")]
    finding = judge(state, is_mac=is_mac)
    if finding.condition is Condition.BROKEN and is_mac and state.wifi is not None:
        repair = _toggle(context, state.wifi.device, finding, is_off=state.power is False)
        finding = replace(finding, repair=repair)
    return [finding]


def _toggle(context: RecoveryContext, device: str, finding: TargetFinding, *, is_off: bool) -> Repair | None:
    """Switch it off and on, or only on; None where that is not allowed, or was done lately."""
    rules, now_s = context.config.recovery, context.clock()
    tried = context.memory.of(_NAME).repairs
    if not rules.wifi_toggle or any(now_s - at < rules.wifi_toggle_every_s for at in tried):
        return None
    switch = ("networksetup", "-setairportpower", device)
    return Repair(
        tuple(Command((*switch, power), 15.0) for power in (("on",) if is_off else ("off", "on"))),
        f"{finding.cause}; `recovery.wifi_toggle` allows it",
        f"networksetup -setairportpower {device} off",
        _SETTLE_S,
    )


def judge(state: "WifiState", *, is_mac: bool) -> TargetFinding:
    """Tell whether the machine is on its network. Pure."""
    port = state.wifi
    if port is None:
        return TargetFinding(_NAME, Condition.ABSENT, "absent", "this machine has no Wi-Fi")
    evidence = {"device": port.device, "power": state.power, "route": state.route}
    healthy = TargetFinding(_NAME, Condition.HEALTHY, cause=f"{port.device} is connected", evidence=evidence)
    if state.wired is not None:
        return replace(healthy, cause=f"{state.wired.name} has the network")
    power = f"networksetup -setairportpower {port.device}"
    remedy = f"`{power} off`, then `on`; or set `recovery.wifi_toggle: true`"
    if not is_mac:
        remedy = f"`nmcli device connect {port.device}`"
    if state.power is False and not is_mac:
        cause, remedy = "it is switched off, and there is no cable", "`nmcli radio wifi on`"
        return replace(healthy, condition=Condition.LEFT, state="off", cause=cause, remedy=remedy)
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
