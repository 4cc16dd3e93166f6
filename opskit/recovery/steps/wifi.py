"""Wi-Fi: has it power, an address and a route? A cable that works makes it unimportant.

It is repaired by switching it off and on again, which ends every ssh session through it: only where the
configuration allows it, and not more often than it says (ops facts 12).
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opskit.recovery.context import RecoveryContext
from opskit.recovery.step import LOOK_S, Command, Condition, Repair, Step, TargetObservation
from opskit.system.program import NotStarted

TARGET = "wifi"
#: A Mac needs some seconds to find its network again.
_SETTLE_S = 45.0


@dataclass(slots=True)
class _Wifi:
    ground: RecoveryContext
    name: str = TARGET
    title: str = "Wi-Fi"
    requires: tuple[str, ...] = ()
    look_s = LOOK_S
    after: tuple[str, ...] = ()

    async def look(self) -> Sequence[TargetObservation]:
        from opskit.system.network import wifi_of_mac, wifi_of_network_manager

        ground = self.ground
        try:
            if ground.platform == "darwin":
                air = await wifi_of_mac(ground.environ)
            else:
                found = await wifi_of_network_manager(ground.environ)
                if found is None:
                    return [
                        TargetObservation(TARGET, Condition.ABSENT, "absent", "NetworkManager does not run")
                    ]
                air = found
        except (NotStarted, TimeoutError) as exc:
            why = getattr(exc, "message", "the system's network tools gave no answer within 5 s")
            return [TargetObservation(TARGET, Condition.UNKNOWN, "unknown", why)]
        return [judge(air, mac=ground.platform == "darwin")]

    async def evidence(self, seen: TargetObservation) -> Mapping[str, Any]:
        del seen
        return {}

    async def plan(self, seen: TargetObservation) -> Repair | None:
        rules, now = self.ground.config.recovery, self.ground.clock()
        if self.ground.platform != "darwin" or not rules.wifi_toggle:
            return None
        tried = [at for at in self.ground.memory.of(TARGET).repairs if now - at < rules.wifi_toggle_every_s]
        device = seen.evidence.get("device")
        if tried or not isinstance(device, str):
            return None
        steps = ("on",) if seen.state == "off" else ("off", "on")
        return Repair(
            tuple(Command(("networksetup", "-setairportpower", device, step), 15.0) for step in steps),
            f"{seen.cause}; `recovery.wifi_toggle` allows it",
            f"networksetup -setairportpower {device} off",
            _SETTLE_S,
        )


def wifi(ground: RecoveryContext) -> Step | None:
    """The step, None on a machine without macOS's or NetworkManager's tools."""
    if ground.platform != "darwin" and shutil.which("nmcli", path=ground.environ.get("PATH")) is None:
        return None
    return _Wifi(ground)


def judge(air: Any, *, mac: bool) -> TargetObservation:
    """Whether the machine is on its network. `air` is an `opskit.system.network.WifiState`. Pure."""
    port = air.wifi
    if port is None:
        return TargetObservation(TARGET, Condition.ABSENT, "absent", "this machine has no Wi-Fi")
    facts = {"device": port.device, "power": air.power, "route": air.route}
    if air.wired is not None:
        return TargetObservation(
            TARGET, Condition.HEALTHY, "ok", f"{air.wired.name} has the network", evidence=facts
        )
    remedy = (
        f"`networksetup -setairportpower {port.device} off`, then `on`; or set `recovery.wifi_toggle: true`"
        if mac
        else f"`nmcli device connect {port.device}`"
    )
    if air.power is False:
        if not mac:
            cause = "it is switched off, and there is no cable"
            return TargetObservation(
                TARGET, Condition.LEFT, "off", cause, evidence=facts, remedy="`nmcli radio wifi on`"
            )
        state, cause = "off", "Wi-Fi is switched off, and there is no cable"
        remedy = f"`networksetup -setairportpower {port.device} on`, or set `recovery.wifi_toggle: true`"
    elif not port.usable:
        own = f" but {port.address}, which it gave itself" if port.address else ""
        state, cause = "no address", f"{port.device} has no address{own}, and there is no cable"
    elif air.route is None:
        state, cause = (
            "no route",
            f"{port.device} has the address {port.address}, but there is no default route",
        )
    else:
        return TargetObservation(
            TARGET, Condition.HEALTHY, "ok", f"{port.device} is connected", evidence=facts
        )
    return TargetObservation(
        TARGET, Condition.BROKEN, state, cause, evidence=facts, remedy=remedy, minor=True
    )
