"""Where a reader of a Docker log stands, so that after a lost connection no line is missing or repeated.

Docker can only be asked for messages *from* a time on, that time included, and several messages may share
one. So the reader remembers the time of the last message and how many it has had of that very time, which
is how stern does it for Kubernetes. Docker reads stdout and stderr each in an order of its own and writes
both to one log; a message of one may stand there behind a slightly younger one of the other. Hence a
place is remembered for each stream, and the log is asked for from a moment earlier.

Docker 20.10 was seen to send the first lines of a new file twice when a log is rotated while it is followed.
A stream that goes back to a time it has just had does so for that reason; one that goes back to a time it
never had, because the clock was set.

If the machine's clock is set back between the messages read and a reconnect, messages of the repeated hours
come again; none is lost.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Self

from opskit.errors import OpskitError
from opskit.logs.frames import Bare, Framed, LineJoiner, StreamMessage
from opskit.records import MutableRecord, field
from opskit.system.docker import Docker
from opskit.system.docker_records import LoggedContainer, LogQuery

#: How far the order of stdout and stderr in a log may differ from the order of their times.
SLACK_NS = 1_000_000_000
#: How many messages back a stream may jump and still be recognised.
_RECENT = 4096
#: After a break the end of the log is asked for first: `since` alone makes Docker read all of it.
_TAIL_MESSAGES = 2000
_ANSWER_S = 5.0


class _Place(MutableRecord):
    """The place in one stream.

    `had` counts the messages of this very time, `again` the messages still to be skipped.
    """

    last: StreamMessage
    had: int = 1
    again: int = 0
    caught_up: bool = True
    #: Times that were read, in their order.
    _recent: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def reopened(self) -> None:
        self.again = self.had
        self.caught_up = False

    def is_new(self, message: StreamMessage) -> bool:
        at_ns, last_ns = message.at_ns, self.last.at_ns
        if self.caught_up and at_ns <= last_ns and self._comes_again(message):
            self.reopened()
        if not self.caught_up:
            if at_ns < last_ns:
                return False
            if at_ns == last_ns and self.again:
                self.again -= 1
                # Behind the last one that was read everything is new, whatever its time.
                self.caught_up = not self.again
                return False
            self.caught_up = True
        if at_ns == last_ns:
            self.had += 1
        else:
            self._remember(last_ns)
            self.had = 1
        self.last = message
        return True

    def _remember(self, at_ns: int) -> None:
        self._recent[at_ns] = None
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def _comes_again(self, message: StreamMessage) -> bool:
        if message.at_ns < self.last.at_ns:
            return message.at_ns in self._recent
        # Two lines of one nanosecond do not exist. Parts of a line share a time, and so do lines where a log
        # driver counts only microseconds.
        return self.last.ends and message.text == self.last.text and message.at_ns % 1000 != 0


class Position(MutableRecord):
    """What has been read of one container's log.

    `floor_ns` is the oldest time that is wanted at all. With `tailed` it is that of the oldest message of the
    first look. Call `reopened` before each further look, and pass all its messages through `news`.
    """

    floor_ns: int | None = None
    tailed: bool = False
    _places: dict[int, _Place] = field(default_factory=dict)
    _resumed: bool = False

    @property
    def since_ns(self) -> int | None:
        """The time from which to ask for the log; None when all of it is wanted."""
        if not self._places:
            return self.floor_ns
        last = [place.last for place in self._places.values()]
        # All parts of a line bear the time of its first, however late they are written.
        begun_ns = (message.at_ns for message in last if not message.ends)
        before_ns = min([max(message.at_ns for message in last) - SLACK_NS, *begun_ns])
        return before_ns if self.floor_ns is None else max(before_ns, self.floor_ns)

    @property
    def is_new(self) -> bool:
        """Whether nothing has been read yet."""
        return not self._places

    def has(self, message: StreamMessage) -> bool:
        """Whether this message has been read, or was never wanted."""
        place = self._places.get(message.stream)
        if place is not None and message.at_ns <= place.last.at_ns:
            return True
        return self.floor_ns is not None and message.at_ns < self.floor_ns

    def reopened(self) -> None:
        """The log will now be seen from `since_ns` on, or from an earlier time."""
        self._resumed = True
        for place in self._places.values():
            place.reopened()

    def news(self, messages: Iterable[StreamMessage]) -> list[StreamMessage]:
        """The messages that have not been here before, in their order."""
        return [message for message in messages if self._is_new(message)]

    def _is_new(self, message: StreamMessage) -> bool:
        place = self._places.get(message.stream)
        if place is not None:
            return place.is_new(message)
        at_ns = message.at_ns
        if self.tailed and not self._resumed:
            self.floor_ns = at_ns if self.floor_ns is None else min(at_ns, self.floor_ns)
        if self.floor_ns is not None and at_ns < self.floor_ns:
            return False
        self._places[message.stream] = _Place(message)
        return True


class ContainerReading(MutableRecord):
    """How far one container's log is read, and what to ask next.

    `query` is what to ask first, None once something has come.
    """

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

    async def verify(self, docker: Docker, container: LoggedContainer) -> None:
        """Find out whether a silent log is silent or its stream is dead, by asking for the last message.

        Raises OpskitError(DOCKER_001) when no answer comes, or when a message stands there that never came.
        """
        newest = await newest_message(docker, container)
        if newest is not None and not self.position.has(newest):
            raise OpskitError("DOCKER_001", "Docker stopped sending the log")


def frames_of(container: LoggedContainer) -> Bare | Framed:
    """The reader that tells the messages of this container apart."""
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
