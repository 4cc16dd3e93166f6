"""The steps of this stack, in the order of SPEC B12: each names what it requires and what it comes after."""

from collections.abc import Sequence

from opskit.recovery.context import RecoveryContext
from opskit.recovery.step import Step


def steps(ground: RecoveryContext) -> Sequence[Step]:
    """Wi-Fi, internet, Docker, network, Compose projects, model nodes, agents; nothing is looked at yet."""
    from opskit.recovery.steps.agents import agents
    from opskit.recovery.steps.compose_project import compose_projects
    from opskit.recovery.steps.docker_daemon import docker_daemon
    from opskit.recovery.steps.docker_network import docker_network
    from opskit.recovery.steps.internet import internet
    from opskit.recovery.steps.nodes import nodes
    from opskit.recovery.steps.wifi import wifi

    found = [
        wifi(ground),
        internet(ground),
        docker_daemon(ground),
        docker_network(ground),
        *compose_projects(ground),
        *nodes(ground),
        *agents(ground),
    ]
    return [step for step in found if step is not None]
