"""The network that the Compose projects share (SPEC B12: `atra-network`): is it there?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opskit.config.schema import StackConfig
from opskit.recovery.context import RecoveryContext
from opskit.recovery.step import LOOK_S, Command, Condition, Repair, Step, TargetObservation
from opskit.recovery.steps.declared import declared, sources

TARGET = "network"
_CREATE_S = 30.0


@dataclass(slots=True)
class _Network:
    ground: RecoveryContext
    name: str = TARGET
    title: str = "Docker network"
    requires: tuple[str, ...] = ("docker",)
    look_s = LOOK_S
    after: tuple[str, ...] = ()

    async def look(self) -> Sequence[TargetObservation]:
        stack = self.ground.config.stack
        network = stack.docker_network
        if network is None:
            return [TargetObservation(TARGET, Condition.ABSENT, "absent", "`stack.docker_network` is null")]
        names = (network,)
        if await self.ground.door.found("network", network) is not None:
            return [TargetObservation(TARGET, Condition.HEALTHY, "ok", f"{network} is there", names)]
        if not stack.compose and network == StackConfig().docker_network:
            why = f"there is no {network}, and no Compose project is configured that would use it"
            return [TargetObservation(TARGET, Condition.ABSENT, "absent", why, names)]
        if (owner := await self._owner(network)) is not None:
            why = f"there is no {network} yet: Compose project {owner} makes it"
            return [TargetObservation(TARGET, Condition.WAITING, "missing", why, names)]
        remedy = f"`docker network create {network}`"
        return [
            TargetObservation(
                TARGET, Condition.BROKEN, "missing", f"there is no network {network}", names, remedy=remedy
            )
        ]

    async def evidence(self, seen: TargetObservation) -> Mapping[str, Any]:
        del seen
        return {}

    async def plan(self, seen: TargetObservation) -> Repair | None:
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
            project = (
                None if isinstance(found, TargetObservation) else await declared(self.ground, key, found)
            )
            if (
                project is not None
                and not isinstance(project, TargetObservation)
                and network in project.own_networks
            ):
                return key
        return None


def docker_network(ground: RecoveryContext) -> Step:
    """The step."""
    return _Network(ground)
