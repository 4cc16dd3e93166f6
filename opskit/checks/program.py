"""Running a program of the system for its output; it never outlives the check that asked."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opskit.checks.spec import Unjudged


@dataclass(frozen=True, slots=True)
class Done:
    exit: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """What it said last, on one line."""
        return " ".join((self.err.strip() or self.out.strip()).split())[-300:] or f"exit {self.exit}"


async def run(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Done:
    """Raises Unjudged when it cannot be started."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as exc:
        raise Unjudged(f"{command[0]} cannot be run: {exc.strerror}") from exc
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return Done(process.returncode or 0, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
