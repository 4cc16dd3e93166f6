"""Kinds that say what `opskit probe` and `opskit doctor` say: probe, stack_containers."""

from opskit.checks.container_assessment import ContainerRules, assessed
from opskit.checks.kinds.containers import CONTAINER_YIELDS, DOCKER, observed_container, worst_of
from opskit.checks.kinds.machine import NoParams
from opskit.checks.spec import CheckContext, NotHere, Observation, kind, unknown_member
from opskit.config.fields import Text, parameters
from opskit.config.schema import StackConfig
from opskit.facts.docker_daemon import read_docker_daemon
from opskit.facts.stack_containers import missing_containers, read_stack_containers
from opskit.result import Finding
from opskit.text import listing

#: A probe ends by itself long before, but it does not leave a server that loads a model.
_LIMIT_S = 1800.0


@parameters
class ProbeParams:
    """A node or an agent of the configuration; neither means the chain of them."""

    node: Text | None = None
    agent: Text | None = None

    def __post_init__(self) -> None:
        if self.node is not None and self.agent is not None:
            raise ValueError("needs either node or agent, or neither for the chain")

    @property
    def shown(self) -> str:
        return self.node or self.agent or "chain"


@kind(
    "what `opskit probe` says: of a node, of an agent, or of the chain whether a request is answered",
    {
        "status": "pass, warn, fail, skip (it is not there, and nobody asked for it), inconclusive",
        "state": "ok, slow, busy, loading, wedged, failing, refused, unreachable, unauthorised",
    },
    {"status": {"not": "fail"}},
    lambda p: str(p.shown),
    timeout_s=_LIMIT_S,
    imports=("opskit.checks.probe", "httpx", "opskit.providers.transport"),
    judges_itself=True,
)
async def probe(params: ProbeParams, context: CheckContext) -> Finding:
    from opskit.checks.agent_probe import probe_agent
    from opskit.checks.node_probe import probe_node
    from opskit.checks.probe import answered
    from opskit.checks.probe_record import ProbeOptions

    survey, config, not_before = context.survey, context.survey.config, context.not_before
    if params.node is not None:
        node = next((node for node in config.nodes if node.name == params.node), None)
        if node is None:
            raise unknown_member("node", params.node, [node.name for node in config.nodes])
        return (await survey.get(probe_node, node, ProbeOptions(), not_before=not_before)).finding()
    if params.agent is not None:
        agent = config.agent_named(params.agent)
        if agent is None:
            raise unknown_member("agent", params.agent, [agent.name for agent in config.agents])
        return (await survey.get(probe_agent, agent, not_before=not_before)).finding()
    if not config.nodes:
        raise NotHere("no node is configured")
    return await answered(context)


@kind(
    "the containers of `stack.containers` and `stack.compose` are well; of several the worst counts",
    CONTAINER_YIELDS,
    {"condition": "well"},
    lambda _: "stack",
    timeout_s=30.0,
    imports=DOCKER,
)
async def stack_containers(_: NoParams, context: CheckContext) -> Observation:
    config, survey = context.survey.config, context.survey
    daemon = await survey.get(read_docker_daemon, not_before=context.not_before)
    is_wanted = bool(config.stack.compose) or config.stack.containers != StackConfig().containers
    if not daemon.answers and not is_wanted:
        raise NotHere(f"{daemon.problem}; nothing that is configured needs it")
    stack = await survey.get(read_stack_containers, not_before=context.not_before)
    judged = assessed(stack.survey, ContainerRules.of(config.recovery))
    own = [container for container in judged if container.container.id in stack.named]
    missing = missing_containers(stack.listed, config.stack)
    missing += [f"project {name}" for name in config.stack.compose if name not in stack.projects.values()]
    if missing:
        values = {"exists": False, "state": "missing", "condition": "missing", "count": len(own)}
        remedy = "`opskit doctor` tells what is missing, `opskit recover` starts the stack"
        detail = f"not there: {listing(missing)}"
        return Observation(values, detail, state="missing", code="DOCKER_002", remedy=remedy)
    if not own:
        raise NotHere("no container of the stack is there, and none is configured")
    return observed_container(worst_of(own), len(own))
