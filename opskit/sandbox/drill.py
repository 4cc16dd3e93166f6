"""Plays faults that real servers show against a configuration's own router and budgets.

A primary and a healthy spare stand on loopback; the primary is scanned while it is well, then the fault is
switched on, as in life; judged is what a caller would see. The scenarios stand in `scenarios.toml`.
"""

import asyncio
import contextlib
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from msgspec import convert

from opskit.config.schema import Config, NodeConfig, Source
from opskit.llm.answer import Answer, Ask, Attempt, NoAnswer, Session
from opskit.llm.plan import ModelRequest
from opskit.llm.router import Router
from opskit.providers.base import DEFAULT_MODEL
from opskit.providers.node import Node
from opskit.records import MutableRecord, Record, replace
from opskit.result import Finding, Status
from opskit.sandbox.faults import parse_fault
from opskit.sandbox.mlx import SimulatedMlx
from opskit.sandbox.ollama import SimModel, SimulatedOllama
from opskit.sandbox.server import SimulatedServer
from opskit.tags import TagLog, correlated

_GOAL = "Describe in a few words how a careful router treats a sick server."
_PRIMARY = (
    "The primary speaks here: it watches each reply, remembers who fell ill, and asks somebody else before "
    "the caller has to wait; it tells the truth when nobody could help, and it lets the sick one rest for a "
    "while before trying again with great care."
)
_SPARE = (
    "This is the spare: a careful router notices the first bad sign, turns to a healthy neighbour within "
    "milliseconds, keeps a note of what happened, and gives the patient time to recover before it is asked "
    "anything else, so that callers never pay twice for one failure."
)


class Scenario(Record):
    """One fault and its right outcome.

    `fault` is a spec for the primary, without its name (`crash,times=1`). `first` are the faults or verdicts
    that the first attempt may be recorded with, empty when it must succeed. `expect`: the spare's answer, the
    primary's own, a stream that breaks with an explicit error, or an honest error. `scanned`: the primary is
    known before the fault. `player` names how it is played: `once` for what one request can show.
    """

    name: str
    injected: str
    primary: Literal["ollama", "mlx"] = "ollama"
    fault: str = ""
    first: frozenset[str] = frozenset()
    expect: Literal["spare", "primary", "broken", "error", "either"] = "spare"
    resident: bool = True
    streamed: bool = False
    spare: bool = True
    waits: bool = False
    scanned: bool = True
    player: str = "once"


@cache
def all_scenarios() -> tuple[Scenario, ...]:
    """Return every scenario, named after its fault, and after its primary where that is not Ollama."""
    text = Path(__file__).with_name("scenarios.toml").read_text("utf-8")
    scenarios = []
    for name, row in tomllib.loads(text).items():
        kind = name.removeprefix("mlx-").removeprefix("llama-")
        named = {"name": name, "primary": "ollama" if kind == name else "mlx", "fault": kind}
        scenarios.append(convert(named | row, Scenario))
    return tuple(scenarios)


class ScenarioResult(Record):
    """What the caller of one scenario saw. `ok` is None where the text and the attempts decide it."""

    shown: str
    attempts: tuple[Attempt, ...]
    seconds: float
    error: NoAnswer | None
    note: str = ""
    ok: bool | None = None

    @property
    def text(self) -> str:
        return self.shown if self.error is None else ""

    @property
    def lost_s(self) -> float:
        good_s = self.attempts[-1].seconds if self.attempts and self.error is None else 0.0
        return max(0.0, self.seconds - good_s)

    @property
    def summary(self) -> str:
        if self.error is not None:
            return f"error {self.error.code}: {self.error.message}"
        last = self.attempts[-1]
        return f"a right answer from {last.model} on {last.node}"

    def failed(self, why: str) -> "ScenarioResult":
        return replace(self, ok=False, note=why)

    def noted(self, more: str, *, ok: bool | None = None) -> "ScenarioResult":
        return replace(self, ok=ok, note=f"{self.summary}; {more}")


class Stand(MutableRecord):
    """Two servers, and a router over them with the configuration's own settings."""

    scenario: Scenario
    config: Config
    router: Router
    primary: SimulatedServer
    spare: SimulatedServer | None

    async def ask(
        self, session: Session | None = None, request: ModelRequest | None = None
    ) -> ScenarioResult:
        ask = Ask.of(_GOAL, request=request or ModelRequest(model=_model(self.primary)))
        began = time.monotonic()
        shown, attempts, error = "", tuple[Attempt, ...](), None
        try:
            if self.scenario.streamed:
                async with contextlib.aclosing(self.router.stream(ask, session)) as items:
                    async for item in items:
                        shown += item if isinstance(item, str) else ""
                        attempts = item.attempts if isinstance(item, Answer) else ()
            else:
                answer = await self.router.chat(ask, session)
                shown, attempts = answer.text, answer.attempts
        except NoAnswer as refused:
            error, attempts = refused, refused.attempts
        return ScenarioResult(shown, attempts, time.monotonic() - began, error)

    async def ask_twice(self) -> tuple[ScenarioResult, ScenarioResult]:
        """Ask two times in one session."""
        session = Session()
        return await self.ask(session), await self.ask(session)

    async def prepare(self) -> None:
        """Scan the servers while they are well, then set the fault."""
        if self.scenario.scanned:
            await self.router.catalog.snapshot(wait_for_all=True)
        if self.scenario.fault:
            _, _, fault = parse_fault(f"{self.scenario.primary}={self.scenario.fault}")
            self.primary.faults.set(None, fault)


async def drill(
    scenarios: Sequence[Scenario],
    config: Config,
    on_step: Callable[[str], None] = lambda _: None,
    log: TagLog | None = None,
) -> list[Finding]:
    """Play the scenarios and return their findings in the same order.

    The quick ones are played one by one, so that their times mean something; scenarios that wait for a
    budget to run out are played side by side.
    """
    findings: dict[str, Finding] = {}
    for scenario in scenarios:
        if not scenario.waits:
            on_step(scenario.name)
            findings[scenario.name] = await play(scenario, config, log)

    async def waiting(scenario: Scenario) -> None:
        findings[scenario.name] = await play(scenario, config, log)
        on_step(scenario.name)

    await asyncio.gather(*(waiting(scenario) for scenario in scenarios if scenario.waits))
    return [findings[scenario.name] for scenario in scenarios]


async def play(scenario: Scenario, config: Config, log: TagLog | None = None) -> Finding:
    """Play one scenario on a stand of its own; the router's tagged lines go to `log`."""
    async with _stand(scenario, config, log or TagLog()) as stand:
        with correlated():
            await stand.prepare()
            result = await _PLAYERS[scenario.player](stand)
    passed, why = _judge(scenario, result, config)
    return Finding(
        "drill",
        scenario.name,
        Status.PASS if passed else Status.FAIL,
        "ok" if passed else "failing",
        result.note or result.summary,
        None if passed else "MODEL_004",
        None if passed else f"{why}; `opskit drill --only {scenario.name} --verbose` shows each step",
        result.lost_s,
        {
            "injected": scenario.injected,
            "lost_ms": round(result.lost_s * 1000, 1),
            "seconds": round(result.seconds, 4),
            "attempts": [attempt.as_json() for attempt in result.attempts],
        },
    )


def _judge(scenario: Scenario, result: ScenarioResult, config: Config) -> tuple[bool, str]:
    """PASS or FAIL, and what was wrong."""
    if result.ok is not None:
        return result.ok, result.note
    if result.text and result.text not in (_PRIMARY, _SPARE):
        return False, "the caller was given a text that no healthy server had said"
    if scenario.first and (not result.attempts or result.attempts[0].fault not in scenario.first):
        named = result.attempts[0].fault if result.attempts else "no attempt"
        return False, f"the fault was taken for {named}, not for {' or '.join(sorted(scenario.first))}"
    if scenario.expect == "spare" and config.router.max_fallbacks == 0:
        return result.error is not None, "without fallbacks only an honest error is right"
    if scenario.expect == "broken":
        honest = result.error is not None and bool(result.shown) and _PRIMARY.startswith(result.shown)
        return honest, "a stream that broke after text was shown must end with an error"
    if scenario.expect == "error":
        return result.error is not None, "an error was due"
    right = {"spare": (_SPARE,), "primary": (_PRIMARY,), "either": (_PRIMARY, _SPARE)}[scenario.expect]
    return result.text in right, f"the right answer of the {scenario.expect} did not arrive"


async def _again(stand: Stand) -> ScenarioResult:
    """A model that crashed is not asked again in the session: the second request costs nothing."""
    first, second = await stand.ask_twice()
    if stand.config.router.max_fallbacks > 0 and (len(second.attempts) != 1 or second.error is not None):
        return first.failed("the crashed model was asked again in the session")
    return first.noted(f"the next request lost {second.lost_s * 1000:.1f} ms")


async def _not_blamed(stand: Stand) -> ScenarioResult:
    """A fault of one request: the next request of the same session is answered by the same model."""
    first, second = await stand.ask_twice()
    if second.text != _PRIMARY or len(second.attempts) != 1:
        return first.failed("a healthy model was not asked again after a fault of one request")
    return first.noted("the next request went to the first model again")


async def _give_up(stand: Stand) -> ScenarioResult:
    """The caller leaves during the load; the load goes on, and the next request finds it done."""
    first = asyncio.create_task(stand.ask())
    while not any(request.path == "/api/chat" for request in stand.primary.requests):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = await stand.ask()
    loads = sum((request.body or {}).get("messages") == [] for request in stand.primary.requests)
    if loads != 1:
        return second.failed(f"the model was loaded {loads} times")
    return second.noted("one load, not aborted")


async def _unknown_name(stand: Stand) -> ScenarioResult:
    """A name that the MLX server does not list must not reach the wire (it would download and swap)."""
    result = await stand.ask(request=ModelRequest(model="somebody/unknown-model"))
    sent = [request.model for request in stand.primary.requests if request.model is not None]
    if sent or result.error is None:
        return result.failed(f"the server was asked for {sent or 'another model'}")
    return result.noted("nothing was sent")


async def _flapping(stand: Stand) -> ScenarioResult:
    """Down: the spare answers. Up again: the primary is used again, found by a trial, not by a request."""
    await stand.primary.stop()
    down = await stand.ask()
    if down.text != _SPARE and stand.config.router.max_fallbacks > 0:
        return down.failed("while the primary was down the spare did not answer")
    await stand.primary.start()
    began = time.monotonic()
    limit_s = stand.config.circuit.open_s * 4 + 10
    while time.monotonic() - began < limit_s:
        up = await stand.ask()
        if up.error is None and len(up.attempts) == 1 and up.text == _PRIMARY:
            return down.noted(f"the primary was back in use after {time.monotonic() - began:.1f} s", ok=True)
        if any(attempt.fault for attempt in up.attempts):
            return up.failed("a request paid for trying the primary again")
        await asyncio.sleep(0.1)
    return down.failed(f"the primary was not used again within {limit_s:.0f} s")


async def _both_dead(stand: Stand) -> ScenarioResult:
    """No server is left: the error names both addresses and comes at once."""
    await stand.primary.stop()
    if stand.spare is not None:
        await stand.spare.stop()
    result = await stand.ask()
    nodes = {attempt.node for attempt in result.attempts}
    named = result.error is not None and all(name in result.error.message for name in nodes)
    return replace(result, ok=named and len(nodes) == 2, note=result.summary)


_PLAYERS: dict[str, Callable[[Stand], Awaitable[ScenarioResult]]] = {
    "once": Stand.ask,
    "again": _again,
    "not-blamed": _not_blamed,
    "give-up": _give_up,
    "unknown-name": _unknown_name,
    "flapping": _flapping,
    "both-dead": _both_dead,
}


@contextlib.asynccontextmanager
async def _stand(scenario: Scenario, config: Config, log: TagLog) -> AsyncIterator[Stand]:
    """A primary and a spare. With the MLX leg switched off the spare is a second Ollama (SPEC A6)."""
    big = SimModel("big:32b", 1_000_000_000, scenario.resident, load_s=0.05, parameter_size="32.8B")
    small = SimModel("small:3b", 500_000_000, resident=True, parameter_size="3B")
    on_ollama = scenario.primary == "ollama"
    primary = _ollama(big, _PRIMARY) if on_ollama else _mlx("lab/primary", _PRIMARY)
    servers = {"primary": primary}
    if scenario.spare:
        on_mlx = on_ollama and config.router.use_mlx_fallback
        servers["spare"] = _mlx("lab/spare", _SPARE) if on_mlx else _ollama(small, _SPARE)
    async with contextlib.AsyncExitStack() as stack:
        nodes = []
        for name, server in servers.items():
            await stack.enter_async_context(server)
            source: Source = "mlx" if isinstance(server, SimulatedMlx) else "ollama"
            node = Node(NodeConfig(name, server.url, source), config.budgets)
            stack.push_async_callback(node.aclose)
            nodes.append(node)
        router = Router(nodes, router=config.router, budgets=config.budgets, circuit=config.circuit, log=log)
        stack.push_async_callback(router.aclose)
        yield Stand(scenario, config, router, primary, servers.get("spare"))


def _ollama(model: SimModel, text: str) -> SimulatedServer:
    return SimulatedOllama(models=[model], reply=lambda _messages, _model: text, keep_alive_s=3600.0)


def _mlx(model: str, text: str) -> SimulatedServer:
    return SimulatedMlx(listed=[model], default_model=model, reply=lambda _messages, _model: text)


def _model(primary: SimulatedServer) -> str:
    return DEFAULT_MODEL if isinstance(primary, SimulatedMlx) else "big:32b"


def chosen(names: Iterable[str]) -> list[Scenario]:
    """Return the scenarios with these names, all when none is given. Raises KeyError for an unknown one."""
    by_name = {scenario.name: scenario for scenario in all_scenarios()}
    return [by_name[name] for name in names] or list(by_name.values())
