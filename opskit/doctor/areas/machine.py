"""The machine: room, memory, names, clocks."""

from collections.abc import Iterator

from opskit.doctor.cause import Cause
from opskit.doctor.evidence import DiskFacts, Evidence
from opskit.llm.fit import gib
from opskit.result import Status

_CLEAR = {
    "state": "`du -sh {path}/*` shows what is large",
    "docker": "`docker system df` shows what can go; `docker system prune` removes what nothing uses",
    "models": "`ollama list` shows sizes; `ollama rm NAME` removes a model",
}
_USES = {"state": "the state folder", "docker": "Docker", "models": "models"}


def causes(evidence: Evidence) -> Iterator[Cause]:
    yield from _disks(evidence)
    limit = evidence.config.watch.memory_percent
    used = evidence.memory_used_percent
    if used is not None and used >= limit:
        free = evidence.memory_available_bytes
        room = f", {gib(free)} can still be had" if free is not None else ""
        yield Cause(
            "memory-full",
            "",
            f"memory is used up to {used:.0f} %",
            (f"more than `watch.memory_percent` ({limit:g} %){room}",),
            "`opskit models loaded` shows what is loaded; `ollama stop NAME` unloads a model",
            frozenset({"memory"}),
            status=Status.WARN,
            code="MODEL_003",
        )
    found = evidence.localhost
    if found is not None and evidence.failed("localhost"):
        told = ", ".join(found) or "nothing"
        yield Cause(
            "localhost-unresolved",
            "",
            "the name localhost does not lead to this machine alone",
            (f"it leads to {told}",),
            "put `127.0.0.1 localhost` and `::1 localhost` into /etc/hosts, and nothing else for that name",
            frozenset({"localhost"}),
            code="COMM_002",
        )
    yield from _clocks(evidence)


def _disks(evidence: Evidence) -> Iterator[Cause]:
    """One cause for each disk, whatever lies on it."""
    limit = evidence.config.watch.disk_percent
    full: dict[int, list[DiskFacts]] = {}
    for one in evidence.disks:
        if one.used_percent >= limit:
            full.setdefault(one.device, []).append(one)
    for disks in full.values():
        first = min(disks, key=lambda one: one.path)
        uses = [_USES[name] for name in _USES if any(one.what == name for one in disks)]
        yield Cause(
            "disk-full",
            first.path,
            f"the disk of {' and '.join(uses)} is {first.used_percent:.0f} % full",
            tuple(f"{one.path}: {gib(one.free_bytes)} free" for one in disks),
            "; ".join(_CLEAR[one.what].format(path=one.path) for one in disks),
            frozenset(f"disk {one.what}" for one in disks),
            status=Status.FAIL if first.used_percent >= 98 else Status.WARN,
            code="BACKUP_003",
        )


def _clocks(evidence: Evidence) -> Iterator[Cause]:
    limit = evidence.config.watch.clock_skew_s
    for one in evidence.clocks:
        if abs(one.skew_s) < limit:
            continue
        way = "ahead of" if one.skew_s > 0 else "behind"
        yield Cause(
            "clock-skew",
            one.what,
            f"the clock of {one.what} is {abs(one.skew_s):.0f} s {way} ours",
            (f"by the date that {one.where} tells; more than {limit:g} s (`watch.clock_skew_s`)",),
            "set the clocks by NTP: `timedatectl set-ntp true` on Linux, `sudo sntp -sS time.apple.com` on a "
            "Mac; Docker Desktop's clock comes back when Docker is restarted",
            frozenset({"clocks"}),
            status=Status.WARN,
        )
