"""A router over scripted nodes, on the clock of the running loop."""

import asyncio
from collections.abc import Mapping
from typing import Any

from opskit.config.schema import Budgets, CircuitConfig, NodeConfig, RouterConfig
from opskit.llm.answer import Answer, Ask, NoAnswer, Session
from opskit.llm.plan import ModelRequest
from opskit.llm.router import Router
from opskit.llm.waiting import WatchRequest
from opskit.providers.base import CallCause, CallError, Provider
from opskit.providers.node import Node
from opskit.records import names
from opskit.tags import TaggedLine, TagLog, parse

BUDGETS = Budgets()
_ROUTER = set(names(RouterConfig))
_CIRCUIT = set(names(CircuitConfig))


def node(
    name: str,
    provider: Provider,
    *,
    url: str = "http://127.0.0.1:9",
    budgets: Budgets = BUDGETS,
    num_ctx: int | None = None,
) -> Node:
    """A node whose source is the letters of its name: `ollama2` is an Ollama."""
    source: Any = name.rstrip("0123456789")
    return Node(NodeConfig(name, url, source, num_ctx=num_ctx), budgets, provider=provider)


class Rig:
    """`settings` are fields of RouterConfig, CircuitConfig and Budgets."""

    def __init__(
        self,
        nodes: Mapping[str, Provider],
        *,
        memory: int | None = None,
        url: str = "http://127.0.0.1:9",
        num_ctx: int | None = None,
        watch: WatchRequest | None = None,
        **settings: Any,
    ) -> None:
        router = {key: value for key, value in settings.items() if key in _ROUTER}
        circuit = {key: value for key, value in settings.items() if key in _CIRCUIT}
        rest = {key: value for key, value in settings.items() if key not in _ROUTER | _CIRCUIT}
        budgets = Budgets(**rest)
        self.lines: list[TaggedLine] = []
        self.nodes = [
            node(name, provider, url=url, budgets=budgets, num_ctx=num_ctx)
            for name, provider in nodes.items()
        ]
        self.router = Router(
            self.nodes,
            router=RouterConfig(**router),
            budgets=budgets,
            circuit=CircuitConfig(**circuit),
            log=TagLog(self._keep),
            memory=lambda: memory,
            clock=asyncio.get_running_loop().time,
            watch=watch,
        )

    async def ask(self, goal: str = "How are you?", session: Session | None = None, **rest: Any) -> Answer:
        return await self.router.chat(Ask.of(goal, **rest), session)

    async def refused(
        self, goal: str = "How are you?", session: Session | None = None, **rest: Any
    ) -> NoAnswer:
        """The refusal of an ask that must not be answered."""
        try:
            answer = await self.ask(goal, session, **rest)
        except NoAnswer as refusal:
            return refusal
        raise AssertionError(f"it was answered: {answer}")

    async def streamed(self, goal: str = "How are you?", **rest: Any) -> tuple[list[str], Answer | NoAnswer]:
        """The pieces that were passed on, and how it ended."""
        pieces: list[str] = []
        try:
            async for item in self.router.stream(Ask.of(goal, **rest)):
                if isinstance(item, Answer):
                    return pieces, item
                pieces.append(item)
        except NoAnswer as refusal:
            return pieces, refusal
        raise AssertionError("the stream ended without an answer")

    def tagged(self, tag: str) -> list[TaggedLine]:
        return [line for line in self.lines if line.tag == tag]

    async def aclose(self) -> None:
        await self.router.aclose()
        for one in self.nodes:
            await one.aclose()

    def _keep(self, line: str) -> None:
        parsed = parse(line)
        assert parsed is not None
        assert not parsed.rest
        self.lines.append(parsed)


def tried(outcome: Answer | NoAnswer) -> list[tuple[str, str, str | None]]:
    """Each attempt as (node, model, what was wrong)."""
    return [(a.node, a.model, a.fault) for a in outcome.attempts]


def named(model: str) -> dict[str, Any]:
    """The argument that asks for a model by name."""
    return {"request": ModelRequest(model=model)}


def fails(cause: CallCause, text: str = "", status: int | None = None, **rest: Any) -> tuple[CallError]:
    """The script of a call that fails; `rest` goes to CallError."""
    return (CallError(cause, text or cause.value, status=status, **rest),)
