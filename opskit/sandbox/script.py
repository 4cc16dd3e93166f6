"""What one generation will do: its tokens, and how it ends, well or badly. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from opskit.sandbox.faults import SandboxFault, SandboxFaultKind
from opskit.sandbox.replies import LOOP_SENTENCE, Reply, last_user_text, tokenise

LOOP_TOKENS = 256
"""Where a loop ends when the request sets no limit."""
AFTER_TOKENS = 3
"""Where a broken stream breaks when the fault does not say."""
INBAND_ERROR = "an error was encountered while running the model: unexpected EOF"
"""Recorded from Ollama: its runner died in the middle of an answer."""


class Ending(Enum):
    """What follows the last token sent."""

    DONE = auto()
    """The proper end with a reason."""
    CUT = auto()
    """The connection is dropped."""
    ERROR = auto()
    """The server says that it failed."""
    HANG = auto()
    """Nothing, on an open connection."""
    UNFINISHED = auto()
    """The answer is closed properly and is not marked as finished."""


@dataclass(frozen=True, slots=True)
class Script:
    """One generation, decided before its first byte."""

    tokens: tuple[str, ...]
    """The whole answer, also the part that a broken stream never sends."""
    sent: int
    """How many of them a stream sends before `ending`."""
    reason: str
    """`stop` or `length`, for a proper end."""
    ending: Ending
    error: str = ""

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.tokens)

    @property
    def sent_text(self) -> str:
        """The part before the ending."""
        return "".join(self.tokens[: self.sent])


GENERATION = frozenset({
    SandboxFaultKind.EMPTY,
    SandboxFaultKind.ECHO,
    SandboxFaultKind.LOOP,
    SandboxFaultKind.LENGTH,
    SandboxFaultKind.CUT,
    SandboxFaultKind.ERROR_INBAND,
    SandboxFaultKind.HANG_MIDSTREAM,
    SandboxFaultKind.DONE_FALSE,
})  # fmt: skip
"""Faults that are a way of generating: `write_script` plays them."""

_ENDINGS = {
    SandboxFaultKind.CUT: Ending.CUT,
    SandboxFaultKind.ERROR_INBAND: Ending.ERROR,
    SandboxFaultKind.HANG_MIDSTREAM: Ending.HANG,
    SandboxFaultKind.DONE_FALSE: Ending.UNFINISHED,
}


def write_script(
    fault: SandboxFault | None,
    messages: Sequence[Mapping[str, Any]],
    model: str,
    reply: Reply,
    limit: int | None = None,
) -> Script:
    """Decide a generation.

    Args:
        fault: one of `GENERATION`, or None for a good answer.
        messages: the chat so far.
        model: name handed to `reply`.
        reply: what a healthy model would say.
        limit: the request's token limit; None or negative is no limit.

    """
    kind = fault.kind if fault else None
    after = fault.after_tokens if fault else None
    if limit is not None and limit < 0:
        limit = None
    if fault and kind is SandboxFaultKind.LOOP:
        most = min(n for n in (after, limit, LOOP_TOKENS if after is None else None) if n is not None)
        once = tokenise(fault.text or LOOP_SENTENCE)
        tokens = (once * (most // len(once) + 1))[:most]
        return Script(tokens, len(tokens), "length", Ending.DONE)
    if kind is SandboxFaultKind.EMPTY:
        return Script((), 0, "stop", Ending.DONE)
    said = (
        last_user_text(messages)
        if kind is SandboxFaultKind.ECHO
        else reply([dict(m) for m in messages], model)
    )
    tokens = tokenise(said)
    if kind is SandboxFaultKind.LENGTH:
        shortened = max(1, len(tokens) // 2) if after is None else after
        limit = shortened if limit is None else min(shortened, limit)
    reason = "stop" if limit is None or len(tokens) < limit else "length"
    tokens = tokens[:limit]
    ending = _ENDINGS.get(kind, Ending.DONE) if kind else Ending.DONE
    if ending is Ending.DONE:
        return Script(tokens, len(tokens), reason, ending)
    default = len(tokens) if ending is Ending.UNFINISHED else AFTER_TOKENS
    sent = min(default if after is None else after, len(tokens))
    error = (
        (fault.text if fault and fault.text is not None else INBAND_ERROR) if ending is Ending.ERROR else ""
    )
    return Script(tokens, sent, reason, ending, error)
