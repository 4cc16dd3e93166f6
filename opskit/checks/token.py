"""The last rungs of a ladder: one token under a hard deadline, and a whole answer where it is asked for."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime

from opskit.checks.rungs import Fallen, Ladder, process_of
from opskit.checks.state import NodeState, judge_silence, state_of
from opskit.config.schema import Config
from opskit.llm.faults import classify
from opskit.llm.loads import load_budget_s
from opskit.llm.verdict import judge
from opskit.providers.base import (
    CallError,
    ChatRequest,
    End,
    Message,
    Progress,
    Provider,
    Resident,
    Token,
)
from opskit.result import Status

#: A model that is about to be unloaded is not kept by a probe.
_ABOUT_TO_EXPIRE_S = 2.0
#: A keep_alive this far away means for ever.
_FOR_EVER_S = 365 * 86_400.0
_DIRECT_TOKENS = 256


async def first_token(ladder: Ladder, provider: Provider, chosen: Resident, whole: Config) -> None:
    """One token under a hard deadline; silence is judged by evidence."""
    remaining = _remaining_s(chosen)
    if remaining is not None and remaining < _ABOUT_TO_EXPIRE_S:
        detail = f"{chosen.name} is about to be unloaded; a probe does not keep it"
        ladder.rung("first token", Status.SKIP, 0.0, detail)
        raise Fallen(NodeState.IDLE, detail)
    request = ChatRequest(
        (Message("user", "hi"),),
        chosen.name,
        max_tokens=1,
        num_ctx=chosen.context_length,
        keep_alive_s=-1.0 if remaining is not None and remaining > _FOR_EVER_S else remaining,
    )
    limit = whole.probe.first_token_s
    if ladder.evidence.get("loaded") and not provider.loads_on_demand:
        limit += load_budget_s(whole.budgets, None)
    began = time.monotonic()
    progress = False
    try:
        async with (
            asyncio.timeout(limit),
            contextlib.aclosing(provider.stream(request)) as events,
        ):
            async for event in events:
                if not isinstance(event, Progress):
                    break
                progress = True
    except TimeoutError as exc:
        took = time.monotonic() - began
        served = await _others_served(provider, chosen)
        process = await process_of(ladder)
        state, detail = judge_silence(
            progress_seen=progress, others_served=served, process=process, seconds=took
        )
        ladder.rung("first token", Status.FAIL, took, f"{chosen.name}: {detail}")
        raise Fallen(state, f"{chosen.name}: {detail}, although its health page answers") from exc
    except CallError as error:
        fault = classify(error)
        took = time.monotonic() - began
        detail = f"{chosen.name}: {fault.kind.value}: {fault.detail}"
        ladder.rung("first token", Status.FAIL, took, detail)
        raise Fallen(state_of(fault), detail) from error
    took = time.monotonic() - began
    ladder.evidence["first_token_s"] = round(took, 4)
    ladder.evidence["model"] = chosen.name
    ladder.rung("first token", Status.PASS, took, f"{chosen.name} in {took:.2f} s")
    ladder.detail = f"{chosen.name} gave its first token in {took:.2f} s"
    ladder.state = NodeState.SLOW if took > whole.probe.slow_first_token_s else NodeState.OK


async def direct(ladder: Ladder, provider: Provider, chosen: Resident, whole: Config, goal: str) -> None:
    """The direct model test of SPEC A5: a whole answer without Victoria, judged like any answer."""
    request = ChatRequest(
        (Message("user", goal),), chosen.name, max_tokens=_DIRECT_TOKENS, num_ctx=chosen.context_length
    )
    began = time.monotonic()
    text, reason = "", ""
    try:
        async with (
            asyncio.timeout(whole.probe.cycle_s),
            contextlib.aclosing(provider.stream(request)) as events,
        ):
            async for event in events:
                if isinstance(event, Token):
                    text += event.text
                elif isinstance(event, End):
                    reason = event.reason
    except TimeoutError as exc:
        detail = f"{chosen.name} did not finish its answer within {whole.probe.cycle_s:g} s"
        ladder.rung("direct test", Status.FAIL, time.monotonic() - began, detail)
        raise Fallen(NodeState.SLOW if text else NodeState.WEDGED, detail) from exc
    except CallError as error:
        fault = classify(error)
        detail = f"{chosen.name} broke off: {fault.kind.value}: {fault.detail}"
        ladder.rung("direct test", Status.FAIL, time.monotonic() - began, detail)
        raise Fallen(state_of(fault), detail) from error
    verdict = judge(text, (goal,), finish_reason=reason, length_is_fine=True)
    took = time.monotonic() - began
    ladder.evidence["answer"] = text[:500]
    if verdict is not None:
        detail = f"the answer of {chosen.name} is no answer: {verdict.value}"
        ladder.rung("direct test", Status.FAIL, took, detail)
        raise Fallen(NodeState.FAILING, detail)
    ladder.rung("direct test", Status.PASS, took, f"{len(text)} characters in {took:.1f} s")


async def _others_served(provider: Provider, chosen: Resident) -> bool:
    """Whether the model's expiry moved while we waited: each request that ends renews it (wire facts A3)."""
    if chosen.expires_at is None:
        return False
    try:
        now = next((r for r in await provider.resident() or () if r.name == chosen.name), None)
    except CallError:
        return False
    return now is not None and now.expires_at is not None and now.expires_at > chosen.expires_at


def _remaining_s(chosen: Resident) -> float | None:
    return None if chosen.expires_at is None else (chosen.expires_at - datetime.now(UTC)).total_seconds()
