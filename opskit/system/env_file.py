"""Environment files (`.env`), read as Docker Compose reads them."""

import io
import re
from dataclasses import dataclass, field

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What is in an environment file. `malformed` are the numbers of lines that set nothing."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    repeated: tuple[str, ...] = ()
    malformed: tuple[int, ...] = ()


def parse_env_file(text: str) -> EnvFile:
    """Return the variables of a file, with the last value of each."""
    from dotenv.parser import parse_stream

    values: dict[str, str] = {}
    repeated: dict[str, None] = {}
    malformed: list[int] = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.key is None and not binding.error:
            continue
        if binding.key is None or binding.value is None or not _NAME.fullmatch(binding.key):
            written = binding.original.string
            blank = written[: len(written) - len(written.lstrip())]
            malformed.append(binding.original.line + blank.count("\n"))
            continue
        if binding.key in values:
            repeated[binding.key] = None
        values[binding.key] = binding.value
    return EnvFile(values, tuple(repeated), tuple(malformed))
