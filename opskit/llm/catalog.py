"""What models are really there: scanned from the nodes, cached, fetched once however many ask (SPEC B8).

The list of a node lives `catalog_ttl_s` (120 s); what is resident changes faster and lives RESIDENCY_TTL_S,
renewed in the background so that no request waits for it. Lists of different nodes are kept apart.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from opskit.llm.faults import Fault, classify
from opskit.providers.base import CallError, ModelInfo, Resident
from opskit.providers.node import Node

RESIDENCY_TTL_S = 10.0
#: How long the other nodes may still take once one has answered; later ones join when they come.
GRACE_S = 0.25


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as last seen. `residency_known` False means that /api/ps did not answer (loading, A2)."""

    name: str
    source: str
    flavour: str = ""
    models: tuple[ModelInfo, ...] = ()
    resident: tuple[Resident, ...] = ()
    residency_known: bool = True
    fault: Fault | None = None
    at: float = 0.0

    def is_resident(self, model: ModelInfo) -> bool | None:
        if model.resident is not None:
            return model.resident
        if not self.residency_known:
            return None
        return any(loaded.name == model.name for loaded in self.resident)

    def context_of(self, model: str) -> int | None:
        """The context length a resident model was loaded with: sending another would reload it (A3)."""
        return next((r.context_length for r in self.resident if r.name == model), None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All nodes, in configuration order. `version` changes whenever anything in it does."""

    nodes: tuple[NodeView, ...]
    version: int
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
        self._scans: dict[str, asyncio.Task[None]] = {}
        self._residency: dict[str, asyncio.Task[None]] = {}
        self._version = 0
        self._cached: Snapshot | None = None

    async def snapshot(self, *, wait_for_all: bool = False) -> Snapshot:
        """The nodes as known now; scans those that are unknown or stale.

        Waits until one node has answered plus GRACE_S for the rest, so that a silent node costs a request
        nothing; `wait_for_all` waits for each scan to end.
        """
        scans = {name: scan for name in self._nodes if (scan := self._scan_if_due(name)) is not None}
        if scans:
            await self._wait(scans, wait_for_all=wait_for_all)
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
        if view is not None and view.residency_known and all(r.name != model for r in view.resident):
            self._put(replace(view, resident=(*view.resident, Resident(model))))

    def residency_changed(self, node: str) -> None:
        """A load, a crash or an eviction: what is resident must be asked again."""
        self._renew_residency(node)

    async def aclose(self) -> None:
        """End what is still being scanned."""
        tasks = [*self._scans.values(), *self._residency.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _snapshot(self) -> Snapshot:
        if self._cached is None:
            views = tuple(
                self._views.get(name, NodeView(name, node.source)) for name, node in self._nodes.items()
            )
            complete = not any(name not in self._views for name in self._nodes)
            self._cached = Snapshot(views, self._version, complete)
        return self._cached

    def _put(self, view: NodeView) -> None:
        known = self._views.get(view.name)
        if known is not None and replace(known, at=view.at) == view:
            # Nothing but the time is new: the snapshot changes only where somebody reads the difference.
            self._views[view.name] = view
            return
        self._views[view.name] = view
        self._version += 1
        self._cached = None

    def _scan_if_due(self, name: str) -> asyncio.Task[None] | None:
        running = self._scans.get(name)
        view = self._views.get(name)
        if view is not None and self._clock() - view.at < self._lifetime(view):
            if self._clock() - view.at > RESIDENCY_TTL_S and view.fault is None:
                self._renew_residency(name)
            return None
        if running is None:
            running = asyncio.create_task(self._scan(name), name=f"scan {name}")
            self._scans[name] = running
            running.add_done_callback(lambda _: self._scans.pop(name, None))
        # A stale list is better than a wait: only a node that was never seen is waited for.
        return running if view is None or view.at == float("-inf") else None

    def _lifetime(self, view: NodeView) -> float:
        return self._ttl_s if view.fault is None else min(self._ttl_s, 15.0)

    async def _wait(self, scans: dict[str, asyncio.Task[None]], *, wait_for_all: bool) -> None:
        pending = set(scans.values())
        while pending:
            useful = any(view.models for view in self._views.values())
            timeout = GRACE_S if useful and not wait_for_all else None
            done, pending = await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not done:
                return

    async def _scan(self, name: str) -> None:
        node = self._nodes[name]
        try:
            provider = await node.provider()
            listing = asyncio.create_task(provider.models())
            try:
                resident, known = await self._resident(node)
                models = await listing
            finally:
                listing.cancel()
        except CallError as error:
            node.forget()
            fault = classify(error)
            self._put(NodeView(name, node.source, fault=fault, at=self._clock()))
            return
        self._put(
            NodeView(
                name,
                node.source,
                flavour=provider.flavour,
                models=tuple(model for model in models if generates(model)),
                resident=resident,
                residency_known=known,
                at=self._clock(),
            )
        )

    async def _resident(self, node: Node) -> tuple[tuple[Resident, ...], bool]:
        try:
            resident = await (await node.provider()).resident()
        except CallError:
            return (), False
        return (resident or ()), True

    def _renew_residency(self, name: str) -> None:
        if name in self._residency or name not in self._views:
            return
        task = asyncio.create_task(self._renew(name), name=f"residency of {name}")
        self._residency[name] = task
        task.add_done_callback(lambda _: self._residency.pop(name, None))

    async def _renew(self, name: str) -> None:
        try:
            resident, known = await self._resident(self._nodes[name])
        except CallError:
            return
        view = self._views.get(name)
        if view is not None:
            self._put(replace(view, resident=resident, residency_known=known))


def generates(model: ModelInfo) -> bool:
    """Whether a model can chat; embedding models cannot (by capabilities where given, else by name)."""
    if model.capabilities is not None:
        return "completion" in model.capabilities
    name = model.name.lower()
    if model.family is not None and model.family.lower() in ("bert", "nomic-bert", "xlm-roberta"):
        return False
    return not any(mark in name for mark in ("embed", "rerank", "bge-", "minilm", "whisper"))
