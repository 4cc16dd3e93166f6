"""The program that a scheduler runs to look from inside: one JSON document on standard output.

Its one argument is a list of paths, as JSON in base64: no shell, unit or plist has an opinion about those
characters.
"""

import asyncio
import base64
import json
import os
import sys
from collections.abc import Sequence

from opskit.schedule.look import ProcessView, look, seen_from

MODULE = "opskit.schedule.inside"


def arguments(files: Sequence[str]) -> tuple[str, ...]:
    """What to call the interpreter with."""
    return ("-m", MODULE, base64.urlsafe_b64encode(json.dumps(list(files)).encode()).decode())


def answer(written: str) -> ProcessView:
    """What the program saw. Raises ValueError for anything else, such as the answer of another version."""
    try:
        return seen_from(json.loads(written.strip().splitlines()[-1]))
    except (TypeError, KeyError, AttributeError, IndexError) as exc:
        raise ValueError("it is not what a look from inside writes") from exc


def main(argv: Sequence[str]) -> None:
    files = json.loads(base64.urlsafe_b64decode(argv[0]))
    seen = asyncio.run(look(None, files, dict(os.environ)))
    sys.stdout.write(json.dumps(seen.as_json()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
