"""Which paths macOS keeps from background jobs (ops facts 11)."""

from collections.abc import Iterator
from pathlib import Path

from opskit.config.schema import Config
from opskit.errors import OpskitError

DENIED = ("Documents", "Desktop", "Downloads")


def needed(config: Config, interpreter: str) -> Iterator[tuple[str, Path]]:
    """Every path that the job reads, and what it is there for."""
    yield "the Python interpreter", Path(interpreter)
    if config.path is not None:
        yield "the configuration", Path(config.path).absolute()
    for project, files in config.stack.compose.items():
        for file in files:
            yield f"a compose file of {project}", config.located(file)
    for file in config.stack.env_files:
        yield "an env file", config.located(file)
    yield "the state folder", Path(config.state_dir)


def check(config: Config, interpreter: str, *, home: Path) -> None:
    """Raise OpskitError SCHEDULE_003, naming every path that macOS would deny without a question."""
    out = [
        f"{what} {path} is in ~/{folder}"
        for what, path in needed(config, interpreter)
        if (folder := denied_folder(path, home)) is not None
    ]
    if out:
        raise OpskitError(
            "SCHEDULE_003",
            "; ".join(out) + ", which macOS keeps from background jobs",
            remedy="move it to another folder (`~/opskit`, say) and correct its path in the configuration; "
            "an interpreter moves by making the virtual environment anew",
        )


def denied_folder(path: Path, home: Path) -> str | None:
    """The folder that is denied: as the path is written, and where its links lead.

    The file system of a Mac does not tell capitals from small letters, so neither does this.
    """
    homes = [_folded(home), _folded(Path(home).resolve())]
    for one in (_folded(path), _folded(path.resolve())):
        for folder in DENIED:
            if any(one[: len(base) + 1] == (*base, folder.casefold()) for base in homes):
                return folder
    return None


def _folded(path: Path) -> tuple[str, ...]:
    return tuple(part.casefold() for part in path.absolute().parts)
