"""The sources that people name, and a glob whose files are followed as they appear.

`-` is standard input, `self` our own log, `journal:UNIT` the journal; `label:k=v` and
`compose:PROJECT/SERVICE` are containers; a path, a glob or a name with a slash is a file; any other name is a
container, unless a file of that name is there.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from opskit.errors import OpskitError
from opskit.logs.file_reader import FileReader
from opskit.logs.files import POLL_S, FileSource, distinct, files, is_glob, rotated
from opskit.logs.source import Batch, JournalSource, LogSource, Note, PipeSource, Unreadable, Window

#: How often new files are looked for.
SEARCH_S = 1.0


class GlobSource:
    """The files that match a pattern. Its entries bear the names of their files."""

    def __init__(self, pattern: str) -> None:
        self.name = pattern
        #: Of the files that match so far.
        self._readers: dict[Path, FileReader] = {}
        #: Files that are known, by whatever name: one that was rotated away is no new one.
        self._known: set[tuple[int, int]] = set()

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """The lines of one file after the other. Raises OpskitError LOG_001 when no file matches."""
        for source in files(self.name):
            try:
                async for batch in source.read(window):
                    yield batch
            except OpskitError as error:
                yield [Unreadable.of(source.name, error)]

    async def follow(self, window: Window) -> AsyncGenerator[Batch, None]:
        """The last lines of each file, then what is appended; files that begin to match from their beginning.

        Raises OpskitError LOG_001 when no file matches at the start.
        """
        tail = 10 if window.tail is None and window.since is None else window.tail
        try:
            yield [item for source in files(self.name) for item in self._admit(source, tail, window)]
            clock = asyncio.get_running_loop().time
            searched = clock()
            while True:
                batch = self._more()
                if clock() - searched >= SEARCH_S:
                    batch += self._newcomers(window)
                    searched = clock()
                if batch:
                    yield batch
                else:
                    await asyncio.sleep(POLL_S)
        finally:
            for reader in self._readers.values():
                reader.close()

    def _more(self) -> Batch:
        """What has come; a file that cannot be read any more is let go of."""
        batch: Batch = []
        for path, reader in list(self._readers.items()):
            try:
                batch += reader.more()
            except OpskitError as error:
                batch.append(Unreadable.of(reader.name, error))
                self._readers.pop(path).close()
                continue
            if reader.identity is not None:
                self._known.add(reader.identity)
        return batch

    def _newcomers(self, window: Window) -> Batch:
        """The beginnings of the files that match now and did not before."""
        try:
            sources = files(self.name)
        except OpskitError:
            return []
        batch: Batch = []
        for source in sources:
            if source.path in self._readers or source.identity in self._known or not _is_plain(source):
                continue
            batch.append(Note(source.name, None, "a new file matches; reading it from its beginning"))
            batch += self._admit(source, None, window)
        return batch

    def _admit(self, source: FileSource, tail: int | None, window: Window) -> Batch:
        if source.identity is not None and source.identity in self._known:
            return []
        reader = FileReader(source.path, source.name, window.behind_bytes)
        try:
            batch = reader.begin(tail)
        except OpskitError as error:
            reader.close()
            batch = [Unreadable.of(source.name, error)]
        else:
            self._readers[source.path] = reader
        if source.identity is not None:
            self._known.add(source.identity)
        return batch


def _is_plain(source: FileSource) -> bool:
    """Whether lines can be added to it; what rotation has packed, or nobody may read, is no news."""
    try:
        return source.is_plain
    except OpskitError:
        return False


#: SPEC A7: the agent whose log people watch.
DEFAULT_CONTAINER = "victoria-agent"
_CONTAINERS = ("label:", "compose:", "container:")


class UnreadableSource:
    """What was named as a source and is none: reading and following it raise why."""

    def __init__(self, name: str, error: OpskitError) -> None:
        self.name = name
        self._error = error

    def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        del window
        raise self._error

    follow = read


async def resolve(
    specs: Sequence[str], own_log: Path, *, follow: bool = False
) -> tuple[list[LogSource], list[str]]:
    """The sources of `specs`, and notes on what was left out; without any spec, the default ones.

    The defaults are our own log and the container of Victoria, each if it is there. Of several that are named
    one that is not there is an UnreadableSource. Raises OpskitError when it is the only one.
    """
    if not specs:
        return await _defaults(own_log, follow=follow)
    sources: list[LogSource] = []
    for spec in specs:
        try:
            sources += await _sources_of(spec, own_log, follow=follow)
        except OpskitError as error:
            if len(specs) == 1:
                raise
            sources.append(UnreadableSource(spec, error))
    return distinct(sources), []


async def _sources_of(spec: str, own_log: Path, *, follow: bool) -> list[LogSource]:
    if spec == "-":
        return [PipeSource()]
    if spec == "self":
        return _own(own_log, follow=follow)
    if spec.startswith("journal:"):
        return [JournalSource(spec.removeprefix("journal:") or None)]
    from opskit.logs.container import containers

    if spec.startswith(_CONTAINERS):
        return await containers(spec.removeprefix("container:"), follow=follow)
    if Path(spec).is_fifo():
        return [PipeSource(Path(spec))]
    if "/" in spec or Path(spec).exists():
        return _files(spec, follow=follow)
    try:
        return await containers(spec, follow=follow)
    except OpskitError as error:
        if Path(spec).suffix or any(char in spec for char in "*?["):
            return _files(spec, follow=follow)
        raise OpskitError(
            error.code, f"{error.message}; nor is there a file {spec!r}", remedy=error.remedy
        ) from error


def _files(spec: str, *, follow: bool) -> list[LogSource]:
    matching = files(spec)
    return [GlobSource(spec)] if follow and is_glob(spec) else list(matching)


def _own(own_log: Path, *, follow: bool) -> list[LogSource]:
    if follow:
        return [FileSource(own_log, "opskit")]
    generations: list[LogSource] = [FileSource(path, "opskit") for path in rotated(own_log) if path.exists()]
    if not generations:
        raise OpskitError("LOG_001", f"there is no {own_log} yet", remedy="`opskit run` writes it")
    return generations


async def _defaults(own_log: Path, *, follow: bool) -> tuple[list[LogSource], list[str]]:
    sources: list[LogSource] = []
    notes: list[str] = []
    for spec in ("self", DEFAULT_CONTAINER):
        try:
            sources += await _sources_of(spec, own_log, follow=follow)
        except OpskitError as error:
            notes.append(error.message)
    if not sources:
        raise OpskitError(
            "LOG_001",
            f"there is nothing to read: {'; '.join(notes)}",
            remedy="name a source: a file, a container, `compose:PROJECT`, `journal:UNIT` or `-`",
        )
    return sources, notes
