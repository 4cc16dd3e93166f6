"""`opskit watch` on a terminal and in a pipe: its events are drawn on one screen, or written as JSON."""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence

from opskit.cli import render
from opskit.cli.options import SharedOptions
from opskit.errors import Exit
from opskit.records import replace
from opskit.watch.watching import View, Watch, exit_of, open_parts

#: How often the screen is drawn at most, and at least while nothing happens (ages grow).
_REDRAW_S = 0.2
_IDLE_S = 1.0


async def run(
    specs: Sequence[str], only: Sequence[str], every_s: float, count: int | None, shared: SharedOptions
) -> Exit:
    """Watch until it ends, is quit or is interrupted; return the status of the last state."""
    live = not shared.json and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    async with shared.configured() as loaded:
        # A watch asks often: it waits for a page as long as for any metadata.
        patient = replace(loaded, probe=replace(loaded.probe, http_s=loaded.budgets.metadata_s))
        async with shared.application(patient) as app:
            watch = Watch(loaded, await open_parts(app.survey, specs, only, every_s))
            if live:
                await _draw(watch, count)
                _summarise(watch.view())
            else:
                async with contextlib.aclosing(watch.events(count)) as events:
                    async for event in events:
                        render.log_json(event.as_json())
                        render.flush()
        return exit_of(watch.view().targets)


async def _draw(watch: Watch, count: int | None) -> None:
    """One screen, drawn again when something changed, until `count` ticks are done or somebody quits."""
    from opskit.cli import watch_view

    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    quits = "q quits" if sys.stdin.isatty() else "Ctrl-C quits"
    signals: list[int] = []

    async def listen() -> None:
        async with contextlib.aclosing(watch.events(count)) as events:
            async for _ in events:
                changed.set()

    def end(number: int) -> None:
        signals.append(number)
        listening.cancel()

    listening = asyncio.create_task(listen())
    listening.add_done_callback(lambda _: changed.set())
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    try:
        with render.screen() as screen, _quit_by_key(listening.cancel):
            while not listening.done():
                changed.clear()
                screen.draw(watch_view.lines(watch.view(), *screen.size, quits))
                await asyncio.sleep(_REDRAW_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE_S - _REDRAW_S):
                        await changed.wait()
    finally:
        listening.cancel()
        (problem,) = await asyncio.gather(listening, return_exceptions=True)
    if isinstance(problem, Exception):
        raise problem
    for ended_by in signals:
        # The terminal is whole again: end as that signal ends any other command.
        loop.remove_signal_handler(ended_by)
        os.kill(os.getpid(), ended_by)


@contextlib.contextmanager
def _quit_by_key(on_quit: Callable[[], object]) -> Iterator[None]:
    """Listen for q and Escape; the terminal is given back as it was. Nothing where standard input is none.

    Ctrl-C stays an interrupt. Needs a running loop.
    """
    if not sys.stdin.isatty():
        yield
        return
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)

    def read() -> None:
        keys = b""
        with contextlib.suppress(OSError):
            keys = os.read(descriptor, 64)
        if not keys:
            loop.remove_reader(descriptor)
        elif set(keys) & set(b"qQ\x1b"):
            on_quit()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _summarise(view: View) -> None:
    """Say in one line what was watched, when the screen is gone."""
    parts = [f"watched {view.number} looks", *(f"{each.name} {each.finding.state}" for each in view.targets)]
    if view.requests is not None:
        parts.append(f"{view.requests.done} requests done, {view.requests.failed} failed")
    render.note("; ".join([*parts, f"{view.logs.errors} errors"]))
