"""Text files that are written whole or not at all."""

import io
import os
import re
from dataclasses import dataclass, field
from pathlib import Path


def check_writable(path: Path) -> None:
    """Prove that `write_text` can write there; the file itself is left alone. Raises OSError."""
    temporary = beside(_target(path))
    os.close(create(temporary, 0o666))
    temporary.unlink()


def write_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Replace the file, or create it, in one step: a reader sees the old text or the new one.

    A symbolic link stays a link, and an existing file keeps its permissions. Raises OSError.
    `mode` is that of a new file, before the umask.
    """
    target = _target(path)
    temporary = beside(target)
    handle = create(temporary, mode)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _target(path: Path) -> Path:
    """Return where a link leads. Raises OSError for a folder, a device and a link that leads to itself."""
    try:
        target = path.resolve()
    except RuntimeError as exc:
        raise OSError(0, "a symbolic link that leads to itself") from exc
    if target.exists() and not target.is_file():
        raise OSError(0, "it is not a regular file")
    return target


def beside(target: Path) -> Path:
    """Return the name of a temporary file in the same folder."""
    # Not the process alone: its number comes again, and what a killed one left behind must not be in the way.
    return target.with_name(f".{target.name[:200]}.{os.getpid()}-{os.urandom(4).hex()}.tmp")


def create(path: Path, mode: int) -> int:
    """Return the descriptor of a file that is new. Raises FileExistsError, OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


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
