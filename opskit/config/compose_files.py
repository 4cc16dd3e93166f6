"""The files that Compose uses where a person types no `-f`."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

#: What Compose looks for where a person names no file, and what it lays over that.
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_COMPOSE_OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)


def with_override(files: Sequence[Path]) -> tuple[Path, ...]:
    """Return the files that Compose uses where a person types no `-f`.

    These are the files that COMPOSE_FILE in the `.env` beside one names, else it and the override beside it.
    A folder stands for the file that Compose finds in it.
    """
    is_folder = [path.is_dir() for path in files] == [True]
    files = [_file_in(path) if path.is_dir() else path for path in files]
    if len(files) != 1:
        return tuple(files)
    folder = files[0].parent
    named = _named_in(folder / ".env")
    if files[0] in named or (is_folder and named):
        return named
    if files[0].name not in COMPOSE_FILES:
        return tuple(files)
    override = next((folder / name for name in _COMPOSE_OVERRIDES if (folder / name).is_file()), None)
    return tuple(files) if override is None else (*files, override)


def _file_in(folder: Path) -> Path:
    usual = [folder / name for name in COMPOSE_FILES]
    return next((path for path in usual if path.is_file()), usual[0])


def _named_in(dotenv: Path) -> tuple[Path, ...]:
    """Return the files that COMPOSE_FILE names in an environment file."""
    try:
        text = dotenv.read_text("utf-8", "replace")
    except OSError:
        return ()
    if "COMPOSE_FILE" not in text:
        return ()
    from dotenv import dotenv_values

    values = dotenv_values(stream=io.StringIO(text))
    separator = values.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    names = (values.get("COMPOSE_FILE") or "").split(separator)
    return tuple(Path(os.path.normpath(dotenv.parent / name)) for name in names if name)
