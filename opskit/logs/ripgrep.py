"""ripgrep as an engine for raw tag searches, where it is installed.

Its inner loop is several times faster than any scan that has to come back to Python for each line. Only what
is the same in both engines is handed to it: whole ordinary files, tags, lines byte for byte. The patterns are
ours, so nothing that a person wrote reaches its regular expressions.
"""

import os
import signal
from collections.abc import Sequence

from opskit.logs.tag_names import tag_pattern
from opskit.system.output import reader_has_left

#: ripgrep's exit statuses.
_FOUND, _NOTHING = 0, 1


def search(program: str, path: str, tags: Sequence[str], out: int) -> bool | None:
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
        tag_pattern(tuple(tags)).decode("ascii"),
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
