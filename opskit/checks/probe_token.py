"""The last stages of a probe: one token under a hard deadline, and a whole answer where it is asked for."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from opskit.checks.probe_record import NodeProbe
from opskit.checks.state import (
    STANDSTILL_S,
    NodeState,
    judge_overdue,
    judge_silence,
    judge_slots,
    state_of,
)
from opskit.config.schema import Config
from opskit.llm.faults import Fault, FaultKind, classify
from opskit.llm.loads import load_budget_s
from opskit.llm.one_token import OneToken, is_overdue, may_be_asked, one_token, remaining_s
from opskit.llm.verdict import judge
from opskit.providers.base import (
    CallError,
    ChatRequest,
    End,
    Message,
    Provider,
    Reasoning,
    Resident,
    Slot,
    Token,
)
from opskit.result import Status

_DIRECT_TOKENS = 256
#: A model may begin with tokens that only control it, of which nothing is shown.
_VISIBLE_TOKENS = 16
#: Between two readings of the slots of a busy server, and how long they stand still before its process is
#: looked at: a long batch moves no counter.
_SLOTS_AGAIN_S = 0.2
_SLOTS_STILL_S = 2.0
#: The state of a node that gave a token, why it is so, and the seconds until the token came.
FirstToken = tuple[NodeState, str, float]


async def ask_for_token(
    probe: NodeProbe,
    provider: Provider,
    chosen: Resident,
    whole: Config,
    *,
    loads_at_start: bool,
    on_left: Callable[[float], None],
) -> FirstToken:
    """Ask for one token under a hard deadline, where it may be asked for; silence is judged by evidence.

    `loads_at_start`: the server still has to load what it was started with. `on_left` is called
    with the seconds of a question that was left. Raises ProbeEnded where no token came.
    """
    await _spare(probe, chosen)
    await _await_free_slot(probe, provider)
    limit = whole.probe.first_token_s
    if loads_at_start:
        limit += load_budget_s(whole.budgets, None)
    began = time.monotonic()
    unparsable = ""
    try:
        load_s = load_budget_s(whole.budgets, chosen.size_bytes)
        got = await one_token(provider, chosen, limit_s=limit, load_s=load_s, on_left=on_left)
        if got.ended and got.first_s is None:
            got = await one_token(
                provider, chosen, limit_s=limit, load_s=load_s, max_tokens=_VISIBLE_TOKENS, on_left=on_left
            )
    except CallError as error:
        fault, took = classify(error), time.monotonic() - began
        detail = f"{chosen.name}: {fault.kind.value}: {fault.detail}"
        if fault.kind is not FaultKind.UNPARSABLE_ANSWER:
            probe.end(state_of(fault), detail, stage="first token", seconds=took, fault=fault)
        # The model wrote something that the server's parser could not use: it generates, and that is asked.
        unparsable = (
            f"{chosen.name} wrote an answer, and the server could not parse that one answer; both are well"
        )
        got = OneToken(seconds=took, ended=True)
    if got.first_s is None and not got.ended and got.loading:
        detail = f"{chosen.name}: no token in {got.seconds:.1f} s; {got.loading}"
        probe.end(NodeState.LOADING, detail, stage="first token", seconds=got.seconds)
    if got.first_s is None and not got.ended:
        process = await probe.look_at_process()
        state, detail = judge_silence(
            progress_seen=got.progress, others_served=got.others_served, process=process, seconds=got.seconds
        )
        probe.add("first token", Status.FAIL, got.seconds, f"{chosen.name}: {detail}")
        probe.end(state, f"{chosen.name}: {detail}, although its health page answers")
    if not got.ended:
        detail = f"{chosen.name} gave a token in {got.first_s or 0:.2f} s, and no end of its answer since"
        probe.end(NodeState.WEDGED, detail, stage="first token", seconds=got.seconds)
    if got.first_s is None and not unparsable:
        detail = f"{chosen.name} ended its answer, and none of its tokens has content"
        fault = Fault(FaultKind.BAD_PAYLOAD, detail)
        probe.end(NodeState.FAILING, detail, stage="first token", seconds=got.seconds, fault=fault)
    took = got.seconds if got.first_s is None else got.first_s
    probe.add("first token", Status.PASS, took, f"{chosen.name} in {took:.2f} s")
    again = f" (the server was waited for: {got.loading})" if got.loading else ""
    detail = unparsable or f"{chosen.name} gave its first token in {took:.2f} s{again}"
    state = NodeState.SLOW if took > whole.probe.slow_first_token_s else NodeState.OK
    return state, detail, took


async def _spare(probe: NodeProbe, chosen: Resident) -> None:
    """End the probe before a model is asked that a question would harm or could not reach."""
    left_s = remaining_s(chosen)
    if may_be_asked(chosen) or left_s is None:
        return
    if not is_overdue(chosen):
        when = f"in {left_s:.0f} s" if left_s >= 1 else "now"
        detail = f"{chosen.name} is unloaded {when} unless it is used; a probe does not keep it"
        probe.end(NodeState.IDLE, detail, stage="first token", status=Status.SKIP)
    # Only a request in flight holds a model past its expiry (wire facts A8).
    state, why = judge_overdue(await probe.look_at_process(), -left_s)
    status = Status.SKIP if state is NodeState.BUSY else Status.FAIL
    probe.end(state, f"{chosen.name}: {why}", stage="first token", status=status)


async def _await_free_slot(probe: NodeProbe, provider: Provider) -> None:
    """End the probe where every slot works for somebody: a question would only wait behind the others."""
    before = await _slots(provider)
    if not before:
        return
    busy = sum(slot.busy for slot in before)
    probe.slots = (len(before), busy)
    count = f"{busy} of {len(before)} busy"
    if busy < len(before):
        probe.add("slots", Status.PASS, 0.0, count)
        return
    began, process, limit_s = time.monotonic(), None, _SLOTS_STILL_S
    while True:
        await asyncio.sleep(_SLOTS_AGAIN_S)
        after, seconds = await _slots(provider), time.monotonic() - began
        if after is None or not all(slot.busy for slot in after):
            probe.add("slots", Status.PASS, seconds, f"{count}, and one is free now")
            return
        if after != before or seconds >= STANDSTILL_S:
            break
        if seconds >= limit_s:
            process, limit_s = await probe.look_at_process(), STANDSTILL_S
            if process is not None:
                break
    state, detail = judge_slots(before, after, process, seconds)
    status = Status.SKIP if state is NodeState.BUSY else Status.FAIL
    probe.end(state, detail, stage="slots", seconds=seconds, status=status)


async def _slots(provider: Provider) -> tuple[Slot, ...] | None:
    """What a server works on; None too where it does not tell in time: then the token decides."""
    try:
        return await provider.slots()
    except CallError:
        return None


async def ask_for_answer(
    probe: NodeProbe, provider: Provider, chosen: Resident, whole: Config, goal: str
) -> None:
    """Ask for a whole answer and judge it. Raises ProbeEnded where there is none, or one that is none."""
    request = ChatRequest(
        (Message("user", goal),), chosen.name, max_tokens=_DIRECT_TOKENS, num_ctx=chosen.context_length
    )
    began = time.monotonic()
    text, reason, thought = "", "", False
    try:
        async with (
            asyncio.timeout(whole.probe.cycle_s),
            contextlib.aclosing(provider.stream(request)) as events,
        ):
            async for event in events:
                if isinstance(event, Token):
                    text += event.text
                elif isinstance(event, Reasoning):
                    thought = True
                elif isinstance(event, End):
                    reason = event.reason
    except TimeoutError:
        detail = f"{chosen.name} did not finish its answer within {whole.probe.cycle_s:g} s"
        state = NodeState.SLOW if text else NodeState.WEDGED
        probe.end(state, detail, stage="direct test", seconds=time.monotonic() - began)
    except CallError as error:
        fault, took = classify(error), time.monotonic() - began
        detail = f"{chosen.name} broke off: {fault.kind.value}: {fault.detail}"
        probe.end(state_of(fault), detail, stage="direct test", seconds=took, fault=fault)
    verdict = judge(text, (goal,), finish_reason=reason, length_is_fine=True, thought=thought)
    took = time.monotonic() - began
    probe.answer = text
    if verdict is not None:
        detail = f"the answer of {chosen.name} is no answer: {verdict.value.replace('_', ' ')}"
        probe.end(NodeState.FAILING, detail, stage="direct test", seconds=took)
    probe.add("direct test", Status.PASS, took, f"{len(text)} characters in {took:.1f} s")
