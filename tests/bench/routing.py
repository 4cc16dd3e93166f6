"""What the router costs over calling the provider bare, and what a dead primary costs, over real HTTP."""

import contextlib
import statistics
import time
from collections.abc import AsyncIterator

from opskit.config.schema import Budgets, CircuitConfig, NodeConfig, RouterConfig
from opskit.llm.answer import Ask, Session
from opskit.llm.plan import ModelRequest
from opskit.llm.router import Router
from opskit.providers.base import ChatRequest
from opskit.providers.node import Node
from opskit.sandbox.ollama import SimModel, SimulatedOllama
from opskit.tags import TagLog
from tests.bench.measure import Figure
from tests.parts.scripted import Scripted, says

TEXT = "A fair answer that says something of its own about the matter at hand."
GOAL = "Please tell me what the matter is about."
RUNS = 400


@contextlib.asynccontextmanager
async def routed(*nodes: Node) -> AsyncIterator[Router]:
    lines: list[str] = []
    router = Router(
        nodes,
        router=RouterConfig(),
        budgets=Budgets(),
        circuit=CircuitConfig(),
        log=TagLog(lines.append),
        memory=lambda: 32 * 1024**3,
    )
    try:
        yield router
    finally:
        await router.aclose()
        for node in nodes:
            await node.aclose()


def _node(name: str, url: str = "http://127.0.0.1:9", provider: Scripted | None = None) -> Node:
    return Node(NodeConfig(name, url, "ollama"), Budgets(), provider=provider)


async def figures() -> list[Figure]:
    return [*await _scripted(), *await _over_http(), *await _dead_primary()]


async def _scripted() -> list[Figure]:
    """The router alone: the provider answers from memory, twenty models to choose from."""
    scripts = {f"model-{number}:7b": [says(TEXT)] for number in range(20)}
    provider = Scripted(scripts)
    ask = Ask.of(GOAL)
    request = ChatRequest(ask.messages, "model-0:7b")
    routed_s, bare_s = [], []
    async with routed(_node("ollama", provider=provider)) as router:
        await router.chat(ask)
        for _ in range(RUNS):
            began = time.perf_counter()
            await router.chat(ask)
            routed_s.append(time.perf_counter() - began)
            began = time.perf_counter()
            async with contextlib.aclosing(provider.stream(request)) as events:
                async for _event in events:
                    pass
            bare_s.append(time.perf_counter() - began)
    added = (statistics.median(routed_s) - statistics.median(bare_s)) * 1000
    return [Figure("router, added per request, 20 models", added, "ms", "<= 0.3", "provider in memory")]


async def _over_http() -> list[Figure]:
    """The same over HTTP on loopback, in turn."""
    async with SimulatedOllama(models=[SimModel("m:7b", resident=True)], reply=lambda _m, _n: TEXT) as server:
        ask = Ask.of(GOAL)
        request = ChatRequest(ask.messages, "m:7b")
        routed_s, bare_s = [], []
        node = _node("ollama", server.url)
        async with routed(node) as router:
            await router.chat(ask)
            provider = await node.provider()
            for _ in range(RUNS):
                began = time.perf_counter()
                await router.chat(ask)
                routed_s.append(time.perf_counter() - began)
                began = time.perf_counter()
                async with contextlib.aclosing(provider.stream(request)) as events:
                    async for _event in events:
                        pass
                bare_s.append(time.perf_counter() - began)
    routed_ms, bare_ms = statistics.median(routed_s) * 1000, statistics.median(bare_s) * 1000
    note = f"{routed_ms:.2f} ms against {bare_ms:.2f} ms"
    return [Figure("router, added per request over HTTP", routed_ms - bare_ms, "ms", "<= 0.3", note)]


async def _dead_primary() -> list[Figure]:
    """A primary that dies after it was scanned: what the first request loses, and what the next ones do."""
    firsts, nexts, directs = [], [], []
    for _ in range(20):
        async with contextlib.AsyncExitStack() as stack:
            model = SimModel("big:32b", resident=True)
            primary = await stack.enter_async_context(
                SimulatedOllama(models=[model], reply=lambda _m, _n: TEXT)
            )
            spare = await stack.enter_async_context(
                SimulatedOllama(models=[SimModel("small:3b", resident=True)], reply=lambda _m, _n: TEXT)
            )
            router = await stack.enter_async_context(
                routed(_node("primary", primary.url), _node("spare", spare.url))
            )
            await router.catalog.snapshot(wait_for_all=True)
            await _timed(router, ModelRequest(model="small:3b"))
            await primary.stop()
            firsts.append(await _timed(router, ModelRequest(model="big:32b")))
            nexts += [await _timed(router, ModelRequest(model="big:32b")) for _ in range(10)]
            directs += [await _timed(router, ModelRequest(model="small:3b")) for _ in range(10)]
    direct = statistics.median(directs)
    first_ms, next_ms = ((statistics.median(found) - direct) * 1000 for found in (firsts, nexts))
    return [
        Figure("dead primary, first request, added", first_ms, "ms", "<= 20"),
        Figure("dead primary, next requests, added", next_ms, "ms", "<= 5"),
    ]


async def _timed(router: Router, request: ModelRequest) -> float:
    began = time.perf_counter()
    await router.chat(Ask.of(GOAL, request=request), Session())
    return time.perf_counter() - began
