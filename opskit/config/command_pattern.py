"""A rule of a person about commands: words of a command line, with wildcards."""

import shlex
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from opskit.records import Record

#: Stands for any number of further words.
REST = "..."


class CommandPattern(Record):
    """`docker restart *`: a program, then one pattern for each word; `...` at the end takes all others."""

    text: str
    words: tuple[str, ...]
    rest: bool

    def matches(
        self, programs: Sequence[str], arguments: Sequence[str], free: Callable[[str], bool] = lambda _: True
    ) -> bool:
        """Tell whether a command has this shape.

        `programs` are the names of its program. A word that only a wildcard takes must be `free`.
        """
        program, *patterns = self.words
        if not any(fnmatchcase(name, program) for name in programs):
            return False
        if len(arguments) < len(patterns) or (len(arguments) > len(patterns) and not self.rest):
            return False
        return all(
            word == pattern or (fnmatchcase(word, pattern) and free(word))
            for word, pattern in zip(arguments, patterns, strict=False)
        ) and all(free(word) for word in arguments[len(patterns) :])


def command_pattern(text: str) -> CommandPattern:
    """Return the pattern that a text in the configuration means. Raises ValueError."""
    if not text.isprintable():
        raise ValueError("holds characters that cannot be shown")
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise ValueError("has a quote that is not closed") from exc
    rest = bool(words) and words[-1] == REST
    words = words[:-1] if rest else words
    if not words:
        raise ValueError("must begin with the name of a program")
    if REST in words:
        raise ValueError(f"has `{REST}` before its end: only the last word may be `{REST}`")
    if any(char in words[0] for char in "*?["):
        raise ValueError("must name its program without wildcards")
    return CommandPattern(text, tuple(words), rest)
