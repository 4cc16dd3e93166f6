"""The network that the Compose projects share (SPEC B12: `atra-network`): is it there?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.config.schema import StackConfig
from opskit.recovery.ground import Ground
from opskit.recovery.step import Command, Condition, Repair, Seen, Step
from opskit.recovery.steps.box import instant
from opskit.recovery.steps.declared import declared, sources

TARGET = "network"
_CREATE_S = 30.0


@dataclass(slots=True)
class _Network:
    ground: Ground
    name: str = TARGET
    title: str = "Docker network"
    requires: tuple[str, ...] = ("docker",)
    after: tuple[str, ...] = ()

    async def look(self) -> Sequence[Seen]:
        stack = self.ground.config.stack
        network = stack.docker_network
        if network is None:
            return [Seen(TARGET, Condition.ABSENT, "absent", "`stack.docker_network` is null")]
        names = (network,)
        if await self.ground.door.found("network", network) is not None:
            return [Seen(TARGET, Condition.HEALTHY, "ok", f"{network} is there", names)]
        if not stack.compose and network == StackConfig().docker_network:
            why = f"there is no {network}, and no Compose project is configured that would use it"
            return [Seen(TARGET, Condition.ABSENT, "absent", why, names)]
        if (owner := await self._owner(network)) is not None:
            why = f"there is no {network} yet: Compose project {owner} makes it"
            return [Seen(TARGET, Condition.WAITING, "missing", why, names)]
        if (ago_s := await self._removed_s(network)) is not None:
            left_s = self.ground.config.recovery.hands_off_s - ago_s
            why = f"somebody removed {network} {ago_s:.0f} s ago; left alone for {left_s:.0f} s more"
            return [Seen(TARGET, Condition.LEFT, "missing", why, names)]
        remedy = f"`docker network create {network}`"
        return [
            Seen(TARGET, Condition.BROKEN, "missing", f"there is no network {network}", names, remedy=remedy)
        ]

    async def evidence(self, seen: Seen) -> Mapping[str, Any]:
        del seen
        return {}

    async def plan(self, seen: Seen) -> Repair | None:
        network = self.ground.config.stack.docker_network
        if network is None:
            return None
        command = Command(("docker", "network", "create", network), _CREATE_S)
        return Repair((command,), seen.cause, f"docker network rm {network}")

    async def _owner(self, network: str) -> str | None:
        """The project that declares the network as its own.

        Made by anybody else it would lack the labels without which Compose 2 refuses it.
        """
        for key in self.ground.config.stack.compose:
            found = await sources(self.ground, key)
            project = None if isinstance(found, Seen) else await declared(self.ground, key, found)
            if project is not None and not isinstance(project, Seen) and network in project.own_networks:
                return key
        return None

    async def _removed_s(self, network: str) -> float | None:
        """How long ago somebody removed it; None when nobody did lately, as far as Docker remembers."""
        now = instant((await self.ground.door.info()).get("SystemTime")) or datetime.now(UTC)
        since = now - timedelta(seconds=self.ground.config.recovery.hands_off_s)
        for event in reversed(await self.ground.door.all_past_events(since, now, kind="network")):
            if event.action == "destroy" and event.name == network:
                return max(0.0, now.timestamp() - event.at_ns / 1e9)
        return None


def docker_network(ground: Ground) -> Step:
    """The step."""
    return _Network(ground)
