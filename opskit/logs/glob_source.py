"""The files of a glob, followed: files that are there and files that begin to match later."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from opskit.errors import OpskitError
from opskit.logs.files import POLL_S, FileReader, FileSource, files
from opskit.logs.source import Batch, Note, Unreadable, Window

#: How often new files are looked for.
SEARCH_S = 1.0


class GlobSource:
    """The files that match a pattern. Its entries bear the names of their files."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        #: Of the files that match so far.
        self._readers: dict[Path, FileReader] = {}
        #: Files that are known, by whatever name: one that was rotated away is no new one.
        self._known: set[tuple[int, int]] = set()

    @property
    def name(self) -> str:
        return self._pattern

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """The lines of one file after the other. Raises OpskitError LOG_001 when no file matches."""
        for source in files(self._pattern):
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
            yield [item for source in files(self._pattern) for item in self._admit(source, tail, window)]
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
            sources = files(self._pattern)
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
