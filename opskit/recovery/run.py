"""One run of recovery, from the lock to the summary."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opskit.config.schema import Config
from opskit.recovery import memory as memories
from opskit.recovery.context import RecoveryContext
from opskit.recovery.executor import executing
from opskit.recovery.outcome import RecoveryRun
from opskit.recovery.reconciler import Reconciler, chosen
from opskit.recovery.repairer import Repairer
from opskit.recovery.step import Step

Steps = Callable[[RecoveryContext], Sequence[Step]]


@dataclass(frozen=True, slots=True)
class RecoverOptions:
    """What a run may do. `only` are names of steps, or of families of them such as `compose`."""

    dry: bool = False
    only: tuple[str, ...] = ()
    budget_s: float | None = None


async def recover(
    config: Config,
    environ: Mapping[str, str],
    folder: Path,
    wish: RecoverOptions,
    *,
    steps: Steps,
    platform: str,
    note: Callable[[str], None] = lambda _text: None,
    clock: Callable[[], float] = time.time,
) -> RecoveryRun:
    """Look at everything, mend what may be mended, remember it, tell people.

    `folder` is the state folder. Raises OpskitError RECOVER_001 when another run holds the lock (at once),
    RECOVER_002 for an unknown name in `only`, StateError when state cannot be read or written.
    """
    from opskit.recovery.notifier import Notifier
    from opskit.system.docker import Docker

    notifiers: list[Notifier] = []

    def notify(memory: memories.Memory) -> Notifier:
        notifiers.append(Notifier(config.notices, memory, environ, platform, clock, note))
        return notifiers[0]

    async with executing(
        config,
        environ,
        folder,
        source="recover",
        dry=wish.dry,
        notify=notify,
        clock=clock,
        note=note,
    ) as executor:
        async with Docker(environ) as door:
            ground = RecoveryContext(config, environ, folder, door, executor.memory, clock, platform)
            all_steps = steps(ground)
            healer = Reconciler(all_steps, Repairer(executor), only=chosen(all_steps, wish.only))
            for notifier in notifiers:
                await notifier.ping_start(executor.run_id)
            run = await healer.run(budget_s=wish.budget_s or config.recovery.budget_s)
        if not wish.dry:
            executor.memory.remember(run)
            executor.memory.save()
            content = run.as_memory()
            shown = {name: content[name] for name in ("seconds", "exit", "counts", "mutations")}
            executor.write("run_ended", **shown)
        for notifier in notifiers:
            await notifier.ping_end(executor.run_id, int(run.exit()), summary(run))
    return run


def summary(run: RecoveryRun) -> str:
    """The run in a few lines of text, worst first."""
    lines = [f"{one.target}: {one.result.value} {one.cause}".rstrip() for one in run.outcomes]
    counts = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in run.counts.items())
    return "\n".join([f"{counts}; {run.mutations} commands in {run.seconds:.1f} s", *lines])
