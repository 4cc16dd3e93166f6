"""What is wrong with a configuration, said in one line each and without ever quoting a value."""

from collections.abc import Sequence
from dataclasses import dataclass

from opskit.errors import CATALOGUE, ConfigError

Path = tuple[str | int, ...]

_SHOWN_CHARS = 60


def printable(text: str, limit: int = _SHOWN_CHARS) -> str:
    """`text` fit for one line of a terminal: no control characters, not endless."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def dotted(path: Path) -> str:
    """The key path as people write it: `nodes.ollama.url`."""
    return ".".join(printable(str(part)) for part in path)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct. `path` is the file, or the environment variable, that holds it."""

    path: str
    line: int | None
    key: str
    message: str
    code: str = "CONFIG_001"
    remedy: str | None = None
    column: int | None = None

    @property
    def where(self) -> str:
        return ":".join(str(part) for part in (self.path, self.line, self.column) if part is not None)

    @property
    def advice(self) -> str:
        """What to do about it."""
        if self.remedy is None and self.code == "CONFIG_001":
            return f"correct {self.path}" + (f", line {self.line}" if self.line else "")
        return self.remedy or CATALOGUE[self.code].remedy

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class InvalidConfigError(ConfigError):
    """Every problem that was found at once; the message is the first and says how many follow."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first, *others = problems
        more = f" (and {len(others)} more: opskit config check)" if others else ""
        super().__init__(f"{first}{more}", code=first.code, remedy=first.remedy)
        self.problems = tuple(problems)
