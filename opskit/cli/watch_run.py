"""What `opskit watch` does behind its options: its parts are opened, then drawn or written as JSON."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.app import App
from opskit.cli import context, keys, render, watch_view
from opskit.config.schema import Config
from opskit.errors import Exit, UsageError
from opskit.facts.survey import Survey
from opskit.logs.files import FileSource
from opskit.logs.resolve import resolve
from opskit.logs.source import LogSource
from opskit.system.docker import Docker
from opskit.system.docker_records import ListedContainer
from opskit.system.logfile import LOG_NAME
from opskit.text import duration_s
from opskit.watch.targets import AgentTarget, NodeTarget, Target
from opskit.watch.watching import AREAS, Watch, WatchParts

if TYPE_CHECKING:
    from opskit.watch.view import View

LEAST_EVERY_S = 0.5
MOST_EVERY_S = 86_400.0
#: How often the screen is drawn at most, and at least while nothing happens (ages grow).
_REDRAW_S = 0.2
_IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What was asked for, as far as it can be judged without a configuration."""

    specs: tuple[str, ...]
    every_s: float
    count: int | None
    only: tuple[str, ...]


def asked(specs: Sequence[str], every: str, count: int | None, only: Sequence[str]) -> WatchOptions:
    """Raises UsageError for an interval that cannot be used."""
    word = every.strip()
    seconds = duration_s(f"{word}s" if word.replace(".", "", 1).isdecimal() else word)
    if seconds is None:
        raise UsageError(f"--every {every!r} is no duration", remedy="write it like 500ms, 5s or 1m30s")
    if not LEAST_EVERY_S <= seconds <= MOST_EVERY_S:
        bound = f"at least {LEAST_EVERY_S:g} s" if seconds < LEAST_EVERY_S else "at most a day"
        raise UsageError(f"--every {every}: it must be {bound}", remedy="write it like 500ms, 5s or 1m30s")
    return WatchOptions(tuple(specs), seconds, count, tuple(only))


async def run(asked: WatchOptions, config: str | None, *, sandbox: bool, json: bool) -> Exit:
    """Watch until it ends, is quit or is interrupted; the status of the last look."""
    live = not json and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    async with context.opened(config, sandbox=sandbox) as root:
        # A watch asks often: it waits for a page as long as for any metadata.
        probe = replace(root.config.probe, http_s=root.config.budgets.metadata_s)
        survey = Survey(
            replace(root.config, probe=probe), os.environ, state_folder=root.folder, cwd=Path.cwd()
        )
        watch = Watch(root.config, await _wish(asked, root, survey))
        if live:
            await _draw(watch, asked.count)
            _summarise(watch.view())
        else:
            async with contextlib.aclosing(watch.events(asked.count)) as events:
                async for event in events:
                    render.log_json(event.as_json())
                    render.log_flush()
        return watch.view().exit


async def _wish(asked: WatchOptions, root: App, survey: Survey) -> WatchParts:
    """The parts of a watch. Raises OpskitError for a source that is not there."""
    config = root.config
    areas, named = _areas(asked.only, config)

    def chosen(area: str, name: str) -> bool:
        return area in areas and (name in named or area in asked.only or not named)

    targets: list[Target] = [
        NodeTarget(node, config, required=node.config.required or node.name in named)
        for node in root.nodes
        if chosen("nodes", node.name)
    ]
    targets += [
        AgentTarget(agent, survey, required=agent.required or agent.name in named)
        for agent in config.agents
        if chosen("agents", agent.name)
    ]
    own, sources, names = await _sources(asked, areas, config)
    docker = Docker() if "containers" in areas or names else None

    def follow(name: str) -> LogSource:
        from opskit.logs.container import ContainerSource

        return ContainerSource(docker or Docker(), ListedContainer(name, name, "", "running"))

    return WatchParts(
        areas,
        asked.every_s,
        targets,
        sources,
        own,
        docker,
        names or _stack_names(config),
        follow if names else None,
        tuple(dict.fromkeys(("/", _existing(config.state_dir)))),
    )


def _areas(only: Sequence[str], config: Config) -> tuple[frozenset[str], frozenset[str]]:
    """The areas that are watched, and the targets that were named. Raises UsageError for any other word."""
    if not only:
        return frozenset(AREAS), frozenset()
    nodes = {node.name for node in config.nodes}
    agents = {agent.name for agent in config.agents}
    areas, named = set(), set()
    for word in only:
        if word in AREAS:
            areas.add(word)
        elif word in nodes or word in agents:
            named.add(word)
            areas.add("nodes" if word in nodes else "agents")
        else:
            known = ", ".join([*AREAS, *sorted(nodes | agents)])
            raise UsageError(
                f"--only {word!r} names nothing that can be watched", remedy=f"use one of: {known}"
            )
    return frozenset(areas), frozenset(named)


async def _sources(
    asked: WatchOptions, areas: frozenset[str], config: Config
) -> tuple[LogSource | None, list[LogSource], tuple[str, ...]]:
    """Our own log, the other sources, and the containers to follow once they are there."""
    own = Path(config.state_dir) / LOG_NAME
    if asked.specs:
        found, _ = await resolve(asked.specs, own, follow=True)
        for source in found:
            if isinstance(source, FileSource):
                # Raises for one that cannot be read: it was named.
                _ = source.is_plain
        return None, found, ()
    if not areas & {"requests", "errors"}:
        return None, [], ()
    return FileSource(own, "opskit"), [], _stack_names(config)


def _stack_names(config: Config) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in config.stack.containers.values() for name in names))


def _existing(folder: str) -> str:
    """The folder, or the nearest one above it that is there."""
    path = Path(folder).absolute()
    return str(next((one for one in (path, *path.parents) if one.exists()), "/"))


async def _draw(watch: Watch, count: int | None) -> None:
    """One screen, drawn anew when something changed, until `count` looks are done or somebody quits."""
    loop = asyncio.get_running_loop()
    news, quit_ = asyncio.Event(), asyncio.Event()
    signals: list[int] = []
    quits = "q quits" if sys.stdin.isatty() else "Ctrl-C quits"

    async def listen() -> None:
        async with contextlib.aclosing(watch.events(count)) as events:
            async for _ in events:
                news.set()

    def key(char: str) -> None:
        if char in ("q", "Q", "\x1b"):
            quit_.set()
        news.set()

    def end(number: int) -> None:
        signals.append(number)
        quit_.set()
        news.set()

    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGWINCH, news.set)
    listening = asyncio.create_task(listen())
    listening.add_done_callback(lambda _: news.set())
    try:
        with render.screen() as screen, keys.pressed(key):
            while not quit_.is_set() and not listening.done():
                news.clear()
                screen.draw(watch_view.lines(watch.view(), *screen.size, quits))
                await asyncio.sleep(_REDRAW_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE_S - _REDRAW_S):
                        await news.wait()
    finally:
        if not listening.done():
            listening.cancel()
        results = await asyncio.gather(listening, return_exceptions=True)
    for problem in results:
        if isinstance(problem, Exception):
            raise problem
    for held_up in signals:
        # The terminal is whole again: end as that signal ends any other command.
        loop.remove_signal_handler(held_up)
        os.kill(os.getpid(), held_up)


def _summarise(view: "View") -> None:
    """What stays on the terminal when the screen is gone."""
    parts = [f"watched {view.number} looks"]
    parts += [f"{sight.name} {sight.state}" for sight in view.targets]
    if view.requests is not None:
        parts.append(f"{view.requests.done} requests done, {view.requests.failed} failed")
    parts.append(f"{view.errors} errors")
    render.note("; ".join(parts))
