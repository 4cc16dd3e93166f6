"""Looks at this machine: memory, disks, the name localhost, the clocks of others."""

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import cast

from opskit.checks.kinds.http import HttpParams, fetch
from opskit.checks.spec import Check, CheckContext, NotHere, Observation
from opskit.doctor.evidence import ClockFacts, DiskFacts
from opskit.doctor.looks.board import FactBoard, check, engine, nearest
from opskit.providers.base import CallError

_CLOCK_S = 2.0
#: An HTTP date has whole seconds: on average half a second has passed since.
_HALF_S = 0.5


def memory(board: FactBoard, limit: float) -> Check:
    def judge(seen: Observation) -> Observation:
        board.memory = seen.values
        full = float(seen.values["used_percent"]) >= limit
        return Observation(seen.values, seen.detail, problem=seen.detail if full else "", state="ok")

    return engine("memory", {}, judge, name="memory", area="machine", target="this machine")


def disk(board: FactBoard, what: str, path: Path, limit: float, *, requires: tuple[str, ...] = ()) -> Check:
    """`what` is the use of the path: "state", "models", "docker"; the last is known once Docker told it."""
    from opskit.checks.kinds import KINDS

    kind = KINDS["disk"]

    async def look(scene: CheckContext) -> Observation:
        asked = Path(board.docker.root or "") if what == "docker" else path
        if what == "docker" and (board.docker.root is None or not asked.exists()):
            raise NotHere("Docker keeps its data on another machine")
        place = nearest(asked)
        seen = cast("Observation", await kind.observe(kind.params(path=str(place)), scene))
        if seen.problem:
            return seen
        used = float(seen.values["used_percent"])
        device = (await asyncio.to_thread(place.stat)).st_dev
        board.disks.append(DiskFacts(what, str(place), used, int(seen.values["free_bytes"]), device))
        return Observation(seen.values, seen.detail, problem=seen.detail if used >= limit else "")

    return check(f"disk {what}", look, area="machine", target=str(path) if what != "docker" else "docker",
                 requires=requires, timeout_s=kind.timeout_s)  # fmt: skip


def localhost(board: FactBoard) -> Check:
    def judge(seen: Observation) -> Observation:
        board.localhost = tuple(seen.values.get("addresses") or ())
        astray = not _is_here(board.localhost)
        problem = f"localhost leads to {', '.join(board.localhost) or 'nothing'}" if astray else ""
        return Observation(seen.values, seen.detail, problem=problem)

    return engine("dns", {"name": "localhost"}, judge, name="localhost", area="network", target="localhost")


def _is_here(addresses: tuple[str, ...]) -> bool:
    return bool(addresses) and all(one == "::1" or one.startswith("127.") for one in addresses)


def clocks(board: FactBoard, places: Mapping[str, str], limit_s: float) -> Check:
    """`places` are addresses that answer HTTP, by what they are. What tells no time is passed over."""

    async def look(scene: CheckContext) -> Observation:
        await asyncio.gather(*(_clock(board, scene, what, url) for what, url in places.items()))
        if not board.clocks:
            raise NotHere("nothing that answers tells its time")
        wrong = [one for one in board.clocks if abs(one.skew_s) >= limit_s]
        told = ", ".join(f"{one.what} {one.skew_s:+.0f} s" for one in wrong)
        detail = f"{len(board.clocks)} clocks agree with ours to {limit_s:g} s"
        return Observation({}, detail, problem=f"clocks differ from ours: {told}" if wrong else "")

    return check(
        "clocks",
        look,
        area="machine",
        target="clocks",
        timeout_s=_CLOCK_S + 3,
        imports=("httpx", "opskit.providers.transport"),
    )


async def _clock(board: FactBoard, scene: CheckContext, what: str, url: str) -> None:
    began = time.time()
    try:
        async with asyncio.timeout(_CLOCK_S):
            reply = await fetch(scene, HttpParams(url, max_bytes=65536))
    except (CallError, TimeoutError):
        return
    try:
        theirs = parsedate_to_datetime(reply.headers.get("date", ""))
    except (ValueError, TypeError):
        return
    ours = (began + time.time()) / 2
    board.clocks.append(ClockFacts(what, url, _posix(theirs) + _HALF_S - ours))


def _posix(moment: datetime) -> float:
    return moment.timestamp()
