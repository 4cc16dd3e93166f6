"""What kind of work a goal is, by its words and length, in Russian and English (SPEC D6, B8)."""

import re

_CODING = re.compile(
    # Short stems take case endings only: a ботинок is no бот, and багаж no баг.
    r"\b((код|бот|баг|класс)(а|у|ом|е|ы|и|ов|ам|ами|ах)?\b|кодир\w*|функци\w*|скрипт\w*|рефактор\w*|отлад\w*|"
    r"тест(ы|ов)\b|sql|python|rust|"
    r"javascript|typescript|golang|bash|regex|api|code|function|class|script|refactor\w*|debug\w*|bug|"
    r"unit tests?|implement\w*|compile\w*|traceback)\b|```",
    re.IGNORECASE,
)
_REASONING = re.compile(
    r"\b(почему|объясни\w*|докажи\w*|сравни\w*|проанализируй\w*|анализ\w*|спланируй\w*|планир\w*|"
    r"план(а|у|ом|е|ы|ов)?\b|стратеги\w*|"
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
