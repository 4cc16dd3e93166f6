"""Running programs: what is cut off leaves nothing behind, whenever it is cut off."""

import asyncio
from pathlib import Path

from opskit.system.program import run
from tests.parts.loopback import until


async def test_a_start_that_is_cut_off_ends_with_all_that_it_started(tmp_path: Path):
    """Cancelled before its pipes are connected, a program whose child keeps them open is over at once."""
    for turns in range(12):
        said = tmp_path / f"child-{turns}"
        task = asyncio.create_task(run(("/bin/sh", "-c", f"sleep 1000 & echo $! > {said}; wait")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=30)
        assert done, f"cancelled after {turns} turns of the loop, it did not end"
        assert task.cancelled()
        if said.exists() and said.read_text().strip():
            child = int(said.read_text())
            await until(lambda child=child: _ended(child))


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
