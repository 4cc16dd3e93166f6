"""Twenty containers that write 500 lines a second each, followed by a process of its own."""

import asyncio
import json
import sys
import time
from contextlib import aclosing

from tests.bench.measure import Figure

CONTAINERS = 20
LINES_A_SECOND = 500
SECONDS = 10
LABEL = "opskit.bench"
#: Lines a burst; between them the writer sleeps, for less often it would only measure the start of `usleep`.
_BURST = 25
#: What a burst and the start of `usleep` take beside, on two busy cores.
_OVERHEAD_US = 22_000
_WRITER = f"""
i=0
while [ $i -lt {LINES_A_SECOND * SECONDS} ]; do
  b=0
  while [ $b -lt {_BURST} ]; do
    b=$((b + 1)); i=$((i + 1))
    echo "$i [LLM_CALL] model=phi3.5:3.8b node=ollama correlation_id=8f14e45f-ceea-467f-a5b4-8a1c0f1e3d2b"
  done
  usleep {_BURST * 1_000_000 // LINES_A_SECOND - _OVERHEAD_US}
done
echo over
"""


async def figures() -> list[Figure]:
    from tests.parts.docker import engine

    with engine() as box:
        made = [
            box.run(_WRITER, labels={LABEL: box.mark}, tty=bool(number % 2), start=False)
            for number in range(CONTAINERS)
        ]
        follower = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            box.host,
            f"label:{LABEL}={box.mark}",
            stdout=asyncio.subprocess.PIPE,
        )
        assert follower.stdout is not None
        await follower.stdout.readline()
        for container in made:
            await asyncio.to_thread(container.start)
        told = json.loads(await follower.stdout.readline())
        await follower.wait()
    rate, late_ms = told["lines"] / told["wall_s"], told["latency_s"] * 1000
    note = f"{rate:,.0f} lines/s came, half of them within {late_ms:.0f} ms"
    return [
        Figure(f"following {CONTAINERS} containers, CPU of opskit", told["cores"], "cores", "<= 1", note),
        Figure("lines lost or doubled meanwhile", told["wrong"], "lines", "0"),
        Figure("following, peak memory", told["peak_mib"], "MiB", "<= 150"),
    ]


async def _follow(host: str, spec: str) -> None:
    """Follow until every container is over; prints when it is ready, then what it took."""
    import resource

    from opskit.logs.container import containers
    from opskit.logs.record import LogEntry
    from opskit.logs.source import Window
    from opskit.system.docker import Docker

    numbers: dict[str, int] = {}
    wrong = lines = over = 0
    late: list[float] = []
    (source,) = await containers(spec, follow=True, docker=Docker({"DOCKER_HOST": host}))
    began = cpu = 0.0
    async with aclosing(source.follow(Window())) as batches:
        print("ready", flush=True)
        async for batch in batches:
            now = time.time()
            if not began:
                began, cpu = time.monotonic(), time.process_time()
            for item in batch:
                if not isinstance(item, LogEntry):
                    continue
                if item.raw == b"over":
                    over += 1
                    continue
                lines += 1
                number = int(item.raw.partition(b" ")[0])
                wrong += number != numbers.get(item.source, 0) + 1
                numbers[item.source] = number
                if lines % 50 == 0 and item.at is not None:
                    late.append(now - item.at)
            if over == CONTAINERS:
                break
    wall_s = time.monotonic() - began
    print(
        json.dumps(
            {
                "cores": (time.process_time() - cpu) / wall_s,
                "wall_s": wall_s,
                "lines": lines,
                "wrong": wrong + CONTAINERS * LINES_A_SECOND * SECONDS - lines,
                "latency_s": sorted(late)[len(late) // 2],
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(_follow(*sys.argv[1:]))
