"""Loads belong to the engine, not to the request that caused them (SPEC B9, wire facts A3).

A client that goes away during a load makes Ollama abort it and start from zero next time. So a load runs in
a task of its own, once however many wait for it, under a budget that grows with the model; a caller who
gives up leaves it running.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

from opskit.config.schema import Budgets
from opskit.llm.faults import Fault, FaultKind, classify
from opskit.llm.fit import GIB
from opskit.providers.base import CallError, Provider
from opskit.records import replace

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[Key, T]):
    """The tasks under way, by their keys. Whoever waits for one may leave it: it goes on."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[T]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._tasks

    def start(self, key: Key, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Return the task of a key, started where none is under way."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(work(), name=name)
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return task

    async def aclose(self) -> None:
        """End what is still under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def load_budget_s(budgets: Budgets, size_bytes: int | None) -> float:
    """`load_s` plus `load_s_per_gib` for each GiB of weights."""
    return budgets.load_s + budgets.load_s_per_gib * (size_bytes or 0) / GIB


class Loads:
    """The loads of one engine, one for each (node, model)."""

    def __init__(
        self, budgets: Budgets, on_loaded: Callable[[str, str], None] = lambda _node, _model: None
    ) -> None:
        self._budgets = budgets
        self._on_loaded = on_loaded
        self._tasks = SingleFlight[tuple[str, str], Fault | None]()

    def running(self, node: str, model: str) -> bool:
        return (node, model) in self._tasks

    async def ensure(
        self,
        node: str,
        provider: Provider,
        model: str,
        *,
        size_bytes: int | None,
        patience_s: float | None,
        num_ctx: int | None = None,
    ) -> Fault | None:
        """Wait for the load, starting it when nobody has. None when it is resident.

        After `patience_s` returns a LOADING fault and leaves the load running. Cancelling the caller leaves
        it running too.
        """
        load = partial(self._load, node, provider, model, size_bytes, num_ctx)
        task = self._tasks.start((node, model), f"load {model} on {node}", load)
        done, _ = await asyncio.wait({task}, timeout=patience_s)
        if not done:
            return Fault(FaultKind.LOADING, f"it is still loading after {patience_s:g} s; the load goes on")
        return task.result()

    async def _load(
        self, node: str, provider: Provider, model: str, size_bytes: int | None, num_ctx: int | None
    ) -> Fault | None:
        budget = load_budget_s(self._budgets, size_bytes)
        try:
            async with asyncio.timeout(budget):
                await provider.load(model, num_ctx=num_ctx)
        except TimeoutError:
            return Fault(FaultKind.LOAD_TIMEOUT, f"it was not loaded within {budget:.0f} s")
        except CallError as error:
            fault = classify(error)
            if fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT:
                return replace(fault, kind=FaultKind.LOAD_TIMEOUT)
            return fault
        self._on_loaded(node, model)
        return None

    async def aclose(self) -> None:
        """The process ends: so do its loads."""
        await self._tasks.aclose()
