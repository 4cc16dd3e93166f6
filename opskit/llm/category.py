"""What kind of work a goal is, by its words and length, in Russian and English (SPEC D6, B8)."""

import re

_CODING = re.compile(
    r"\b(код\w*|функци\w*|класс\w*|скрипт\w*|бот\w*|рефактор\w*|отлад\w*|баг\w*|тест(ы|ов)\b|sql|python|rust|"
    r"javascript|typescript|golang|bash|regex|api|code|function|class|script|refactor\w*|debug\w*|bug|"
    r"unit tests?|implement\w*|compile\w*|traceback)\b|```",
    re.IGNORECASE,
)
_REASONING = re.compile(
    r"\b(почему|объясни\w*|докажи\w*|сравни\w*|проанализируй\w*|анализ\w*|спланируй\w*|план\w*|стратеги\w*|"
    r"why|explain|prove|compare|analy[sz]e|plan|strategy|trade-?offs?|reason\w*|step by step)\b",
    re.IGNORECASE,
)
CATEGORIES = ("reasoning", "coding", "fast", "default")


def categorise(goal: str) -> str:
    """One of CATEGORIES. Coding outranks reasoning; a short plain goal is fast."""
    head = goal[:4000]
    if _CODING.search(head):
        return "coding"
    if _REASONING.search(head):
        return "reasoning"
    return "fast" if len(goal) <= 60 else "default"
