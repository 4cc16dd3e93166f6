"""Server-sent events out of lines (WHATWG HTML, section 9.2), as far as model servers use them."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Data:
    """The data of one event; several data lines are joined by a line feed."""

    text: str
    event: str = "message"


@dataclass(frozen=True, slots=True)
class Comment:
    """A line that starts with a colon: a sign of life."""

    text: str


@dataclass(frozen=True, slots=True)
class Other:
    """A line that is not SSE; the caller decides what it means."""

    text: str


async def events(source: AsyncIterator[bytes]) -> AsyncGenerator[Data | Comment | Other, None]:
    """An event is dispatched at its blank line; one that the end of the stream leaves open still counts,

    because servers that are cut or that forget the last blank line are exactly those one wants to read.
    """
    data: list[str] = []
    event = "message"
    async for raw in source:
        line = raw.decode("utf-8", "replace")
        if not line:
            if data:
                yield Data("\n".join(data), event)
            data, event = [], "message"
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name and line.startswith(":"):
            yield Comment(value)
        elif name == "data":
            data.append(value)
        elif name == "event":
            event = value
        elif name not in ("id", "retry"):
            yield Other(line)
    if data:
        yield Data("\n".join(data), event)
