"""Messages as Docker sends them."""

import struct
from collections.abc import Iterable
from datetime import UTC, datetime

from opskit.logs.frames import StreamMessage


def stamp(at_ns: int) -> bytes:
    """A time as Docker writes it: always nine digits."""
    second, rest = divmod(at_ns, 10**9)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z ".encode()


def _bare(message: StreamMessage) -> bytes:
    return stamp(message.at_ns) + message.text + (b"\n" if message.ends else b"")


def framed(messages: Iterable[StreamMessage]) -> bytes:
    """As from a container without a terminal."""
    return b"".join(
        struct.pack(">BxxxL", message.stream, len(_bare(message))) + _bare(message) for message in messages
    )


def on_terminal(messages: Iterable[StreamMessage]) -> bytes:
    """As from a container with a terminal."""
    return b"".join(map(_bare, messages))
