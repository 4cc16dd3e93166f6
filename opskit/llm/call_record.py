"""What is recorded of one call of a model: its span with its parts, and the log line of its end."""

from urllib.parse import urlsplit

from opskit.config.schema import NodeConfig
from opskit.llm.answer import Ask
from opskit.llm.attempt import AttemptState
from opskit.llm.faults import Fault, FaultKind
from opskit.llm.plan import Candidate
from opskit.tags import Tag, TagLog, Value
from opskit.trace.span import Leaf, SpanKind


class CallSpan:
    """The span of a call that is under way: its load, the wait for a token, thinking, the answer."""

    def __init__(self, candidate: Candidate, ask: Ask, node: NodeConfig, is_fallback: bool) -> None:
        address = urlsplit(node.url)
        self._leaf = Leaf(
            f"chat {candidate.model}",
            SpanKind.CLIENT,
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": candidate.source,
                "gen_ai.request.model": candidate.model,
                "gen_ai.request.max_tokens": ask.max_tokens,
                "gen_ai.request.temperature": ask.temperature,
                "gen_ai.request.seed": ask.seed,
                "server.address": address.hostname,
                "server.port": address.port,
                "opskit.node": candidate.node,
                "opskit.fallback": is_fallback,
                "opskit.resident": candidate.resident,
                "opskit.why": candidate.why,
            },
        )

    def end(self, attempt: AttemptState) -> None:
        """End it with what the attempt came to; one that was cut off from outside counts as cancelled."""
        span, usage = self._leaf.span, attempt.usage
        span.set(
            {
                "gen_ai.response.model": attempt.served or (attempt.candidate.model if attempt.ok else None),
                "gen_ai.response.finish_reasons": (attempt.finish_reason,) if attempt.finish_reason else None,
                "gen_ai.response.time_to_first_chunk": attempt.first_token_s,
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.completion_tokens,
            }
        )
        if attempt.fault is not None:
            span.fail(attempt.fault.kind.value, attempt.fault.detail)
        elif attempt.verdict is not None:
            span.fail(attempt.verdict.value, f"{len(attempt.text)} characters")
        elif not attempt.finish_reason:
            span.fail("cancelled")
        self._leaf.end()
        whole_s = span.seconds or 0.0
        load_s = attempt.load_s or 0.0
        token_s = whole_s if attempt.first_token_s is None else attempt.first_token_s
        sign_s = token_s
        if attempt.thought_chars and attempt.first_sign_s is not None:
            sign_s = attempt.first_sign_s
        self._leaf.part("load", 0.0, load_s)
        self._leaf.part("wait for the first token", load_s, sign_s)
        self._leaf.part("think", sign_s, token_s)
        self._leaf.part("generate", token_s, whole_s)


def write_end(log: TagLog, attempt: AttemptState) -> None:
    """Write the log line of an attempt that has ended (SPEC A1)."""
    candidate, cut = attempt.candidate, attempt.prompt_cut
    where: dict[str, Value] = {
        "node": candidate.node,
        "model": candidate.model,
        "seconds": round(attempt.seconds, 3),
    }
    if attempt.ok:
        cut_fields: dict[str, Value] = {}
        if cut is not None:
            cut_fields = {
                "prompt_cut": True,
                "prompt_tokens": cut.read_tokens,
                "prompt_tokens_least": cut.least_tokens,
                "context_tokens": cut.context_tokens,
            }
        log.write(
            Tag.LLM_RESPONSE,
            **where,
            status=200,
            first_token_s=None if attempt.first_token_s is None else round(attempt.first_token_s, 3),
            tokens=attempt.usage.completion_tokens,
            **cut_fields,
            preview=log.preview(attempt.text),
        )
    elif attempt.verdict is not None:
        log.write(Tag.LLM_PARSE, **where, verdict=attempt.verdict.value, preview=log.preview(attempt.text))
    else:
        fault = attempt.fault or Fault(FaultKind.SERVER_ERROR, "")
        tag = Tag.LLM_CRASH if fault.is_crash else Tag.LLM_ERROR
        log.write(tag, **where, fault=fault.kind.value, status=fault.status, detail=fault.detail)
