"""Loads belong to the engine, not to the request that caused them (SPEC B9)."""

import asyncio

import pytest

from opskit.config.schema import Budgets
from opskit.llm.faults import FaultKind
from opskit.llm.fit import GIB
from opskit.llm.loads import Loads, load_budget_s
from opskit.providers.base import CallCause, CallError
from tests.parts.scripted import Pause, Scripted, says

BUDGETS = Budgets(load_s=60.0, load_s_per_gib=20.0)


def loading(*script) -> Scripted:
    return Scripted({"m": [says("hello")]}, resident=(), load={"m": script})


def ensure(loads: Loads, provider: Scripted, *, patience_s=None, size_bytes=None):
    return loads.ensure("n", provider, "m", size_bytes=size_bytes, patience_s=patience_s)


@pytest.fixture
async def loads():
    loads = Loads(BUDGETS)
    yield loads
    await loads.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_load_runs_once_however_many_wait(loads):
    """Twenty requests for a cold model load it once."""
    provider = loading(Pause(30.0))
    results = await asyncio.gather(*(ensure(loads, provider) for _ in range(20)))
    assert results == [None] * 20
    assert provider.loads == ["m"]


async def test_a_load_survives_the_caller_who_caused_it(loads):
    """A client that goes away does not make the server start from zero."""
    provider = loading(Pause(30.0))
    caller = asyncio.create_task(ensure(loads, provider))
    await asyncio.sleep(1.0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert caller.cancelled()
    assert loads.running("n", "m")
    assert await ensure(loads, provider) is None
    assert provider.loads == ["m"]


async def test_out_of_patience_is_loading_and_the_load_goes_on(loads):
    """Who cannot wait is told so, and the next one finds it further."""
    provider = loading(Pause(30.0))
    fault = await ensure(loads, provider, patience_s=10.0)
    assert fault.kind is FaultKind.LOADING
    assert loads.running("n", "m")
    await asyncio.sleep(21.0)
    assert provider.loaded == {"m"}
    assert not loads.running("n", "m")


async def test_a_finished_load_is_told(loads):
    """The catalog hears at once what is resident."""
    told: list[tuple[str, str]] = []
    heard = Loads(BUDGETS, lambda node, model: told.append((node, model)))
    await ensure(heard, loading())
    assert told == [("n", "m")]


async def test_a_failed_load_tells_why_and_the_next_one_starts_anew(loads):
    """A fault of one load is not remembered as the fault of all."""
    provider = loading(CallError(CallCause.STATUS, "cudaMalloc failed: out of memory", status=500))
    assert (await ensure(loads, provider)).kind is FaultKind.OUT_OF_MEMORY
    assert (await ensure(loads, provider)).kind is FaultKind.OUT_OF_MEMORY
    assert provider.loads == ["m", "m"]


@pytest.mark.parametrize(
    "error, kind",
    [
        (CallError(CallCause.STATUS, "gateway timeout", status=504), FaultKind.LOAD_TIMEOUT),
        (
            CallError(CallCause.STATUS, "timed out waiting for llama-server to start - x", status=500),
            FaultKind.LOAD_TIMEOUT,
        ),
        (CallError(CallCause.CLOSED, "closed"), FaultKind.EMPTY_REPLY),
        (CallError(CallCause.RESET, "reset"), FaultKind.RESET),
        (CallError(CallCause.REFUSED, "refused", phase="connect"), FaultKind.REFUSED),
    ],
)
async def test_a_load_fails_by_its_own_name(loads, error, kind):
    """A server that died while loading is not called slow."""
    assert (await ensure(loads, loading(error))).kind is kind


async def test_a_load_may_take_as_long_as_its_size_allows(loads):
    """Forty gigabytes are given more time than four."""
    assert load_budget_s(BUDGETS, None) == 60.0
    assert load_budget_s(BUDGETS, 2 * GIB) == 100.0
    assert await ensure(loads, loading(Pause(99.0)), size_bytes=2 * GIB) is None
    fault = await ensure(loads, loading(Pause(101.0)), size_bytes=2 * GIB)
    assert fault.kind is FaultKind.LOAD_TIMEOUT


async def test_closing_ends_what_is_loading():
    """No task outlives the engine."""
    loads = Loads(BUDGETS)
    waiting = asyncio.create_task(ensure(loads, loading(Pause(None))))
    await asyncio.sleep(1.0)
    await loads.aclose()
    await asyncio.gather(waiting, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}
