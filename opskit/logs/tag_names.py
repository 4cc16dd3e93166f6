"""The names of tags, and patterns for them: nothing else, so that a search can begin at once."""

import re

#: SPEC A1 and the end of a request, as `opskit.tags.Tag` has them; a test holds the two together.
STANDARD_TAGS = (
    "EXECUTOR_INIT",
    "REQUEST",
    "REQUEST_END",
    "LLM_CALL",
    "LLM_RESPONSE",
    "LLM_ERROR",
    "LLM_PARSE",
    "LLM_CRASH",
    "FALLBACK",
)
_TAG = re.compile(r"[A-Z*][A-Z0-9_*]*")


def is_tag(text: str) -> bool:
    """Whether this is a tag, or a pattern of tags with `*`."""
    return _TAG.fullmatch(text) is not None


def tag_pattern(tags: tuple[str, ...]) -> bytes:
    """A pattern for any of the tags in brackets; `*` stands for any part of a name. They must be tags."""
    alternatives = (re.escape(tag).replace(r"\*", "[A-Z0-9_]*") for tag in tags)
    return rf"\[(?:{'|'.join(alternatives)})\]".encode()
