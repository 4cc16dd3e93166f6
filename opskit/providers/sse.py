"""Server-sent events out of lines (WHATWG HTML, section 9.2), as far as model servers use them."""

import contextlib
from collections.abc import AsyncGenerator

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
            line = raw.decode("utf-8", "replace")
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
