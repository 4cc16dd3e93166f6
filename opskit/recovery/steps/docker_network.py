"""The network that the Compose projects share (SPEC B12: `atra-network`): is it there?"""

from collections.abc import Sequence
from functools import partial

from opskit.config.schema import StackConfig
from opskit.recovery.compose_projects import usable_projects
from opskit.recovery.step import Command, Condition, RecoveryContext, Repair, Step, TargetFinding

_CREATE_S = 30.0


def docker_network(context: RecoveryContext) -> Step:
    return Step("network", partial(_look, context), requires=("docker",))


async def _look(context: RecoveryContext) -> Sequence[TargetFinding]:
    stack, network = context.config.stack, context.config.stack.docker_network
    if network is None:
        return [TargetFinding("network", Condition.ABSENT, "absent", "`stack.docker_network` is null")]
    seen = partial(TargetFinding, "network", names=(network,))
    if await context.docker.found("network", network) is not None:
        return [seen(Condition.HEALTHY, "ok", f"{network} is there")]
    if not stack.compose and network == StackConfig().docker_network:
        why = f"there is no {network}, and no Compose project is configured that would use it"
        return [seen(Condition.ABSENT, "absent", why)]
    async for key, project in usable_projects(context):
        # Made by anybody else it would lack the labels without which Compose 2 refuses it.
        if network in project.own_networks:
            why = f"there is no {network} yet: Compose project {key} makes it"
            return [seen(Condition.WAITING, "missing", why)]
    cause, command = f"there is no network {network}", ("docker", "network", "create", network)
    repair = Repair((Command(command, _CREATE_S),), cause, f"docker network rm {network}")
    remedy = f"`{repair.commands[0].shown}`"
    return [seen(Condition.BROKEN, "missing", cause, remedy=remedy, repair=repair)]
