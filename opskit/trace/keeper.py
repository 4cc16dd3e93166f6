"""What becomes of a recording at its end: it is kept, and exported where a collector is named."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from opskit.errors import StateError
from opskit.trace.otlp import Collector, ExportError, export
from opskit.trace.span import Recording
from opskit.trace.store import TraceStore


class TraceKeeper:
    """Keeps traces without ever failing the request that they are of; `on_problem` gets a sentence."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        *,
        version: str,
        on_problem: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.store = TraceStore(folder)
        self._collector = Collector.of(environ)
        self._version = version
        self._on_problem = on_problem
        self._exports: set[asyncio.Task[None]] = set()

    def keep(self, recording: Recording, goal: str) -> None:
        try:
            self.store.save(recording, goal)
        except StateError as error:
            self._on_problem(f"the trace is not kept: {error.message}")
        if self._collector is not None:
            task = asyncio.get_running_loop().create_task(self._export(self._collector, recording))
            self._exports.add(task)
            task.add_done_callback(self._exports.discard)

    async def aclose(self) -> None:
        """Wait for what is being exported, within the collector's time limit."""
        await asyncio.gather(*self._exports)

    async def _export(self, collector: Collector, recording: Recording) -> None:
        try:
            await export(collector, recording.spans, version=self._version)
        except ExportError as error:
            self._on_problem(f"the trace is not exported: {error}")
