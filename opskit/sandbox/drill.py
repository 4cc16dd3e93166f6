"""Plays the scenarios against a configuration's own router and budgets; judges what a caller would see."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from opskit.config.schema import Config, NodeConfig, Source
from opskit.llm.answer import Answer, Ask, Attempt, NoAnswer, Session
from opskit.llm.plan import ModelRequest
from opskit.llm.router import Router
from opskit.providers.base import DEFAULT_MODEL
from opskit.providers.node import Node
from opskit.result import Finding, Status
from opskit.sandbox.faults import parse_fault
from opskit.sandbox.mlx import SimulatedMlx
from opskit.sandbox.ollama import SimModel, SimulatedOllama
from opskit.sandbox.records import SimNode
from opskit.sandbox.scenarios import Scenario
from opskit.tags import TagLog, correlated

BIG = "big:32b"
SMALL = "small:3b"
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


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """What the caller of one scenario saw. `lost_s` is what the failed attempts cost."""

    text: str
    attempts: tuple[Attempt, ...]
    seconds: float
    error: NoAnswer | None = None
    shown: str = ""
    note: str = ""
    ok: bool | None = None

    @property
    def lost_s(self) -> float:
        good = self.attempts[-1].seconds if self.attempts and self.error is None else 0.0
        return max(0.0, self.seconds - good)


@dataclass(slots=True)
class Stand:
    """Two servers, a router over them, and the handles that a player needs."""

    scenario: Scenario
    router: Router
    primary: SimNode
    spare: SimNode | None
    wish: ModelRequest

    async def ask(self, session: Session | None = None, wish: ModelRequest | None = None) -> ScenarioResult:
        """Ask once, plain or streamed as the scenario says."""
        ask = Ask.of(_GOAL, wish=wish or self.wish)
        began = time.monotonic()
        shown: list[str] = []
        try:
            if not self.scenario.streamed:
                answer = await self.router.chat(ask, session)
                return ScenarioResult(answer.text, answer.attempts, time.monotonic() - began)
            async with contextlib.aclosing(self.router.stream(ask, session)) as items:
                async for item in items:
                    if isinstance(item, Answer):
                        text = "".join(shown)
                        return ScenarioResult(text, item.attempts, time.monotonic() - began, shown=text)
                    shown.append(item)
        except NoAnswer as refused:
            return ScenarioResult("", refused.attempts, time.monotonic() - began, refused, "".join(shown))
        raise AssertionError("a stream ends with an answer or raises")

    def strike(self) -> None:
        """Switch the faults on."""
        for spec in self.scenario.faults:
            _, _, fault = parse_fault(f"{self.scenario.primary}={spec}")
            self.primary.faults.set(None, fault)


async def drill(
    scenarios: Sequence[Scenario],
    config: Config,
    on_step: Callable[[str], None] = lambda _: None,
    log: TagLog | None = None,
) -> list[Finding]:
    """Play the scenarios: the quick ones one by one, so that their times mean something; those that have to

    wait for a budget to run out side by side. The findings come in the order of `scenarios`.
    """
    found: dict[str, Finding] = {}
    for scenario in scenarios:
        if not scenario.waits:
            on_step(scenario.name)
            found[scenario.name] = await play(scenario, config, log)

    async def waiting(scenario: Scenario) -> None:
        found[scenario.name] = await play(scenario, config, log)
        on_step(scenario.name)

    await asyncio.gather(*(waiting(scenario) for scenario in scenarios if scenario.waits))
    return [found[scenario.name] for scenario in scenarios]


async def play(scenario: Scenario, config: Config, log: TagLog | None = None) -> Finding:
    """One scenario on a stand of its own; the router's tagged lines go to `log`."""
    async with _stand(scenario, config, log or TagLog()) as stand:
        with correlated():
            seen = await _PLAYERS.get(scenario.special, _once)(stand, config)
    passed, why = _judge(scenario, seen, config)
    return Finding(
        "drill",
        scenario.name,
        Status.PASS if passed else Status.FAIL,
        "ok" if passed else "failing",
        seen.note or _told(seen),
        None if passed else "MODEL_004",
        None if passed else f"{why}; `opskit drill --only {scenario.name} --verbose` shows each step",
        seen.lost_s,
        {
            "injected": scenario.injected,
            "lost_ms": round(seen.lost_s * 1000, 1),
            "seconds": round(seen.seconds, 4),
            "attempts": [attempt.as_json() for attempt in seen.attempts],
        },
    )


def _judge(scenario: Scenario, seen: ScenarioResult, config: Config) -> tuple[bool, str]:
    """PASS or FAIL, and what was wrong."""
    if seen.ok is not None:
        return seen.ok, seen.note
    if seen.text and seen.text not in (_PRIMARY, _SPARE):
        return False, "the caller was given a text that no healthy server had said"
    if scenario.first and (not seen.attempts or seen.attempts[0].fault not in scenario.first):
        named = seen.attempts[0].fault if seen.attempts else "no attempt"
        return False, f"the fault was taken for {named}, not for {' or '.join(sorted(scenario.first))}"
    if scenario.expect == "spare" and config.router.max_fallbacks == 0:
        return seen.error is not None, "without fallbacks only an honest error is right"
    if scenario.expect == "broken":
        honest = seen.error is not None and bool(seen.shown) and _PRIMARY.startswith(seen.shown)
        return honest, "a stream that broke after text was shown must end with an error"
    if scenario.expect == "error":
        return seen.error is not None, "an error was due"
    right = {"spare": (_SPARE,), "primary": (_PRIMARY,), "either": (_PRIMARY, _SPARE)}[scenario.expect]
    return seen.text in right, f"the right answer of the {scenario.expect} did not arrive"


def _told(seen: ScenarioResult) -> str:
    if seen.error is not None:
        return f"error {seen.error.code}: {seen.error.message}"
    last = seen.attempts[-1]
    return f"a right answer from {last.model} on {last.node}"


async def _once(stand: Stand, config: Config) -> ScenarioResult:
    """Scan, strike, ask."""
    del config
    await stand.router.catalog.snapshot(wait_for_all=True)
    stand.strike()
    return await stand.ask()


async def _cold(stand: Stand, config: Config) -> ScenarioResult:
    """Strike before anything was scanned."""
    del config
    stand.strike()
    return await stand.ask()


async def _again(stand: Stand, config: Config) -> ScenarioResult:
    """A model that crashed is not asked again in the session: the second request costs nothing."""
    session = Session()
    await stand.router.catalog.snapshot(wait_for_all=True)
    stand.strike()
    seen = await stand.ask(session)
    second = await stand.ask(session)
    if config.router.max_fallbacks > 0 and (len(second.attempts) != 1 or second.error is not None):
        return replace(seen, ok=False, note="the crashed model was asked again in the session")
    told = f"{_told(seen)}; the next request lost {second.lost_s * 1000:.1f} ms"
    return replace(seen, note=told)


async def _not_blamed(stand: Stand, config: Config) -> ScenarioResult:
    """A fault of one request: the next request of the same session is answered by the same model."""
    del config
    session = Session()
    await stand.router.catalog.snapshot(wait_for_all=True)
    stand.strike()
    seen = await stand.ask(session)
    second = await stand.ask(session)
    if second.text != _PRIMARY or len(second.attempts) != 1:
        return replace(
            seen, ok=False, note="a healthy model was not asked again after a fault of one request"
        )
    return replace(seen, note=f"{_told(seen)}; the next request went to the first model again")


async def _give_up(stand: Stand, config: Config) -> ScenarioResult:
    """The caller leaves during the load; the load goes on, and the next request finds it done."""
    del config
    await stand.router.catalog.snapshot(wait_for_all=True)
    stand.strike()
    first = asyncio.create_task(stand.ask())
    while not any(request.path == "/api/chat" for request in stand.primary.requests):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    seen = await stand.ask()
    loads = [r for r in stand.primary.requests if r.body is not None and r.body.get("messages") == []]
    if len(loads) != 1:
        return replace(seen, ok=False, note=f"the model was loaded {len(loads)} times")
    return replace(seen, note=f"{_told(seen)}; one load, not aborted")


async def _unknown_name(stand: Stand, config: Config) -> ScenarioResult:
    """A name that the MLX server does not list must not reach the wire (it would download and swap)."""
    del config
    seen = await stand.ask(wish=ModelRequest(model="somebody/unknown-model"))
    sent = [r.model for r in stand.primary.requests if r.model is not None]
    if sent or seen.error is None:
        return replace(seen, ok=False, note=f"the server was asked for {sent or 'another model'}")
    return replace(seen, note=f"{_told(seen)}; nothing was sent")


async def _flapping(stand: Stand, config: Config) -> ScenarioResult:
    """Down: the spare answers. Up again: the primary is used again, found by a trial, not by a request."""
    await stand.router.catalog.snapshot(wait_for_all=True)
    await stand.primary.stop()
    down = await stand.ask()
    if down.text != _SPARE and config.router.max_fallbacks > 0:
        return replace(down, ok=False, note="while the primary was down the spare did not answer")
    await stand.primary.start()
    began = time.monotonic()
    limit = config.circuit.open_s * 4 + 10
    while time.monotonic() - began < limit:
        up = await stand.ask()
        if up.error is None and len(up.attempts) == 1 and up.text == _PRIMARY:
            back = time.monotonic() - began
            return replace(
                down, ok=True, note=f"{_told(down)}; the primary was back in use after {back:.1f} s"
            )
        if any(attempt.fault for attempt in up.attempts):
            return replace(up, ok=False, note="a request paid for trying the primary again")
        await asyncio.sleep(0.1)
    return replace(down, ok=False, note=f"the primary was not used again within {limit:.0f} s")


async def _both_dead(stand: Stand, config: Config) -> ScenarioResult:
    """Nobody is left: the error names both addresses and comes at once."""
    del config
    await stand.router.catalog.snapshot(wait_for_all=True)
    await stand.primary.stop()
    if stand.spare is not None:
        await stand.spare.stop()
    seen = await stand.ask()
    named = seen.error is not None and all(
        name in seen.error.message for name in {attempt.node for attempt in seen.attempts}
    )
    return replace(seen, ok=named and len({a.node for a in seen.attempts}) == 2, note=_told(seen))


_PLAYERS = {
    "": _once,
    "cold": _cold,
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
    async with contextlib.AsyncExitStack() as stack:
        primary: SimNode
        if scenario.primary == "ollama":
            model = SimModel(
                BIG, 1_000_000_000, resident=scenario.resident, load_s=0.05, parameter_size="32.8B"
            )
            primary = SimulatedOllama(models=[model], reply=_says(_PRIMARY), keep_alive_s=3600.0)
            wish = ModelRequest(model=BIG)
        else:
            primary = SimulatedMlx(
                listed=["lab/primary"], default_model="lab/primary", sizes={}, reply=_says(_PRIMARY)
            )
            wish = ModelRequest(node=None, model=DEFAULT_MODEL)
        spare: SimNode | None = None
        if scenario.spare:
            spare = _spare(scenario, config)
        servers = [("primary", primary)] + ([("spare", spare)] if spare is not None else [])
        nodes = []
        for name, server in servers:
            await server.start()
            stack.push_async_callback(server.stop)
            source: Source = "mlx" if isinstance(server, SimulatedMlx) else "ollama"
            node = Node(NodeConfig(name, server.url, source), config.budgets)
            stack.push_async_callback(node.aclose)
            nodes.append(node)
        router = Router(nodes, router=config.router, budgets=config.budgets, circuit=config.circuit, log=log)
        stack.push_async_callback(router.aclose)
        yield Stand(scenario, router, primary, spare, wish)


def _spare(scenario: Scenario, config: Config) -> SimNode:
    if scenario.primary == "ollama" and config.router.use_mlx_fallback:
        return SimulatedMlx(listed=["lab/spare"], default_model="lab/spare", sizes={}, reply=_says(_SPARE))
    model = SimModel(SMALL, 500_000_000, resident=True, parameter_size="3B")
    return SimulatedOllama(models=[model], reply=_says(_SPARE), keep_alive_s=3600.0)


def _says(text: str) -> Callable[[list[dict[str, object]], str], str]:
    return lambda _messages, _model: text


def chosen(names: Iterable[str], scenarios: Sequence[Scenario]) -> list[Scenario]:
    """The scenarios with these names, all when none is given. Raises KeyError with the first unknown one."""
    wanted = list(names)
    known = {scenario.name: scenario for scenario in scenarios}
    return [known[name] for name in wanted] if wanted else list(scenarios)
