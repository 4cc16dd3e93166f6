"""The network that the Compose projects share (SPEC B12: `atra-network`): is it there?"""

from collections.abc import Sequence
from functools import partial

from opskit.config.schema import StackConfig
from opskit.recovery.compose_projects import UnusableProject, read_project
from opskit.recovery.step import Command, Condition, RecoveryContext, Repair, Step, TargetFinding

_CREATE_S = 30.0


def docker_network(context: RecoveryContext) -> Step:
    return Step("network", partial(_look, context), requires=("docker",))


async def _look(context: RecoveryContext) -> Sequence[TargetFinding]:
    stack, network = context.config.stack, context.config.stack.docker_network
    if network is None:
        return [_finding(Condition.ABSENT, "absent", "`stack.docker_network` is null")]
    if await context.docker.found("network", network) is not None:
        return [_finding(Condition.HEALTHY, "ok", f"{network} is there", network)]
    if not stack.compose and network == StackConfig().docker_network:
        why = f"there is no {network}, and no Compose project is configured that would use it"
        return [_finding(Condition.ABSENT, "absent", why, network)]
    if (owner := await _owner(context, network)) is not None:
        why = f"there is no {network} yet: Compose project {owner} makes it"
        return [_finding(Condition.WAITING, "missing", why, network)]
    cause, command = f"there is no network {network}", ("docker", "network", "create", network)
    repair = Repair((Command(command, _CREATE_S),), cause, f"docker network rm {network}")
    remedy = f"`{repair.commands[0].shown}`"
    return [_finding(Condition.BROKEN, "missing", cause, network, remedy=remedy, repair=repair)]


def _finding(
    condition: Condition,
    state: str,
    cause: str,
    *names: str,
    remedy: str | None = None,
    repair: Repair | None = None,
) -> TargetFinding:
    return TargetFinding("network", condition, state, cause, names, remedy=remedy, repair=repair)


async def _owner(context: RecoveryContext, network: str) -> str | None:
    """Return the project that declares the network as its own.

    Made by anybody else it would lack the labels without which Compose 2 refuses it.
    """
    for key in context.config.stack.compose:
        try:
            _, project = await read_project(context, key)
        except UnusableProject:
            continue
        if network in project.own_networks:
            return key
    return None
