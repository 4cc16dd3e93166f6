"""The state of one request: what was asked, who was tried, who may still be."""

from dataclasses import dataclass, field

from opskit.llm.answer import Answer, Ask, Attempt, AttemptOutcome, Session
from opskit.llm.attempt import ActiveCall
from opskit.llm.faults import Fault, FaultKind, Scope, fault_remedy
from opskit.llm.plan import Candidate, ModelRequest
from opskit.llm.verdict import CONTENT_FILTER, Verdict
from opskit.providers.kinds import expected_kind
from opskit.records import Record, replace

#: Between two attempts at a model that is busy, where the server does not say: doubled up to the second.
_RETRY_S = 1.0
_RETRY_MOST_S = 8.0


class WaitingModel(Record):
    """A model that may be asked again at `ready_at`, and why it did not answer."""

    ready_at: float
    candidate: Candidate
    fault: Fault


@dataclass(slots=True)
class RequestState:
    """One request under way. Times are of the router's clock.

    `hold_back` is that of its calls. `partial` is the text that was shown before an attempt broke off. Until
    `queue_until` a model that is busy is waited for.
    """

    ask: Ask
    session: Session
    hold_back: int | None
    started: float
    deadline: float
    queue_until: float
    request: ModelRequest = field(init=False)
    attempts: list[Attempt] = field(default_factory=list)
    partial: str = ""
    _tried: set[tuple[str, str]] = field(default_factory=set)
    _dead: set[str] = field(default_factory=set)
    _waiting: list[WaitingModel] = field(default_factory=list)
    _delay_s: float = _RETRY_S
    #: Attempts that met a queue and were made again: no model was given up for them.
    _again: int = 0

    def __post_init__(self) -> None:
        self.request = self.ask.request

    @property
    def is_fallback(self) -> bool:
        """Whether what comes next is a fallback: after a failure, or instead of a resting model."""
        return bool(self.attempts) or self.request.fallback

    @property
    def tries(self) -> int:
        """How many attempts count against the fallbacks that are allowed."""
        return len(self.attempts) - self._again

    def may_try(self, candidate: Candidate) -> bool:
        return candidate.node not in self._dead and (candidate.node, candidate.model) not in self._tried

    def give_way(self) -> None:
        """From now on any model will do, the dependable first."""
        self.request = replace(self.request, model=None, fallback=True)

    def record(self, call: ActiveCall) -> None:
        self.attempts.append(_attempt(call, fallback=self.is_fallback))
        if call.committed and not call.ok:
            self.partial = call.text[: call.shown]

    def avoid(self, call: ActiveCall, now: float) -> None:
        """After a failure: not this model again, not this node when the fault was the node's."""
        candidate, fault = call.candidate, call.fault
        self._tried.add(call.key)
        if fault is not None and (fault.whole_node or fault.action.scope is Scope.NODE):
            self._dead.add(candidate.node)
        if fault is not None and fault.action.wait:
            ready_at = now + (fault.retry_after_s or self._delay_s)
            self._waiting.append(WaitingModel(ready_at, candidate, fault))
            if fault.passes:
                self._delay_s = min(self._delay_s * 2, _RETRY_MOST_S)
        if self.request.model is None:
            # A model that was named may still stand on another node; the router gives way after that.
            self.give_way()

    def next_waiting(self, *, only_passing: bool) -> WaitingModel | None:
        """Return the model that is ready first among models that are worth another try.

        None where none is ready within the queue budget and before the deadline.
        """
        until = min(self.queue_until, self.deadline)
        ready = [
            model
            for model in self._waiting
            if model.ready_at <= until and (model.fault.passes or not only_passing)
        ]
        return min(ready, key=lambda model: model.ready_at, default=None)

    def ask_again(self, model: WaitingModel) -> None:
        self._waiting.remove(model)
        self._again += model.fault.passes

    def answer(self, call: ActiveCall, now: float) -> Answer:
        return Answer(
            text=call.text,
            node=call.candidate.node,
            model=call.model,
            attempts=tuple(self.attempts),
            seconds=now - self.started,
            usage=call.usage,
            finish_reason=call.finish_reason,
            prompt_cut=call.prompt_cut,
            tool_calls=tuple(call.tool_calls),
            mode=call.ask.mode,
            tokens=tuple(call.tokens),
        )


def _attempt(call: ActiveCall, *, fallback: bool) -> Attempt:
    remedy = None
    if call.ok:
        outcome, fault, detail = AttemptOutcome.OK, None, call.candidate.why
    elif call.verdict is not None:
        outcome, fault = AttemptOutcome.REJECTED, call.verdict.value
        detail = _rejection(call, call.verdict)
        if call.prompt_cut is not None:
            detail += f"; {call.prompt_cut.text}"
    else:
        known_fault = call.fault or Fault(FaultKind.SERVER_ERROR, "")
        outcome, fault, detail = AttemptOutcome.FAULT, known_fault.kind.value, known_fault.detail
        remedy = known_fault.remedy
        if known_fault.remedy_name:
            server, node = expected_kind(call.candidate.source), call.candidate.node
            name, again = known_fault.remedy_name, "ask again"
            remedy = fault_remedy(name, model=call.model, node=node, server=server, again=again)
    return Attempt(
        node=call.candidate.node,
        model=call.model,
        outcome=outcome,
        fault=fault,
        detail=detail,
        seconds=call.seconds,
        fallback=fallback,
        first_token_s=call.first_token_s,
        load_s=call.load_s,
        first_sign_s=call.first_sign_s,
        finish_reason=call.finish_reason,
        remedy=remedy,
        usage=call.usage,
        thought_chars=call.thought_chars,
    )


def _rejection(call: ActiveCall, verdict: Verdict) -> str:
    """Return what is wrong with the text of a call, as one line for a person."""
    rejected = f"{len(call.text)} characters, {verdict.value}"
    if verdict is Verdict.ONLY_THINKING:
        rejected = f"{call.thought_chars or len(call.text)} characters of thinking and no answer"
    elif verdict is Verdict.CALL:
        rejected = "no answer, but a call of a function as text, and none was offered"
    elif call.tool_calls:
        names = ", ".join(tool.name for tool in call.tool_calls)
        rejected = f"no text, but a call of {names}, which was not offered"
    if call.finish_reason == CONTENT_FILTER:
        return f"{rejected}: a filter of the server ended it"
    if call.finish_reason == "abort":
        return f"{rejected}: the server broke it off (abort)"
    if call.finish_reason != "length" or verdict not in (Verdict.ONLY_THINKING, Verdict.CUT_OFF):
        return rejected
    tokens, limit = call.usage.completion_tokens, call.ask.max_tokens
    if tokens is not None and limit is not None and tokens < limit:
        ended = f"the server ended it after {tokens} of {limit} tokens"
        return f"{rejected}: {ended} (length); its context may be full"
    return f"{rejected}: it met its limit (length, max_tokens {limit})"
