"""The machine: room, memory, clocks."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path

from opskit.checks.runner_assessment import remedy_of_orphans
from opskit.checks.spec import Check, CheckContext, NotHere, Observation, assessing
from opskit.doctor.cause import Cause, warning
from opskit.doctor.evidence import Evidence
from opskit.doctor.target import ExaminationTarget
from opskit.facts.docker_daemon import read_docker_daemon
from opskit.facts.machine import (
    ClockReading,
    DiskFacts,
    HeldLock,
    read_clock,
    read_container_logs,
    read_disk,
    read_held_locks,
    read_memory,
    read_state_folder,
)
from opskit.facts.runner import RunnerProcess, read_orphaned_runners
from opskit.llm.fit import gib
from opskit.recovery.memory import LOCK_NAME
from opskit.result import Status
from opskit.system.host import MemoryGauge
from opskit.text import counted, listing, span

_FULL_PERCENT = 98
#: No command of opskit that takes a lock works longer than this.
_WORK_S = 3600.0
#: So much of the time some program waits for memory where a machine swaps, or reads a model again and again.
_STALLED_PERCENT = 25.0
#: A percentage of free inodes that is worth a word.
_FEW = 10
#: A log of a container that is worth a word on a full disk.
_LARGE_LOG_BYTES = 100_000_000
_EMPTY_LOG = (
    "`sudo truncate -s 0 $(docker inspect --format '{{{{.LogPath}}}}' {name})` empties its log, "
    "`max-size` in its `logging` options bounds it"
)
_CLEAR = {
    "state": "remove what is not needed; `du -sh {path}/*` shows what is large in this folder",
    "docker": "`docker system df` shows what can go; `docker system prune` removes what nothing uses",
    "models": "`ollama list` shows sizes; `ollama rm NAME` removes a model",
}
_USES = {"state": "the state folder", "docker": "Docker", "models": "models"}


def checks(target: ExaminationTarget) -> Iterator[Check]:
    config, here, full = target.config, "this machine", target.config.watch.disk_percent
    check = partial(assessing, tags=("machine",))
    processes = partial(check, imports=("psutil",))
    yield processes("memory", _memory, config.watch.memory_percent, here, name="memory")
    for use, path in (("state", Path(config.state_dir)), ("models", _models_folder(target))):
        yield check("disk", _disk, (use, path, full), str(path), name=f"disk {use}")
    yield check("state folder", _state, None, config.state_dir, name="state folder")
    docker = "docker", None, full
    yield check("disk", _disk, docker, "docker", name="disk docker", requires=("docker",))
    yield processes("model processes", _runners, None, here, name="model processes")
    yield processes("locks", _locks, None, here, name="locks")
    yield check("clocks", _clocks, target, "clocks", name="clocks")


def _models_folder(target: ExaminationTarget) -> Path:
    """Where Ollama keeps its models, as far as this shell knows."""
    folder = target.environ.get("OLLAMA_MODELS", "").strip()
    return Path(folder) if folder.startswith("/") else target.home / ".ollama/models"


async def _memory(limit: float, context: CheckContext) -> Observation:
    memory = await context.survey.get(read_memory)
    values = {"used_percent": memory.used_percent, "available_bytes": memory.available_bytes}
    free, total = gib(memory.available_bytes), gib(memory.total_bytes)
    detail = f"{free} of {total} available ({memory.used_percent:.0f} % used)"
    detail += f"; {_stall(memory)}" if memory.stalled_percent >= _STALLED_PERCENT else ""
    return Observation(values, detail, problem=detail if _is_short(memory, limit) else "", state="ok")


def _is_short(memory: MemoryGauge, limit: float) -> bool:
    return memory.used_percent >= limit or memory.stalled_percent >= _STALLED_PERCENT


def _stall(memory: MemoryGauge) -> str:
    return f"programs wait for memory {memory.stalled_percent:.0f} % of the time: the machine swaps"


async def _disk(params: tuple[str, Path | None, float], context: CheckContext) -> Observation:
    """Look at the disk of a path, or without one of the folder in which Docker keeps its data."""
    use, path, limit = params
    if path is None:
        root = (await context.survey.get(read_docker_daemon)).root
        path = None if root is None else Path(root)
        if path is None or not path.exists():
            raise NotHere("Docker keeps its data on another machine")
    disk = await context.survey.get(read_disk, use, path)
    if disk is None:
        return Observation({}, problem=f"{path} cannot be looked at", state="unreadable")
    values = {"used_percent": disk.used_percent, "free_bytes": disk.free_bytes}
    detail = f"{gib(disk.free_bytes)} free ({disk.used_percent:.0f} % used)"
    if _fullness(disk) < limit:
        return Observation(values, detail, state="ok")
    if use == "docker":
        await context.survey.get(read_container_logs, path)
    return Observation(values, problem=detail)


def _fullness(disk: DiskFacts) -> float:
    """Return the percentage that is used of its bytes or of its inodes, whichever is scarcer."""
    return max(disk.used_percent, 100 - disk.inodes_free_percent)


async def _state(_: None, context: CheckContext) -> Observation:
    problem = await context.survey.get(read_state_folder)
    return Observation({}, "it can be written", problem=problem, state="not writable" if problem else "ok")


async def _runners(_: None, context: CheckContext) -> Observation:
    orphans = await context.survey.get(read_orphaned_runners)
    if not orphans:
        return Observation({}, "each process of a model has its server", state="ok")
    words = ", ".join(orphan.words for orphan in orphans)
    return Observation({}, problem=f"the server of {words} has ended", state="orphaned")


async def _locks(_: None, context: CheckContext) -> Observation:
    locks = await context.survey.get(read_held_locks)
    stuck = [lock for lock in locks if is_stuck(lock)]
    held = ", ".join(f"{lock.name} by {lock.words}" for lock in stuck or locks)
    detail = f"held: {held}" if held else "nobody holds a lock of opskit"
    return Observation({}, detail, problem=detail if stuck else "", state="held" if stuck else "ok")


def is_stuck(lock: HeldLock) -> bool:
    """Tell whether a lock is not merely held by a command of opskit that works. Pure but for the clock."""
    process = lock.process
    return process is None or not lock.is_ours or process.stopped or process.age_s() > _WORK_S


async def _clocks(target: ExaminationTarget, context: CheckContext) -> Observation:
    limit_s, read = target.config.watch.clock_skew_s, context.survey.get
    readings = await asyncio.gather(*(read(read_clock, member.name, member.url) for member in target.members))
    clocks = [clock for clock in readings if clock is not None]
    if not clocks:
        raise NotHere("nothing that answers tells its time")
    wrong = [f"{clock.name} {clock.ahead_s:+.0f} s" for clock in clocks if abs(clock.ahead_s) >= limit_s]
    problem = f"clocks differ from ours: {', '.join(wrong)}" if wrong else ""
    return Observation({}, f"{counted(len(clocks), 'clock')}: as ours to {limit_s:g} s", problem=problem)


def causes(evidence: Evidence) -> Iterator[Cause]:
    full_disks = list(_full_disks(evidence))
    yield from full_disks
    if evidence.state_problem:
        yield Cause(
            id="state-unusable",
            title="opskit cannot write into its state folder",
            evidence=(evidence.state_problem,),
            remedy=f"`ls -ld {evidence.config.state_dir}` shows whose it is; OPSKIT_STATE_DIR names another",
            claims=frozenset({"state folder"}),
            because=tuple(cause.key for cause in full_disks if "disk state" in cause.claims),
        )
    limit, memory = evidence.config.watch.memory_percent, evidence.memory
    if memory is not None and _is_short(memory, limit):
        free = gib(memory.available_bytes)
        sign = f"more than `watch.memory_percent` ({limit:g} %), {free} can still be had"
        title = f"memory is used up to {memory.used_percent:.0f} %"
        if memory.stalled_percent >= _STALLED_PERCENT:
            sign = f"by /proc/pressure/memory of the last 10 s; {memory.used_percent:.0f} % is used"
            title = _stall(memory)
        yield warning(
            id="memory-full",
            title=title,
            evidence=(sign,),
            remedy="`opskit models loaded` shows what is loaded; `ollama stop NAME` unloads a model, a "
            "smaller model or context needs less",
            claims=frozenset({"memory"}),
        )
    if evidence.orphaned_runners:
        yield _orphaned(evidence.orphaned_runners)
    for lock in filter(is_stuck, evidence.held_locks):
        yield _held(lock)
    yield from _wrong_clocks(evidence.clocks, evidence.config.watch.clock_skew_s)


def _wrong_clocks(clocks: Sequence[ClockReading], limit_s: float) -> Iterator[Cause]:
    """Yield the clocks that are off: where all others agree with one another it is that of this machine."""
    wrong = [clock for clock in clocks if abs(clock.ahead_s) >= limit_s]
    skews = [clock.ahead_s for clock in clocks]
    off = {clock.name: (clock.ahead_s, "ours", f"by the date that {clock.url} tells") for clock in wrong}
    if len(clocks) > 1 and len(wrong) == len(clocks) and max(skews) - min(skews) < limit_s:
        names = listing([clock.name for clock in clocks], separator=" and ")
        off = {"this machine": (-skews[0], f"those of {names}", "they agree with one another")}
    for name, (ahead_s, others, sign) in off.items():
        way = "ahead of" if ahead_s > 0 else "behind"
        yield warning(
            id="clock-skew",
            target=name,
            title=f"the clock of {name} is {abs(ahead_s):.0f} s {way} {others}",
            evidence=(f"{sign}; more than {limit_s:g} s (`watch.clock_skew_s`)",),
            remedy="set the clock by NTP: `sudo timedatectl set-ntp true` on Linux, `sudo sntp -sS "
            "time.apple.com` on a Mac; Docker Desktop's clock comes back when Docker is restarted",
            claims=frozenset({"clocks"}),
        )


def _held(lock: HeldLock) -> Cause:
    process = lock.process
    what = "recovery does not start" if lock.name == LOCK_NAME else "commands that need it wait or give up"
    signs = [f"{lock.name} is held by {lock.words}; until it lets go, {what}"]
    remedy = "end the process that holds it"
    if process is not None:
        signs.append(f"it was started {span(process.age_s())} ago")
        remedy = f"`kill {process.pid}` ends it"
        if process.halt:
            remedy = process.release
    return warning(
        id="lock-held",
        target=lock.name,
        title=f"the lock {lock.name} is held by {lock.words}",
        evidence=tuple(signs),
        remedy=f"{remedy}; the lock is free once it has ended",
        claims=frozenset({"locks"}),
    )


def _orphaned(orphans: Sequence[RunnerProcess]) -> Cause:
    """Nobody can ask them any more, and a restarted server starts new ones beside them (wire facts A8)."""
    held = sum(orphan.process.rss_bytes for orphan in orphans)
    return warning(
        id="runner-orphaned",
        title=f"{counted(len(orphans), 'process', 'processes')} of models outlived Ollama and "
        f"{'holds' if len(orphans) == 1 else 'hold'} {gib(held)}",
        evidence=tuple(
            f"{orphan.words} serves {Path(orphan.weights).name[:19]} for a server that has ended"
            for orphan in orphans
        ),
        remedy=remedy_of_orphans(orphans),
        claims=frozenset({"model processes"}),
    )


def _large_logs(evidence: Evidence) -> Iterator[tuple[str, int]]:
    """Yield containers with large logs and their bytes: Docker counts and prunes no log."""
    names = {examined.container.id: examined.name for examined in evidence.containers}
    for identifier, log_bytes in sorted(evidence.container_logs.items(), key=itemgetter(1), reverse=True):
        if log_bytes >= _LARGE_LOG_BYTES:
            yield names.get(identifier, identifier[:12]), log_bytes


def _free(disk: DiskFacts) -> str:
    inodes = disk.inodes_free_percent
    few = f", {inodes:.0f} % of its inodes" if inodes < _FEW else ""
    sizes = [f"{path} {gib(size_bytes)}" for path, size_bytes in disk.largest.items()]
    return f"{disk.path}: {gib(disk.free_bytes)} free{few}{'; largest: ' if sizes else ''}{', '.join(sizes)}"


def _full_disks(evidence: Evidence) -> Iterator[Cause]:
    """One cause for each disk, whatever lies on it."""
    by_device: dict[int, list[DiskFacts]] = {}
    for disk in evidence.disks:
        if _fullness(disk) >= evidence.config.watch.disk_percent:
            by_device.setdefault(disk.device, []).append(disk)
    for disks in by_device.values():
        first = min(disks, key=lambda disk: disk.path)
        logs = list(_large_logs(evidence)) if any(disk.use == "docker" for disk in disks) else []
        signs = (f"the log of container {name} holds {gib(log_bytes)}" for name, log_bytes in logs)
        empties = (_EMPTY_LOG.format(name=name) for name, _ in logs)
        uses = [words for use, words in _USES.items() if any(disk.use == use for disk in disks)]
        yield Cause(
            id="disk-full",
            target=first.path,
            title=f"the disk of {' and '.join(uses)} is {_fullness(first):.0f} % full",
            evidence=(*map(_free, disks), *signs),
            remedy="; ".join((*empties, *(_CLEAR[disk.use].format(path=disk.path) for disk in disks))),
            claims=frozenset(f"disk {disk.use}" for disk in disks),
            status=Status.FAIL if _fullness(first) >= _FULL_PERCENT else Status.WARN,
        )
