"""The names of tags, patterns for them, and ripgrep as the engine for raw searches of them.

Nothing heavier is imported, so that a search can begin at once. ripgrep's inner loop is several times
faster than any scan that has to come back to Python for each line. Only what is the same in both engines is
handed to it: whole ordinary files, tags, lines byte for byte. The patterns are ours, so nothing that a person
wrote reaches its regular expressions.
"""

import os
import re
import signal
from collections.abc import Sequence

from opskit.system.output import reader_has_left

#: SPEC A1 and the end of a request, as `opskit.tags.Tag` has them; a test holds the two together.
STANDARD_TAGS = (
    "EXECUTOR_INIT",
    "REQUEST",
    "REQUEST_END",
    "LLM_CALL",
    "LLM_WAIT",
    "LLM_RESPONSE",
    "LLM_ERROR",
    "LLM_PARSE",
    "LLM_CRASH",
    "FALLBACK",
    "PROBE_LEFT",
)
_TAG = re.compile(r"[A-Z*][A-Z0-9_*]*")
#: ripgrep's exit statuses.
_FOUND, _NOTHING = 0, 1


def is_tag(text: str) -> bool:
    """Whether this is a tag, or a pattern of tags with `*`."""
    return _TAG.fullmatch(text) is not None


def tag_pattern(tags: Sequence[str]) -> bytes:
    """A pattern for any of the tags in brackets; `*` stands for any part of a name. They must be tags."""
    alternatives = (re.escape(tag).replace(r"\*", "[A-Z0-9_]*") for tag in tags)
    return rf"\[(?:{'|'.join(alternatives)})\]".encode()


def ripgrep(program: str, path: str, tags: Sequence[str], out: int) -> bool | None:
    """Write the lines of a file with one of the tags to descriptor `out`; whether there were any.

    None when ripgrep could not do it. Raises BrokenPipeError when the reader went away before there was any.
    """
    command = [
        program,
        "--no-config",
        "--no-mmap",
        "--text",
        "--encoding=none",
        "--no-line-number",
        "--no-filename",
        "--color=never",
        "--no-messages",
        "--regexp",
        tag_pattern(tags).decode("ascii"),
        "--",
        os.path.abspath(path),  # noqa: PTH100 - pathlib would cost more than the search of a small file
    ]
    # When it cannot write it says so, and so does the search that follows.
    silent = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
    actions = [silent, (os.POSIX_SPAWN_DUP2, out, 1)] if out != 1 else [silent]
    child = os.posix_spawn(program, command, os.environ, file_actions=actions)
    try:
        _, status = os.waitpid(child, 0)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    code = os.waitstatus_to_exitcode(status)
    if code != _FOUND and reader_has_left(out):
        raise BrokenPipeError
    return code == _FOUND if code in (_FOUND, _NOTHING) else None
