"""`opskit logs FILE... --raw [--tag TAGS]`, begun before the command-line library is imported.

Only the plainest form is taken, on ordinary files, with ripgrep installed; everything else, every mistake
included, is left to the command itself, which gives the same bytes and the same exit status.
"""

import os
import shutil
import sys
from collections.abc import Sequence


def status(arguments: Sequence[str]) -> int | None:
    """The exit status of a search that was done here; None when it is none for this way."""
    if len(arguments) < 3 or arguments[0] != "logs" or "--raw" not in arguments:
        return None
    request = _parsed(arguments[1:])
    program = shutil.which("rg") if request is not None else None
    if request is None or program is None:
        return None
    files, tags = request
    from opskit.logs.tag_search import STANDARD_TAGS, is_tag, ripgrep

    names = tags or STANDARD_TAGS
    if not all(map(is_tag, names)):
        return None
    sys.stdout.flush()
    matched = [ripgrep(program, path, names, sys.stdout.fileno()) for path in files]
    # Nothing was found, or something went wrong: the command says what was searched.
    return 0 if any(matched) and None not in matched else None


def _parsed(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]] | None:
    """Files and tags, when there is nothing else."""
    files: list[str] = []
    tags: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--raw":
            continue
        if word == "--tag":
            tags += [name.strip() for name in next(words, "").split(",") if name.strip()]
        elif word.startswith("-") or not _ordinary(word):
            return None
        else:
            files.append(word)
    return (files, tuple(tags)) if files else None


def _ordinary(path: str) -> bool:
    """A file that ripgrep reads as we would: there, regular, not packed."""
    try:
        if not os.path.isfile(path):  # noqa: PTH113 - pathlib would cost more than the look
            return False
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return file.read(2) != b"\x1f\x8b"
    except OSError:
        return False
