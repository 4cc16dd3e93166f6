"""The last rungs of a ladder: one token under a hard deadline, and a whole answer where it is asked for."""

import asyncio
import contextlib
import time
from typing import NoReturn

from opskit.checks.rungs import Ladder, ProbeFailed, fallen, process_of
from opskit.checks.state import NodeState, judge_overdue, judge_silence, judge_slots
from opskit.config.schema import Config
from opskit.llm.faults import FaultKind, classify
from opskit.llm.loads import load_budget_s
from opskit.llm.one_token import OneToken, is_overdue, may_be_asked, one_token, remaining_s
from opskit.llm.verdict import judge
from opskit.providers.base import (
    CallError,
    ChatRequest,
    End,
    Message,
    Provider,
    Resident,
    Slot,
    Token,
)
from opskit.result import Status

_DIRECT_TOKENS = 256
#: Between two looks at the slots of a busy server.
_LOOK_S = 1.0


async def first_token(ladder: Ladder, provider: Provider, chosen: Resident, whole: Config) -> None:
    """One token under a hard deadline, where it may be asked for; silence is judged by evidence."""
    await _spared(ladder, chosen)
    await _has_free_slot(ladder, provider)
    limit = whole.probe.first_token_s
    if ladder.evidence.get("loaded") and not provider.kind.loads_on_demand:
        limit += load_budget_s(whole.budgets, None)
    began = time.monotonic()
    unparsable = ""
    try:
        got = await one_token(
            provider, chosen, limit_s=limit, load_s=load_budget_s(whole.budgets, chosen.size_bytes)
        )
    except CallError as error:
        fault, took = classify(error), time.monotonic() - began
        detail = f"{chosen.name}: {fault.kind.value}: {fault.detail}"
        if fault.kind is not FaultKind.UNPARSABLE_ANSWER:
            ladder.rung("first token", Status.FAIL, took, detail)
            raise fallen(ladder, fault, chosen.name, detail) from error
        # The model wrote something that the server's parser could not use: it generates, and that is asked.
        unparsable = (
            f"{chosen.name} wrote an answer, and the server could not parse that one answer; both are well"
        )
        got = OneToken(seconds=took, ended=True)
    if got.first_s is None and not got.ended:
        await _silent(ladder, provider, chosen, got)
    if not got.ended:
        detail = f"{chosen.name} gave a token in {got.first_s or 0:.2f} s, and no end of its answer since"
        ladder.rung("first token", Status.FAIL, got.seconds, detail)
        raise ProbeFailed(NodeState.WEDGED, detail)
    took = got.seconds if got.first_s is None else got.first_s
    ladder.evidence["first_token_s"] = round(took, 4)
    ladder.evidence["model"] = chosen.name
    ladder.rung("first token", Status.PASS, took, f"{chosen.name} in {took:.2f} s")
    again = f" (the server was waited for: {got.loading})" if got.loading else ""
    ladder.detail = unparsable or f"{chosen.name} gave its first token in {took:.2f} s{again}"
    ladder.state = NodeState.SLOW if took > whole.probe.slow_first_token_s else NodeState.OK


async def _spared(ladder: Ladder, chosen: Resident) -> None:
    """End the climb before a model is asked that a question would harm or could not reach."""
    left_s = remaining_s(chosen)
    if may_be_asked(chosen) or left_s is None:
        return
    if not is_overdue(chosen):
        when = f"in {left_s:.0f} s" if left_s >= 1 else "now"
        detail = f"{chosen.name} is unloaded {when} unless it is used; a probe does not keep it"
        ladder.rung("first token", Status.SKIP, 0.0, detail)
        raise ProbeFailed(NodeState.IDLE, detail)
    # Only a request in flight holds a model past its expiry (wire facts A8).
    process = await process_of(ladder)
    state, why = judge_overdue(process, -left_s)
    detail = f"{chosen.name}: {why}"
    ladder.rung("first token", Status.SKIP if state is NodeState.BUSY else Status.FAIL, 0.0, detail)
    raise ProbeFailed(state, detail)


async def _has_free_slot(ladder: Ladder, provider: Provider) -> None:
    """End the climb where every slot works for somebody: a question would only wait behind the others."""
    before = await _slots(provider)
    if not before:
        return
    busy = sum(slot.busy for slot in before)
    ladder.evidence["slots"] = {"total": len(before), "busy": busy}
    told = f"{busy} of {len(before)} busy"
    if busy < len(before):
        ladder.rung("slots", Status.PASS, 0.0, told)
        return
    await asyncio.sleep(_LOOK_S)
    after = await _slots(provider)
    if after is None or not all(slot.busy for slot in after):
        ladder.rung("slots", Status.PASS, _LOOK_S, f"{told}, and one is free now")
        return
    process = await process_of(ladder) if before == after else None
    state, detail = judge_slots(before, after, process)
    ladder.rung("slots", Status.SKIP if state is NodeState.BUSY else Status.FAIL, _LOOK_S, detail)
    raise ProbeFailed(state, detail)


async def _slots(provider: Provider) -> tuple[Slot, ...] | None:
    """What a server works on; None too where it does not tell in time: then the token decides."""
    try:
        return await provider.slots()
    except CallError:
        return None


async def _silent(ladder: Ladder, provider: Provider, chosen: Resident, got: OneToken) -> NoReturn:
    if got.loading:
        detail = f"{chosen.name}: no token in {got.seconds:.1f} s; {got.loading}"
        ladder.rung("first token", Status.FAIL, got.seconds, detail)
        raise ProbeFailed(NodeState.LOADING, detail)
    served = await _others_served(provider, chosen)
    process = await process_of(ladder)
    state, detail = judge_silence(
        progress_seen=got.progress, others_served=served, process=process, seconds=got.seconds
    )
    ladder.rung("first token", Status.FAIL, got.seconds, f"{chosen.name}: {detail}")
    raise ProbeFailed(state, f"{chosen.name}: {detail}, although its health page answers")


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
        raise ProbeFailed(NodeState.SLOW if text else NodeState.WEDGED, detail) from exc
    except CallError as error:
        fault = classify(error)
        detail = f"{chosen.name} broke off: {fault.kind.value}: {fault.detail}"
        ladder.rung("direct test", Status.FAIL, time.monotonic() - began, detail)
        raise fallen(ladder, fault, chosen.name, detail) from error
    verdict = judge(text, (goal,), finish_reason=reason, length_is_fine=True)
    took = time.monotonic() - began
    ladder.evidence["answer"] = text[:500]
    if verdict is not None:
        detail = f"the answer of {chosen.name} is no answer: {verdict.value}"
        ladder.rung("direct test", Status.FAIL, took, detail)
        raise ProbeFailed(NodeState.FAILING, detail)
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
