"""Where checklists are: those that come with opskit, and files of one's own."""

import importlib.resources
from collections.abc import Sequence
from pathlib import Path as FilePath

from opskit.config.problems import Problem, printable
from opskit.errors import ConfigError

#: Ten thousand checks take about 1 MB.
MAX_BYTES = 16 * 1024 * 1024


class ChecklistError(ConfigError):
    """Checklists that cannot be used; the message is the first problem and says how many follow."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first, *others = problems
        more = f" (and {len(others)} more)" if others else ""
        super().__init__(
            f"{first}{more}", remedy=f"{first.advice}; `opskit verify --kinds` lists what there is"
        )
        self.problems = tuple(problems)


def shipped() -> dict[str, FilePath]:
    """The checklists that come with opskit, by name."""
    inside = FilePath(str(importlib.resources.files("opskit.checks") / "lists"))
    folder = inside if inside.is_dir() else FilePath(__file__).parents[2] / "checks"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def found(name: str, cwd: FilePath) -> tuple[FilePath, str]:
    path = cwd / FilePath(name).expanduser()
    lists = shipped()
    if name in lists and not path.is_file():
        return lists[name], f"{name}.yaml"
    if not path.exists():
        known = ", ".join(lists)
        raise ConfigError(
            f"{printable(name, 4096)}: there is no such file, and no list of opskit has this name",
            code="CONFIG_002",
            remedy=f"give a path, or one of: {known}",
        )
    return path, printable(name, 4096)


def bytes_of(path: FilePath, shown: str) -> bytes:
    """Raises ConfigError CONFIG_002 for what cannot be read."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a usable path"
        raise ConfigError(f"{printable(shown, 4096)}: {reason}", code="CONFIG_002") from exc
    if len(raw) > MAX_BYTES:
        raise ChecklistError(
            [Problem(shown, None, "", f"larger than {MAX_BYTES} bytes: split it with `include`")]
        )
    return raw
