"""One model server as it answers: what it is, what it holds, what is loaded. Nothing is generated."""

import asyncio
import time
from collections.abc import Sequence
from enum import StrEnum

from opskit.config.schema import NodeConfig
from opskit.facts.address import AddressProblem, examine_address, examine_kind
from opskit.facts.endpoint import not_connected
from opskit.facts.survey import Survey
from opskit.llm.catalog import NodeView, generates, with_started_model
from opskit.llm.faults import Fault, FaultKind, classify
from opskit.providers.base import CallError, ModelInfo, Resident
from opskit.providers.failures import proxy_error
from opskit.providers.kinds import ServerKind, expected_kind
from opskit.providers.node import Node, NodeContents, read_contents
from opskit.records import Record, replace
from opskit.system.network import TcpResult, connects

#: How long what is loaded may take after the list of models: a server that waits for a process behind it
#: takes 10 s (wire facts A8), and a caller can ask again.
RESIDENCY_S = 2.0


class ReadingStep(StrEnum):
    """How far the reading of a node came, in this order."""

    TCP = "tcp"
    HTTP = "http"
    MODELS = "models"


class NodeFacts(Record, kw_only=True):
    """One node as it answered in one reading.

    `failed` is the first step that did not work, `error` the call that failed, and `address_problem` what is
    wrong with the address, where that explains it; without an `error` it leads to a server of another kind.
    A residency that is not known fails nothing: `silence` is the call that failed, None too where the server
    never tells. `models` can chat, None where the list was not read; `resident` are the loaded
    ones among them, known only with `residency_known`.
    """

    config: NodeConfig
    tcp: TcpResult | None = None
    kind: ServerKind | None = None
    version: str | None = None
    models: tuple[ModelInfo, ...] | None = None
    resident: tuple[Resident, ...] = ()
    residency_known: bool = False
    failed: ReadingStep | None = None
    error: CallError | None = None
    address_problem: AddressProblem | None = None
    silence: CallError | None = None
    http_s: float = 0.0
    models_s: float = 0.0
    resident_s: float = 0.0

    @property
    def likely_kind(self) -> ServerKind:
        """What it is, or where it did not tell what it is configured as."""
        return self.kind or expected_kind(self.config.source)

    @property
    def fault(self) -> Fault | None:
        """Why the reading ended early; None where it did not."""
        return None if self.error is None else classify(self.error)

    @property
    def is_stranger(self) -> bool:
        """Whether something answers there that is no model server."""
        return self.kind is None and self.fault is not None and self.fault.kind is FaultKind.BAD_PAYLOAD

    @property
    def seconds(self) -> float:
        connect_s = 0.0 if self.tcp is None else self.tcp.seconds
        return connect_s + self.http_s + max(self.models_s, self.resident_s)

    @property
    def view(self) -> NodeView:
        """The same as the catalogue of the router keeps it."""
        return NodeView(
            self.config.name,
            self.config.source,
            self.kind,
            self.models or (),
            self.resident,
            residency_known=self.residency_known,
            fault=self.fault,
        )

    def model_called(self, name: str) -> ModelInfo | None:
        return next((model for model in self.models or () if model.is_called(name)), None)

    def shown(self, name: str) -> str:
        model = self.model_called(name)
        return name if model is None else model.shown


async def read_node(survey: Survey, config: NodeConfig) -> NodeFacts:
    """Connect, then read the metadata of a node. Never raises for what the server does."""
    tcp = await connects(config.dialled, timeout_s=survey.config.budgets.connect_s)
    if tcp.problem is not None:
        refused = not_connected(config.dialled, tcp)
        if config.proxy is not None:
            refused = proxy_error(config.proxy, refused)
        facts = NodeFacts(config=config, tcp=tcp, failed=ReadingStep.TCP, error=refused)
    else:
        node = survey.node(config)
        # Another server may have taken the port since this run last asked.
        node.forget()
        facts = replace(await read_metadata(node), tcp=tcp)
    if facts.error is None and facts.kind is not None:
        problem = await examine_kind(config, facts.kind, survey.config.nodes)
        return replace(facts, address_problem=problem)
    return await _explained(facts)


async def _explained(facts: NodeFacts) -> NodeFacts:
    """Return facts that end at the address with what is wrong with it."""
    if facts.error is None or facts.failed is ReadingStep.MODELS:
        return facts
    return replace(facts, address_problem=await examine_address(facts.config, facts.error))


async def read_metadata(node: Node, before: NodeFacts | None = None) -> NodeFacts:
    """Read what a node says of itself. Never raises for what the server does.

    With `before`, for a watch, its list of models is taken over: mlx_lm.server reads its whole
    cache for each list (wire facts B1).
    """
    facts = NodeFacts(config=node.config)
    began = time.monotonic()
    try:
        provider = await node.provider()
        facts = replace(facts, kind=provider.kind)
        version = await provider.version()
        facts = replace(facts, version=version, http_s=time.monotonic() - began)
    except CallError as error:
        took_s = time.monotonic() - began
        return replace(facts, failed=ReadingStep.HTTP, error=error, http_s=took_s)
    began = time.monotonic()
    try:
        models = None if before is None else before.models
        patience_s = RESIDENCY_S if provider.kind.runs_model_processes and models is None else None
        contents = await read_contents(provider, models=models, residency_grace_s=patience_s)
    except CallError as error:
        took_s = time.monotonic() - began
        return replace(facts, failed=ReadingStep.MODELS, error=error, models_s=took_s)
    return with_contents(facts, contents)


def with_contents(facts: NodeFacts, contents: NodeContents) -> NodeFacts:
    """Return the facts with what a server holds. Pure."""
    models = tuple(filter(generates, contents.models))
    names = {model.name for model in models}
    resident = contents.resident
    if resident is None:
        resident = tuple(Resident(model.name) for model in models if model.resident)
    return replace(
        facts,
        models=models,
        resident=tuple(model for model in resident if model.name in names),
        residency_known=contents.resident is not None or (bool(resident) and contents.silence is None),
        silence=contents.silence,
        models_s=contents.models_s,
        resident_s=contents.resident_s,
    )


async def read_all_metadata(nodes: Sequence[Node]) -> tuple[NodeFacts, ...]:
    """Read all nodes at once, with the models that they answer with when none is named."""

    async def read(node: Node) -> NodeFacts:
        return await with_default(await _explained(await read_metadata(node)))

    return tuple(await asyncio.gather(*map(read, nodes)))


async def with_default(facts: NodeFacts) -> NodeFacts:
    """Return the facts with the name of the model that a server answers with when none is named."""
    if facts.models is None:
        return facts
    return replace(facts, models=await with_started_model(facts.config, facts.models))
