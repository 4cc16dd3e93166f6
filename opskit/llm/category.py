"""What kind of work a goal is, by its words and length, in Russian and English (SPEC D6, B8). Pure."""

from opskit.llm.wording import PATTERNS

_LONG_WORDS = 30
_SHORT_CHARS = 60
#: What the router chooses models for.
CATEGORIES = ("reasoning", "coding", "fast", "default")
_ROUTED = {"coding": "coding", "planning": "reasoning", "reasoning": "reasoning"}


def goal_category(goal: str) -> str:
    """Return coding, planning, reasoning, complex (several parts), execution, fast (short) or general."""
    head = goal[:4000]
    for category in _ROUTED:
        if getattr(PATTERNS, category).search(head):
            return category
    if has_parts(goal):
        return "complex"
    if PATTERNS.execution.search(head):
        return "execution"
    return "fast" if len(goal) <= _SHORT_CHARS else "general"


def has_parts(goal: str) -> bool:
    """Tell whether a goal has several parts, or is so long that it may have."""
    return len(goal.split()) > _LONG_WORDS or PATTERNS.sequence.search(goal) is not None


def categorise(goal: str) -> str:
    """One of CATEGORIES. Coding outranks reasoning; a short plain goal is fast."""
    return _ROUTED.get(goal_category(goal)) or ("fast" if len(goal) <= _SHORT_CHARS else "default")
