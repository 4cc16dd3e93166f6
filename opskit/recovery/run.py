"""One run of recovery, from the lock to the summary."""

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.recovery import memory as memories
from opskit.recovery import pauses
from opskit.recovery.audit import Audit
from opskit.recovery.ground import Ground
from opskit.recovery.hands import Hands
from opskit.recovery.healer import Healer, chosen
from opskit.recovery.mending import Mender
from opskit.recovery.notice import Notice
from opskit.recovery.outcome import Run
from opskit.recovery.step import Step
from opskit.system.lock import try_lock
from opskit.system.moment import utc

LOCK_NAME = "recover.lock"
Steps = Callable[[Ground], Sequence[Step]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a run may do. `only` are names of steps, or of families of them such as `compose`."""

    dry: bool = False
    only: tuple[str, ...] = ()
    budget_s: float | None = None


async def recover(
    config: Config,
    environ: Mapping[str, str],
    folder: Path,
    wish: Wish,
    *,
    steps: Steps,
    platform: str,
    note: Callable[[str], None] = lambda _text: None,
    clock: Callable[[], float] = time.time,
) -> Run:
    """Look at everything, mend what may be mended, remember it, tell people.

    `folder` is the state folder. Raises OpskitError RECOVER_001 when another run holds the lock (at once),
    RECOVER_002 for an unknown name in `only`, StateError when state cannot be read or written.
    """
    from opskit.recovery.notifier import Notifier
    from opskit.system.docker_objects import DockerObjects

    with alone(folder), contextlib.ExitStack() as parts:
        memory, damage = memories.load(folder)
        if damage is not None:
            note(damage)
        pauses.read(folder, clock())  # damaged ones are told before anything is done
        audit = None if wish.dry else Audit(folder, config.log)
        if audit is not None:
            parts.callback(audit.close)
        identifier = str(uuid.uuid4())
        notifier = Notifier(config.notices, memory, environ, platform, clock, note)
        async with DockerObjects(environ) as door:
            ground = Ground(config, environ, folder, door, memory, clock, platform)
            all_steps = steps(ground)
            mender = Mender(
                config.recovery,
                folder,
                memory,
                hands=Hands(folder, environ),
                audit=audit,
                tell=_silent if wish.dry else notifier,
                run_id=identifier,
                host=socket.gethostname(),
                clock=clock,
                note=note,
            )
            healer = Healer(all_steps, mender, only=chosen(all_steps, wish.only))
            if not wish.dry:
                await notifier.ping_start(identifier)
            run = await healer.run(budget_s=wish.budget_s or config.recovery.budget_s)
        if audit is not None:
            _remember(run, memory, audit, clock())
            await notifier.ping_end(identifier, int(run.exit()), summary(run))
            memory.save()
    return run


def summary(run: Run) -> str:
    """The run in a few lines of text, worst first."""
    lines = [f"{one.target}: {one.result.value} {one.cause}".rstrip() for one in run.outcomes]
    counts = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in run.counts.items())
    return "\n".join([f"{counts}; {run.mutations} commands in {run.seconds:.1f} s", *lines])


def _remember(run: Run, memory: memories.Memory, audit: Audit, now: float) -> None:
    content = run.as_memory()
    memory.remember(run)
    memory.save()
    audit.write(
        at=utc(now),
        event="run_ended",
        run=run.identifier,
        seconds=content["seconds"],
        exit=content["exit"],
        counts=content["counts"],
        mutations=content["mutations"],
    )


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The lock of this state folder, which dies with its process."""
    path = folder / LOCK_NAME
    with try_lock(path) as mine:
        if not mine:
            holder = _holder(path)
            raise OpskitError("RECOVER_001", f"another recovery is running{holder}")
        with contextlib.suppress(OSError):
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield


def _holder(path: Path) -> str:
    try:
        pid = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
    return f" as process {pid}" if pid.isdigit() else ""


async def _silent(_notice: Notice) -> None:
    """A dry run tells nobody."""
