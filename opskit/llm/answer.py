"""What goes into the router and what comes out: the ask, its attempts, an answer or an honest refusal."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from opskit.config.schema import RouterConfig
from opskit.errors import OpskitError
from opskit.llm.faults import FaultKind
from opskit.llm.plan import ModelRequest, Skipped
from opskit.llm.profile import StepMode
from opskit.llm.prompt import PromptCut
from opskit.providers.base import Message, Token, ToolCall, ToolSpec, Usage
from opskit.records import MutableRecord, Record, asdict, field, replace


class Ask(Record):
    """One question. `length_is_fine` accepts an answer that ended at `max_tokens`.

    `strict_context` refuses an answer to a prompt that was cut. `on_wait` gets why no token came.

    `schema` and `tools` are as in `ChatRequest`; each model gets what suits it, or what `mode` says. An
    answer under a schema is judged by its reader, here only whether there is one. `tool_rules` take the place
    of the first message where the tools are offered as functions. `think` and `probabilities` are those of
    `ChatRequest`.

    `tests_for` are faults that the question is asked to find out: the model is none the worse for them.

    None leaves a value to the configuration. `max_fallbacks` 0 asks one model only. `goal` is what must not
    come back as an answer, where parts of the prompt may.
    """

    messages: tuple[Message, ...]
    request: ModelRequest = field(default_factory=ModelRequest)
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    length_is_fine: bool = False
    max_fallbacks: int | None = None
    strict_context: bool = False
    schema: Mapping[str, Any] | None = None
    tools: tuple[ToolSpec, ...] = ()
    tool_rules: str = ""
    mode: StepMode | None = None
    think: bool = False
    goal: str | None = None
    probabilities: bool = False
    tests_for: frozenset[FaultKind] = frozenset()
    on_wait: Callable[[str], None] = lambda _: None

    @classmethod
    def of(cls, goal: str, **options: Any) -> "Ask":
        return cls((Message("user", goal),), **options)

    def with_defaults(self, config: RouterConfig) -> "Ask":
        """Return the same question with the configured values where it names none."""
        return replace(
            self,
            max_tokens=self.max_tokens or config.max_tokens_for(self.request.category),
            temperature=config.temperature if self.temperature is None else self.temperature,
            seed=config.seed if self.seed is None else self.seed,
        )

    @property
    def prompts(self) -> tuple[str, ...]:
        """The texts that must not come back as an answer: the last user message, and all of the prompt."""
        if self.goal is not None:
            return (self.goal,)
        users = [m.content for m in self.messages if m.role == "user"]
        whole = "\n".join(m.content for m in self.messages)
        return (users[-1], whole) if users and users[-1] != whole else (whole,)

    @property
    def dialogue(self) -> tuple[Message, ...]:
        """The messages in the mode of the model that is asked."""
        if self.mode is StepMode.NATIVE and self.tool_rules:
            return (Message("system", self.tool_rules), *self.messages[1:])
        return self.messages

    @property
    def size_chars(self) -> int:
        return sum(len(m.content) for m in self.messages)


class Session(MutableRecord):
    """What one conversation remembers: (node, model) pairs that crashed are not used again (SPEC A3)."""

    failed: set[tuple[str, str]] = field(default_factory=set)


class AttemptOutcome(StrEnum):
    OK = "ok"
    FAULT = "fault"
    REJECTED = "rejected"


class Attempt(Record):
    """One call of one model. `fault` names the fault, or the verdict for a rejected text.

    Times count from the start of the attempt, a load included; `first_sign_s` is the first token of any
    kind, also of a thought. `remedy` helps against this very failure. `thought_chars` is how much it thought
    aloud.
    """

    node: str
    model: str
    outcome: AttemptOutcome
    fault: str | None
    detail: str
    seconds: float
    fallback: bool
    first_token_s: float | None = None
    load_s: float | None = None
    first_sign_s: float | None = None
    finish_reason: str = ""
    remedy: str | None = None
    usage: Usage = field(default_factory=Usage)
    thought_chars: int = 0

    def as_json(self) -> dict[str, Any]:
        hidden = ("first_sign_s", "finish_reason", "remedy", "usage", "thought_chars")
        values = {name: value for name, value in asdict(self).items() if name not in hidden}
        return {name: round(v, 4) if isinstance(v, float) else v for name, v in values.items()}


class Answer(Record):
    """An accepted text, who gave it, and everything that was tried on the way.

    `prompt_cut` is there when the model read only part of the prompt; `tokens` where their probabilities were
    asked for and the server tells them. `mode` is how it was asked for a step.
    """

    text: str
    node: str
    model: str
    attempts: tuple[Attempt, ...]
    seconds: float
    usage: Usage
    finish_reason: str
    prompt_cut: PromptCut | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    mode: StepMode | None = None
    tokens: tuple[Token, ...] = ()


class NoAnswer(OpskitError):  # noqa: N818 - it reads as what it is
    """Every attempt failed, or there was nobody to ask.

    `partial` is what had been passed on before a stream broke; it is not an answer.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        attempts: Sequence[Attempt] = (),
        skipped: Sequence[Skipped] = (),
        seconds: float = 0.0,
        partial: str = "",
        remedy: str | None = None,
    ) -> None:
        self.attempts = tuple(attempts)
        self.skipped = tuple(skipped)
        self.seconds = seconds
        self.partial = partial
        super().__init__(code, message, remedy=remedy)
