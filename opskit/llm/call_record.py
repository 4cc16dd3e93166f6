"""What is recorded of one call of a model: its span with its parts, and the log lines of it (SPEC A1)."""

from typing import Any
from urllib.parse import urlsplit

from opskit.llm.attempt import ActiveCall
from opskit.llm.faults import Fault, FaultKind
from opskit.tags import Tag, TagLog
from opskit.trace.span import Leaf, SpanKind


def write_call(log: TagLog, call: ActiveCall, number: int, *, fallback: bool) -> Leaf:
    """Write the log line of a call that begins, the `number`th of its request, and begin its span."""
    candidate, ask, node = call.candidate, call.ask, call.node.config
    log.write(
        Tag.LLM_CALL,
        node=candidate.node,
        model=candidate.model,
        fallback=fallback,
        attempt=number,
        resident=candidate.resident,
        max_tokens=ask.max_tokens,
        temperature=ask.temperature,
        **({} if ask.seed is None else {"seed": ask.seed}),
        why=candidate.why,
        url=node.url,
        **({} if call.num_ctx is None else {"num_ctx": call.num_ctx}),
    )
    address = urlsplit(node.url)
    return Leaf(
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
            "opskit.fallback": fallback,
            "opskit.resident": candidate.resident,
            "opskit.why": candidate.why,
        },
    )


def end_span(leaf: Leaf, call: ActiveCall) -> None:
    """End a span with its load, the wait for a token, thinking and the answer.

    A call that was cut off from outside counts as cancelled.
    """
    span, usage = leaf.span, call.usage
    span.set(
        {
            "gen_ai.response.model": call.model if call.served or call.ok else None,
            "gen_ai.response.finish_reasons": (call.finish_reason,) if call.finish_reason else None,
            "gen_ai.response.time_to_first_chunk": call.first_token_s,
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
        }
    )
    if call.fault is not None:
        span.fail(call.fault.kind.value, call.fault.detail)
    elif call.verdict is not None:
        span.fail(call.verdict.value, f"{len(call.text)} characters")
    elif not call.finish_reason:
        span.fail("cancelled")
    leaf.end()
    whole_s, load_s = span.seconds or 0.0, call.load_s or 0.0
    token_s = whole_s if call.first_token_s is None else call.first_token_s
    sign_s = call.first_sign_s if call.thought_chars and call.first_sign_s is not None else token_s
    leaf.part("load", 0.0, load_s)
    leaf.part("wait for the first token", load_s, sign_s)
    leaf.part("think", sign_s, token_s)
    leaf.part("generate", token_s, whole_s)


def write_end(log: TagLog, call: ActiveCall) -> None:
    """Write the log line of a call that has ended."""
    candidate, cut, first_s = call.candidate, call.prompt_cut, call.first_token_s
    fields: dict[str, Any] = {"node": candidate.node, "model": candidate.model}
    fields["seconds"] = round(call.seconds, 3)
    if call.ok:
        fields |= {"status": 200, "first_token_s": None if first_s is None else round(first_s, 3)}
        fields["tokens"] = call.usage.completion_tokens
        if cut is not None:
            fields |= {
                "prompt_cut": True,
                "prompt_tokens": cut.read_tokens,
                "prompt_tokens_least": cut.least_tokens,
                "context_tokens": cut.context_tokens,
            }
        log.write(Tag.LLM_RESPONSE, **fields, preview=log.preview(call.text))
    elif call.verdict is not None:
        log.write(Tag.LLM_PARSE, **fields, verdict=call.verdict.value, preview=log.preview(call.text))
    else:
        fault = call.fault or Fault(FaultKind.SERVER_ERROR, "")
        if fault.kind in call.ask.tests_for:
            log.write(Tag.LLM_RESPONSE, **fields, status=fault.status, refused=fault.kind.value, tokens=0)
            return
        tag = Tag.LLM_CRASH if fault.is_crash else Tag.LLM_ERROR
        log.write(tag, **fields, fault=fault.kind.value, status=fault.status, detail=fault.detail)
