"""Reading a stream so that a caller who stops listening does not cut it at a harmful moment.

A client of Ollama that goes away between the last token and the `done` line can leave the server blocked on
that request for ever, and with it every later request for the model (wire facts A8). So the items of a stream
are read by a task of their own: a deadline, Ctrl-C or a caller who has heard enough ends the listening, and
`read_on` then reads what is about to come before the connection is closed.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Self, TypeVar

from opskit.providers.base import CallCause, CallError
from opskit.records import Record

#: An event, or a reply that is no stream, of more than this is refused.
_MOST_BYTES = 8 * 1024 * 1024


class Data(Record):
    """The data of one event; several data lines are joined by a line feed."""

    text: str
    event: str = "message"


class Comment(Record):
    """A line that starts with a colon: a sign of life."""

    text: str


class Other(Record):
    """A line that is not SSE; the caller decides what it means."""

    text: str


Item = Data | Comment | Other


async def events(rows: AsyncGenerator[bytes, None]) -> AsyncGenerator[Item, None]:
    """Yield the events of a stream of lines, which it closes.

    An event is dispatched at its blank line; one that the end of the stream leaves open still counts, because
    servers that are cut or that forget the last blank line are exactly the servers that must be read. Raises
    CallError(PAYLOAD) for more than 8 MiB of data in one event, or of lines that are no event.
    """
    data: list[str] = []
    event = "message"
    held = other = 0
    async with contextlib.aclosing(rows):
        async for raw in rows:
            line = raw.decode("utf-8-sig", "replace")
            if not line:
                if data:
                    yield Data("\n".join(data), event)
                data, event, held = [], "message", 0
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not name and line.startswith(":"):
                yield Comment(value)
            elif name == "data":
                data.append(value)
                held += len(raw) + 1
            elif name == "event":
                event = value
            elif name not in ("id", "retry"):
                other += len(raw) + 1
                yield Other(line)
            if max(held, other) > _MOST_BYTES:
                raise CallError(
                    CallCause.PAYLOAD,
                    f"a reply of more than {_MOST_BYTES} bytes without an end",
                    phase="stream",
                )
    if data:
        yield Data("\n".join(data), event)


T = TypeVar("T")

#: This close to its limit of tokens a stream is read to its end: the end follows the last token at once.
LAST_TOKENS = 8
#: Near its end a stream is read on while items keep coming within `_QUIET_S`, for `_END_S` in all.
_QUIET_S = 1.0
_END_S = 5.0
#: In the middle of an answer one more item shows that its end was not under way.
_MOMENT_S = 0.25
#: The end of a body follows the end of an answer at once; some servers never send it.
_CLOSING_S = 0.1
_READ_AHEAD = 64


class StreamReader(Generic[T]):
    """The items of a stream, read ahead by a task; use it as an async context manager.

    `is_end` recognises the item with which the server says that it has finished.
    """

    def __init__(self, items: AsyncGenerator[T, None], is_end: Callable[[T], bool]) -> None:
        self._items = items
        self._is_end = is_end
        # None stands behind the last item.
        self._queue: asyncio.Queue[T | None] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._ended = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read(), name="read a stream")
        self._task.add_done_callback(lambda _: self._queue.put_nowait(None))
        return self

    async def __aexit__(self, *_: object) -> None:
        # httpcore loses a connection whose closing is cancelled: after the end it is left to close by itself.
        if self._ended:
            await asyncio.wait({self._task}, timeout=_CLOSING_S)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Return the next item. Raises what reading it raised."""
        item = await self._queue.get()
        self._taken.set()
        if item is None:
            self._queue.put_nowait(None)
            self._task.result()
            raise StopAsyncIteration
        self._ended = self._ended or self._is_end(item)
        return item

    async def read_on(self, *, tokens: int, limit: int | None) -> bool:
        """Read what is about to come before the stream is left; whether its end has been seen.

        `tokens` is how many have come, `limit` how many were asked for (None: the server's own limit).
        """
        near = limit is not None and limit - tokens <= LAST_TOKENS
        clock = asyncio.get_running_loop().time
        until = clock() + (_END_S if near else _MOMENT_S)
        with contextlib.suppress(CallError, TimeoutError, StopAsyncIteration):
            while not self._ended:
                async with asyncio.timeout(min(until - clock(), _QUIET_S)):
                    await anext(self)
                if not near:
                    break
        return self._ended

    async def _read(self) -> None:
        async with contextlib.aclosing(self._items) as items:
            async for item in items:
                self._queue.put_nowait(item)
                while self._queue.qsize() >= _READ_AHEAD:
                    self._taken.clear()
                    await self._taken.wait()
