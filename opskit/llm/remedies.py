"""What to type after a call that failed: one text for `run`, `probe`, `doctor` and `models test`. Pure."""

from opskit.llm.faults import FaultKind, fault_texts
from opskit.llm.verdict import Verdict
from opskit.providers.base import DEFAULT_MODEL
from opskit.providers.kinds import ServerKind


def fault_remedy(kind: FaultKind, *, model: str, node: str, server: ServerKind, again: str) -> str | None:
    """Return the next thing to type; None where only the state of the node tells it.

    `again` is the command that tries once more.
    """
    text = server.advice.get(kind.value) or fault_texts()["remedies"].get(kind)
    if text is None:
        return None
    return text.format(model="MODEL" if model == DEFAULT_MODEL else model, node=node, again=again)


def verdict_remedy(verdict: Verdict, *, model: str, limited: bool) -> str | None:
    """Return what helps against an answer that is none; None where nothing certain does.

    `limited` means that the token limit ended it.
    """
    if verdict is not Verdict.ONLY_THINKING:
        return None
    other = "or choose a model that does not think (`opskit models list`)"
    if limited:
        return (
            f"raise `router.max_tokens` (or its context, where that is full) for {model} to finish, {other}"
        )
    return f"ask again, {other}"
