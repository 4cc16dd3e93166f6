"""A call of a function that a model wrote as its answer, though none was offered: it answers nothing.

Each family of models has a notation of its own, which its server turns into a call only where functions were
offered. JSON that stands alone is a call where it has the name of a function and an object of arguments.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from opskit.text import lazy_pattern

#: What begins a call in the notations of the families; in quotes it is only spoken of.
_NOTATION = lazy_pattern(
    r"(?<![`\"'«“])(?:<\|?(?:tool|function)_calls?(?:_begin)?\|?>|<\|python_tag\|>|\[TOOL_CALLS?\]"
    r"|<｜tool▁calls?▁begin｜>|<function=[\w.-]|<invoke name=|^```tool_(?:code|call)\b"
    r"|^[ \t]*Action[ \t]*:[ \t]*[\w.-]+[ \t]*\n\s*Action[ _]Input[ \t]*:)",
    re.IGNORECASE | re.MULTILINE,
)
#: JSON, or a line of `Action:`, that still grows and may become a call.
_BEGINNING = lazy_pattern(
    r"[\s\[{]*(?:[\[{]\s*\"(?:\w*\Z|(?:name|type|function|tool|id|arguments|parameters|tool_calls)\")|[\[{]\s*\Z)"
    r"|\s*(?:Action\b|A\w{0,4}\Z)",
    re.IGNORECASE,
)
#: A prompt with one of these words may want such a text.
_WANTED = lazy_pattern(
    r"tool|function|\bcall|json|schema|\bapi\b|argument|parameter|\baction|инструмент|функци|вызо[вз]|схем|аргумент"
    r"|параметр",
    re.IGNORECASE,
)
_ARGUMENTS = ("arguments", "parameters", "args")


def is_call(text: str, said: str, shown: str, prompts: Iterable[str]) -> bool:
    """Tell whether a text is, or leads to, a call of a function that no prompt speaks of.

    `said` is what is left of it without thoughts, and `shown` without its markup as well.
    """
    is_written = _NOTATION.search(said) or text.rstrip().endswith("<|call|>") or _is_json_call(shown)
    return bool(is_written) and not any(map(_WANTED.search, prompts))


def may_become_call(text: str, shown: str, prompts: Iterable[str]) -> bool:
    """Tell whether a text that still grows could end as a call; `shown` is what is visible of it."""
    begins = _BEGINNING.match(shown) or _NOTATION.search(text)
    return begins is not None and not any(map(_WANTED.search, prompts))


def _is_json_call(text: str) -> bool:
    """Tell whether a text is one call in JSON after the other, or a list of calls, and nothing else."""
    calls: list[Any] = []
    if text[:1] not in ("{", "["):
        return False
    try:
        while text:
            value, end = json.JSONDecoder(strict=False).raw_decode(text)
            calls += value if isinstance(value, list) else [value]
            text = text[end:].lstrip(" \n\t,;")
    except (ValueError, RecursionError):
        return False
    return bool(calls) and all(map(_is_named, calls))


def _is_named(call: Any) -> bool:
    if not isinstance(call, Mapping):
        return False
    if isinstance(inner := call.get("function"), Mapping):
        return _is_named(inner)
    name = call.get("name") or call.get("tool") or call.get("function")
    given = next((call[key] for key in _ARGUMENTS if key in call), None)
    return isinstance(name, str) and isinstance(given, Mapping)
