"""The examination of models (SPEC E5): how each one that was selected loads and answers.

A model is loaded, timed, then asked one short question while it is warm, through the router: so faults and
verdicts mean here what they mean for a user's request. Nothing is loaded that was not chosen by name or by
`all`, and no model gives way to another unless it was named.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from opskit.config.schema import Config
from opskit.llm.answer import Answer, Ask, Attempt, AttemptOutcome, NoAnswer
from opskit.llm.catalog import NodeView
from opskit.llm.faults import FaultKind
from opskit.llm.one_token import is_overdue, may_be_asked
from opskit.llm.plan import ModelRequest
from opskit.llm.router import Router
from opskit.llm.selection import ExaminedModel, Load
from opskit.records import Record
from opskit.result import Status
from opskit.system.host import is_loopback
from opskit.tags import correlated

#: Its answer is short and needs no special skill.
QUESTION = "Why is the sky blue? Answer with one short sentence."
MAX_TOKENS = 64
#: For a model that thinks aloud and had not begun its answer after MAX_TOKENS.
THINKING_TOKENS = 1024


class ExamResult(Record):
    """How one model did.

    `state` is ok, slow, a fault, a verdict, or unloaded. Times are of the warm request, its load apart:
    `load_s` None means that nothing had to be loaded, or that it is unknown.
    """

    examinee: ExaminedModel
    status: Status
    state: str
    detail: str
    code: str | None = None
    load_s: float | None = None
    first_token_s: float | None = None
    total_s: float | None = None
    tokens: int | None = None
    tokens_per_s: float | None = None
    thinking_s: float | None = None
    answer: str = ""

    @property
    def works(self) -> bool:
        return self.state in ("ok", "slow")

    @property
    def key(self) -> tuple[str, str]:
        return self.examinee.node, self.examinee.model

    def as_json(self) -> dict[str, Any]:
        times = ("load_s", "first_token_s", "thinking_s", "total_s", "tokens", "tokens_per_s")
        figures = {name: getattr(self, name) for name in times}
        return {
            "node": self.examinee.node,
            "model": self.examinee.model,
            "name": self.examinee.shown,
            "works": self.works,
            "state": self.state,
            "detail": self.detail,
            "load": self.examinee.load.value,
            **{name: None if figure is None else round(figure, 4) for name, figure in figures.items()},
            "answer": self.answer,
        }


async def examine(
    router: Router,
    examinees: Sequence[ExaminedModel],
    config: Config,
    on_start: Callable[[ExaminedModel], None] = lambda _: None,
) -> list[ExamResult]:
    """Return the results, in the order given.

    Machines are tested side by side, the models of one machine one after the other: two at once would slow
    each other down, and might not fit in memory together.
    """
    lanes: dict[str, list[int]] = {}
    for index, examinee in enumerate(examinees):
        url = config.node(examinee.node).url
        lanes.setdefault("" if is_loopback(url) else urlsplit(url).hostname or "", []).append(index)
    results: dict[int, ExamResult] = {}

    async def work(lane: list[int]) -> None:
        for index in lane:
            on_start(examinees[index])
            results[index] = await _examine(router, examinees[index], config)

    await asyncio.gather(*map(work, lanes.values()))
    return [results[index] for index in range(len(examinees))]


async def _examine(router: Router, examinee: ExaminedModel, config: Config) -> ExamResult:
    view = await fresh_view(router, examinee.node)
    if examinee.load is Load.NONE and not still_loaded(view, examinee.model):
        detail = "it was unloaded before its turn, and is not loaded again for a test"
        return ExamResult(examinee, Status.SKIP, "unloaded", detail)
    with correlated():
        tokens = MAX_TOKENS
        reply = await _ask(router, examinee, tokens)
        first = _last(reply)
        load_s = first.load_s if first is not None else None
        if _was_thinking(reply):
            tokens = THINKING_TOKENS
            reply = await _ask(router, examinee, tokens)
        if isinstance(reply, Answer) and load_s is None and examinee.load in (Load.LOADS, Load.REPLACES):
            # The server loaded inside the request: asked again it is warm, and the difference was the load.
            cold = reply.attempts[-1].first_sign_s or 0.0
            reply = await _ask(router, examinee, tokens)
            if isinstance(reply, Answer):
                load_s = max(0.0, cold - (reply.attempts[-1].first_sign_s or 0.0))
    if isinstance(reply, NoAnswer):
        return _failure(examinee, reply, load_s, view)
    return _success(examinee, reply, load_s, slow_s=config.probe.slow_first_token_s)


async def fresh_view(router: Router, node: str) -> NodeView | None:
    """Read the node as it is now: an earlier load may have pushed a model out, or filled the memory."""
    catalog = router.catalog
    catalog.forget(node)
    await catalog.snapshot()
    view = catalog.view(node)
    if view is None or view.at == -math.inf:
        # Another node was quicker; a silent one is waited for only when it is the one in question.
        await catalog.snapshot(wait_for_all=True)
        view = catalog.view(node)
    return view


def still_loaded(view: NodeView | None, model: str) -> bool:
    """Tell whether a model is still in memory; True also where the node does not tell."""
    if view is None or view.fault is not None or not view.residency_known:
        return True
    info = next((info for info in view.models if info.name == model), None)
    if info is None or info.resident is not None:
        return info is None or info.resident is True
    held = next((loaded for loaded in view.resident if loaded.name == model), None)
    # One that is overdue is busy, not gone: its turn in the queue is the test.
    return held is not None and (may_be_asked(held) or is_overdue(held))


async def _ask(router: Router, examinee: ExaminedModel, max_tokens: int) -> Answer | NoAnswer:
    """Ask this model on this node and no other."""
    request = ModelRequest(model=examinee.model, node=examinee.node)
    options = {"max_tokens": max_tokens, "temperature": 0.0, "length_is_fine": True, "max_fallbacks": 0}
    ask = Ask.of(QUESTION, request=request, **options)
    try:
        return await router.chat(ask)
    except NoAnswer as no_answer:
        return no_answer


def _last(reply: Answer | NoAnswer) -> Attempt | None:
    return reply.attempts[-1] if reply.attempts else None


def _was_thinking(reply: Answer | NoAnswer) -> bool:
    """Tell whether it spoke up to the limit and had not begun its answer."""
    last = _last(reply)
    return (
        isinstance(reply, NoAnswer)
        and last is not None
        and last.finish_reason == "length"
        and (last.outcome is AttemptOutcome.REJECTED)
    )


def _success(examinee: ExaminedModel, answer: Answer, load_s: float | None, *, slow_s: float) -> ExamResult:
    attempt = answer.attempts[-1]
    loading = attempt.load_s or 0.0
    first_s = (attempt.first_token_s or 0.0) - loading
    sign_s = first_s if attempt.first_sign_s is None else attempt.first_sign_s - loading
    total_s = attempt.seconds - loading
    if answer.prompt_cut is not None:
        detail = f"its chat template leaves out the question: {answer.prompt_cut.text}"
        broken = FaultKind.BROKEN_TEMPLATE.value
        return ExamResult(examinee, Status.FAIL, broken, detail, "MODEL_004", load_s, total_s=total_s)
    slow = sign_s > slow_s
    warmth = "while it was warm"
    if (reload_s := answer.usage.load_s or 0.0) > sign_s / 2:
        warmth = f"({reload_s:.1f} s of it were a load: a longer OLLAMA_KEEP_ALIVE of the server keeps it)"
    text = " ".join(answer.text.split())
    return ExamResult(
        examinee,
        Status.WARN if slow else Status.PASS,
        "slow" if slow else "ok",
        f"its first token took {sign_s:.1f} s {warmth}" if slow else text[:120],
        load_s=load_s,
        first_token_s=first_s,
        total_s=total_s,
        tokens=answer.usage.completion_tokens,
        tokens_per_s=_speed(answer, total_s - sign_s),
        thinking_s=first_s - sign_s if first_s > sign_s else None,
        answer=text[:500],
    )


def _speed(answer: Answer, spoke_s: float) -> float | None:
    """Return tokens a second by the server's own clock where it tells, else by the time after the first."""
    tokens, eval_s = answer.usage.completion_tokens, answer.usage.eval_s
    if not tokens:
        return None
    if eval_s:
        return tokens / eval_s
    return (tokens - 1) / spoke_s if tokens > 1 and spoke_s > 0 else None


def _failure(
    examinee: ExaminedModel, refused: NoAnswer, load_s: float | None, view: NodeView | None
) -> ExamResult:
    last = _last(refused)
    if last is None:
        state = view.fault.kind.value if view is not None and view.fault is not None else "unavailable"
        return ExamResult(examinee, Status.FAIL, state, refused.message, refused.code, load_s)
    # An answer that the server could not parse says as little against the model as one that is no answer.
    rejected = last.outcome is AttemptOutcome.REJECTED or last.fault == FaultKind.UNPARSABLE_ANSWER
    return ExamResult(
        examinee,
        Status.WARN if rejected else Status.FAIL,
        last.fault or "unknown",
        f"no usable answer: {last.detail}" if rejected else last.detail,
        refused.code,
        load_s,
        total_s=last.seconds - (last.load_s or 0.0),
    )
