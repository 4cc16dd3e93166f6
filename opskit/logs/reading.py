"""How far a container's log has been read, and what to ask Docker for next."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from opskit.errors import OpskitError
from opskit.logs.frames import Bare, Framed, LineJoiner, StreamMessage
from opskit.logs.resume import Position
from opskit.system.docker import Docker
from opskit.system.docker_records import LoggedContainer, LogQuery

#: After a break the end of the log is asked for first: `since` alone makes Docker read all of it.
_TAIL_MESSAGES = 2000
_ANSWER_S = 5.0


@dataclass(slots=True)
class ContainerReading:
    """The reading of one container. `query` is what to ask first, None once something has come."""

    query: LogQuery | None
    position: Position
    lines: LineJoiner

    @classmethod
    def of(cls, container: LoggedContainer, query: LogQuery | None, position: Position) -> Self:
        return cls(query, position, LineJoiner(tty=container.tty))

    def queries(self) -> Iterator[LogQuery]:
        """What to ask, in turn, until one reaches back far enough."""
        if self.query is not None:
            yield self.query
            return
        since_ns = self.position.since_ns
        if since_ns is not None:
            yield LogQuery(tail=_TAIL_MESSAGES)
        yield LogQuery(since_ns=since_ns)

    def reaches(self, query: LogQuery, oldest_ns: int) -> bool:
        """Whether an answer whose first message is of `oldest_ns` leaves no gap behind what has been read."""
        since_ns = self.position.since_ns
        return self.query is not None or query.tail is None or since_ns is None or oldest_ns <= since_ns


def frames_of(container: LoggedContainer) -> Bare | Framed:
    """What tells the messages of this container apart."""
    return Bare() if container.tty else Framed()


async def newest_message(docker: Docker, container: LoggedContainer) -> StreamMessage | None:
    """The last message of a container's log, which Docker finds at once however long the log is.

    Raises OpskitError(DOCKER_001) when Docker does not answer.
    """
    frames = frames_of(container)
    messages: list[StreamMessage] = []
    async with docker.logs(container.id, LogQuery(tail=1)) as stream:
        while piece := await stream.piece(_ANSWER_S):
            messages += frames.feed(piece)
        if piece is None:
            raise OpskitError("DOCKER_001", f"Docker gave no answer within {_ANSWER_S:g} s")
    messages += frames.finish()
    return messages[-1] if messages else None


async def try_out(docker: Docker, container: LoggedContainer, reading: ContainerReading) -> None:
    """Find out whether a silent log is silent, or its stream dead: ask for the last message.

    Raises OpskitError(DOCKER_001) when no answer comes, or when a message stands there that never came.
    """
    newest = await newest_message(docker, container)
    if newest is not None and not reading.position.has(newest):
        raise OpskitError("DOCKER_001", "Docker stopped sending the log")
