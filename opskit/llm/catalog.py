"""What models are really there: scanned from the nodes, cached, fetched once however many ask (SPEC B8).

The list of a node lives `catalog_ttl_s` (120 s); what is resident changes faster and lives RESIDENCY_TTL_S,
renewed in the background; only after a long silence a request waits for it, and never above GRACE_S. Lists of
different nodes are kept apart.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath

from opskit.config.schema import NodeConfig, Source
from opskit.llm.faults import Fault, FaultKind, classify
from opskit.llm.loads import SingleFlight
from opskit.providers.base import DEFAULT_MODEL, CallError, ModelInfo, Resident, name_default
from opskit.providers.kinds import ServerKind, expected_kind
from opskit.providers.node import Node, read_contents
from opskit.records import Record, replace
from opskit.system.host import is_loopback
from opskit.system.network import endpoint

RESIDENCY_TTL_S = 10.0
#: Older news of what is loaded are not believed: servers unload idle models after minutes (wire facts A3).
RESIDENCY_STALE_S = 60.0
#: How long a node that did not answer is left alone while others can be asked, and when they cannot.
DOWN_TTL_S = 15.0
DOWN_URGENT_S = 1.0
#: How long the other nodes may still take once one has answered; later ones join when they come.
GRACE_S = 0.25


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as last seen.

    `source` is what it is configured as, `kind` what it turned out to be; None until it has answered.

    `residency_known` False means that the server cannot tell what is loaded, or that /api/ps did not answer
    (loading, A2).
    """

    name: str
    source: Source
    kind: ServerKind | None = None
    models: tuple[ModelInfo, ...] = ()
    resident: tuple[Resident, ...] = ()
    residency_known: bool = True
    fault: Fault | None = None
    at: float = 0.0
    _loaded: Mapping[str, Resident] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_loaded", {loaded.name: loaded for loaded in self.resident})

    @property
    def likely_kind(self) -> ServerKind:
        """What it is, or where it has not answered what it is configured as."""
        return self.kind or expected_kind(self.source)

    def model(self, name: str) -> ModelInfo | None:
        """Return the model of this name, as it is sent."""
        return next((model for model in self.models if model.name == name), None)

    def is_resident(self, model: ModelInfo) -> bool | None:
        """None when it is unknown. A cloud model has nothing to load."""
        if model.cloud or model.resident is not None:
            return model.cloud or model.resident
        if model.name in self._loaded:
            return True
        return False if self.residency_known else None

    def context_of(self, model: str) -> int | None:
        """The context length a resident model was loaded with: sending another would reload it (A3)."""
        loaded = self._loaded.get(model)
        return None if loaded is None else loaded.context_length


class Snapshot(Record):
    """All nodes, in configuration order; the same object until anything in it changes."""

    nodes: tuple[NodeView, ...]
    complete: bool

    def node(self, name: str) -> NodeView | None:
        return next((view for view in self.nodes if view.name == name), None)


class Catalog:
    """Scans nodes and remembers. All times are of `clock` (monotonic seconds)."""

    def __init__(
        self, nodes: Sequence[Node], *, ttl_s: float = 120.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._ttl_s = ttl_s
        self._clock = clock
        self._views: dict[str, NodeView] = {}
        self._scans = SingleFlight[str, None]()
        self._residency = SingleFlight[str, None]()
        #: Nodes whose list is here while this machine still reads what they were started with.
        self._listed: set[str] = set()
        self._looked_at: dict[str, float] = {}
        self._cached: Snapshot | None = None

    async def snapshot(self, *, wait_for_all: bool = False) -> Snapshot:
        """The nodes as known now; scans nodes that are unknown or stale.

        Waits until one node has answered plus GRACE_S for the rest, so that a silent node costs a request
        nothing; what this machine has to read about one that has answered is waited for. `wait_for_all` waits
        for each scan to end, and asks nodes that were down once more.
        """
        scans = [self._scan_if_due(name, insist=wait_for_all) for name in self._nodes]
        await self._wait({scan for scan in scans if scan is not None}, wait_for_all=wait_for_all)
        stale = {name: renewal for name in self._nodes if (renewal := self._look_if_due(name)) is not None}
        if stale:
            await self._believe_no_more(stale)
        return self._snapshot()

    def view(self, node: str) -> NodeView | None:
        """A node as last seen, without asking it."""
        return self._views.get(node)

    def forget(self, node: str) -> None:
        """The node's list proved wrong: scan it again before its next use."""
        if (view := self._views.get(node)) is not None:
            self._put(replace(view, at=float("-inf")))

    def saw_resident(self, node: str, model: str) -> None:
        """Passive news: the model has just answered."""
        view = self._views.get(node)
        if view is not None and all(r.name != model for r in view.resident):
            self._put(replace(view, resident=(*view.resident, Resident(model))))

    def residency_changed(self, node: str) -> None:
        """A load, a crash or an eviction: what is resident must be asked again."""
        self._renew_residency(node)

    async def aclose(self) -> None:
        """End what is still being scanned."""
        await self._scans.aclose()
        await self._residency.aclose()

    def _snapshot(self) -> Snapshot:
        if self._cached is None:
            views = tuple(
                self._views.get(name, NodeView(name, node.source)) for name, node in self._nodes.items()
            )
            complete = not any(name not in self._views for name in self._nodes)
            self._cached = Snapshot(views, complete)
        return self._cached

    def _put(self, view: NodeView) -> None:
        known = self._views.get(view.name)
        if known is not None and replace(known, at=view.at) == view:
            # Nothing but the time is new: the snapshot changes only where somebody reads the difference.
            self._views[view.name] = view
            return
        self._views[view.name] = view
        self._cached = None

    def _scan_if_due(self, name: str, *, insist: bool) -> asyncio.Task[None] | None:
        view = self._views.get(name)
        insist = insist and view is not None and view.fault is not None
        down_s = min(self._ttl_s, DOWN_URGENT_S if insist else DOWN_TTL_S)
        lifetime_s = self._ttl_s if view is None or view.fault is None else down_s
        if view is not None and self._clock() - view.at < lifetime_s:
            return None
        running = self._scans.start(name, f"scan {name}", partial(self._scan, name))
        # A stale list is better than a wait: only a node that was never seen is waited for.
        return running if insist or view is None or view.at == float("-inf") else None

    def _look_if_due(self, name: str) -> asyncio.Task[None] | None:
        """Renew what is loaded there; the task is given back when the old news must not be used."""
        view = self._views.get(name)
        age = self._clock() - self._looked_at.get(name, float("-inf"))
        if view is None or view.fault is not None or age <= RESIDENCY_TTL_S:
            return None
        renewal = self._renew_residency(name)
        return renewal if age > RESIDENCY_STALE_S else None

    async def _believe_no_more(self, stale: dict[str, asyncio.Task[None]]) -> None:
        """Wait shortly for fresh news; where none come, nothing is known."""
        await asyncio.wait(stale.values(), timeout=GRACE_S)
        for name, renewal in stale.items():
            if not renewal.done() and (view := self._views.get(name)) is not None:
                self._put(replace(view, resident=(), residency_known=False))
                # Nothing is claimed any more, so nobody else needs to wait for this look.
                self._looked_at[name] = self._clock() - RESIDENCY_TTL_S

    async def _wait(self, pending: set[asyncio.Task[None]], *, wait_for_all: bool) -> None:
        while pending:
            useful = any(view.models for view in self._views.values())
            timeout = GRACE_S if useful and not wait_for_all else None
            done, pending = await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not done and not self._listed:
                return

    async def _scan(self, name: str) -> None:
        node = self._nodes[name]
        try:
            provider = await node.provider()
            contents = await read_contents(provider, residency_grace_s=GRACE_S)
            models = contents.models
            if len(models) > 1:
                self._listed.add(name)
                models = await with_started_model(node.config, models)
        except CallError as error:
            fault = classify(error)
            view_before = self._views.get(name)
            if fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT and view_before is not None and view_before.models:
                # Slow, not gone: it may be loading. The old list serves, what is loaded is not known.
                soon = self._clock() - self._ttl_s + DOWN_TTL_S
                self._put(replace(view_before, resident=(), residency_known=False, at=soon))
                return
            node.forget()
            self._put(NodeView(name, node.source, fault=fault, at=self._clock()))
            return
        finally:
            self._listed.discard(name)
        self._put(
            NodeView(
                name,
                node.source,
                kind=provider.kind,
                models=tuple(filter(generates, models)),
                resident=contents.resident or (),
                residency_known=contents.resident is not None,
                at=self._clock(),
            )
        )
        self._looked_at[name] = self._clock()
        if contents.resident is None:
            self._renew_residency(name)

    def _renew_residency(self, name: str) -> asyncio.Task[None] | None:
        if name not in self._views:
            return None
        return self._residency.start(name, f"residency of {name}", partial(self._renew, name))

    async def _renew(self, name: str) -> None:
        try:
            resident = await (await self._nodes[name].provider()).resident()
        except CallError:
            resident = None
        self._looked_at[name] = self._clock()
        view = self._views.get(name)
        if view is not None and view.fault is None:
            self._put(replace(view, resident=resident or (), residency_known=resident is not None))


def generates(model: ModelInfo) -> bool:
    """Whether a model can chat; embedding models cannot (by capabilities where given, else by name)."""
    if model.capabilities is not None:
        return "completion" in model.capabilities
    name = model.name.lower()
    if model.family is not None and model.family.lower() in ("bert", "nomic-bert", "xlm-roberta"):
        return False
    return not any(mark in name for mark in ("embed", "rerank", "bge-", "minilm", "whisper"))


async def with_started_model(node: NodeConfig, models: tuple[ModelInfo, ...]) -> tuple[ModelInfo, ...]:
    """Return the models with the name of the default one, out of the command line of the server."""
    unnamed = any(model.name == DEFAULT_MODEL and not model.aliases for model in models)
    if not unnamed or not is_loopback(node.url):
        return models
    return name_default(models, await asyncio.to_thread(_started_with, endpoint(node.url)[1]))


def _started_with(port: int) -> str | None:
    """Return the model of the server on a port; only of such servers the sockets are looked at. Blocks."""
    from opskit.system.process import find_processes, ports_of

    servers, _ = find_processes(command=lambda line: model_in_command(line) is not None)
    return next(
        (model_in_command(server.command) for server in servers if port in ports_of(server.pid)), None
    )


def model_in_command(command: Sequence[str]) -> str | None:
    """Return the `--model` of an `mlx_lm.server` command line; None for any other process. Pure."""
    names = {PurePath(word).name for word in command}
    if not names & {"mlx_lm", "mlx_lm.server"} and not any("mlx_lm/server" in word for word in command):
        return None
    from opskit.system.process import option_value

    return option_value(command, "--model")
