"""What kind of work a goal is, by its words and length, in Russian and English (SPEC D6, B8). Pure."""

import re

from opskit.text import lazy_pattern

_CODING = lazy_pattern(
    # Short stems take case endings only: a ботинок is no бот, and багаж no баг.
    r"\b((код|бот|баг|класс)(а|у|ом|е|ы|и|ов|ам|ами|ах)?\b|кодир\w*|функци\w*|скрипт\w*|рефактор\w*|отлад\w*|"
    r"тест(ы|ов)\b|sql|python|rust|"
    r"javascript|typescript|golang|bash|regex|api|code|function|class|script|refactor\w*|debug\w*|bug|"
    r"unit tests?|implement\w*|compile\w*|traceback)\b|```",
    re.IGNORECASE,
)
_PLANNING = lazy_pattern(
    r"\b(спланируй\w*|планир\w*|план(а|у|ом|е|ы|ов)?\b|стратеги\w*|plan|planning|roadmap|strategy)\b",
    re.IGNORECASE,
)
_REASONING = lazy_pattern(
    r"\b(почему|объясни\w*|докажи\w*|сравни\w*|проанализируй\w*|анализ\w*|"
    r"why|explain|prove|compare|analy[sz]e|trade-?offs?|reason\w*|step by step)\b",
    re.IGNORECASE,
)
_EXECUTION = lazy_pattern(
    r"^\W*(?:please |пожалуйста,? )?(?:запусти|выполни|перезапусти|останови|удали|установи|скопируй|"
    r"создай файл|run|execute|start|restart|stop|delete|remove|install|copy|deploy)\b",
    re.IGNORECASE,
)
_SEQUENCE = lazy_pattern(
    r"\b(?:then|after that|afterwards|and (?:also|finally)|first .{1,80} then|step by step|"
    r"затем|потом|после этого|а также|сначала|наконец|по шагам)\b",
    re.IGNORECASE,
)
_LONG_WORDS = 30
_SHORT_CHARS = 60
#: What the router chooses models for.
CATEGORIES = ("reasoning", "coding", "fast", "default")
_ROUTED = {"coding": "coding", "planning": "reasoning", "reasoning": "reasoning"}


def goal_category(goal: str) -> str:
    """Return coding, planning, reasoning, complex (several parts), execution, fast (short) or general."""
    head = goal[:4000]
    for category, pattern in (("coding", _CODING), ("planning", _PLANNING), ("reasoning", _REASONING)):
        if pattern.search(head):
            return category
    if has_parts(goal):
        return "complex"
    if _EXECUTION.search(head):
        return "execution"
    return "fast" if len(goal) <= _SHORT_CHARS else "general"


def has_parts(goal: str) -> bool:
    """Tell whether a goal has several parts, or is so long that it may have."""
    return len(goal.split()) > _LONG_WORDS or _SEQUENCE.search(goal) is not None


def categorise(goal: str) -> str:
    """One of CATEGORIES. Coding outranks reasoning; a short plain goal is fast."""
    return _ROUTED.get(goal_category(goal)) or ("fast" if len(goal) <= _SHORT_CHARS else "default")
