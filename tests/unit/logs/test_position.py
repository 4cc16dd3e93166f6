"""Where a reader of a Docker log stands."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from opskit.logs.frames import Bare, Framed, LineJoiner, StreamMessage
from opskit.logs.position import SLACK_NS, Position
from tests.unit.logs.wire import framed, on_terminal

_START_NS = 1_795_168_580_999_999_000


@dataclass(frozen=True)
class Step:
    """A message, by how much its time is behind that of the last one of its stream."""

    stream: int
    after_ns: int
    text: bytes
    ends: bool


TEXT = st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b""))
STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([1, 1, 1, 2]),
        st.sampled_from([0, 0, 1, 7, 1000, SLACK_NS // 3]),
        TEXT,
        st.sampled_from([True, True, True, False]),
    ),
    max_size=60,
)


def log_of(steps: list[Step], *, tty: bool, coarse: bool = False) -> list[StreamMessage]:
    """What Docker keeps: each stream in the order of its times, the streams against each other not quite.

    Lines share a time only where times are `coarse`, in microseconds; parts of a line always do.
    """
    now = {1: _START_NS, 2: _START_NS - SLACK_NS // 4}
    ended = {1: True, 2: True}
    log: list[StreamMessage] = []
    for step in steps:
        stream = 1 if tty else step.stream
        if ended[stream]:
            passed = step.after_ns // 1000 * 1000 if coarse else step.after_ns + 1
            now[stream] = max(now[stream] + passed, max(now.values()) - SLACK_NS // 2)
            # Fine times that end in zeros are one in a thousand, and pass for coarse ones.
            now[stream] += not coarse and now[stream] % 1000 == 0
        ended[stream] = step.ends
        log.append(StreamMessage(now[stream], stream, step.text or b"-", step.ends))
    return log


def asked(log: list[StreamMessage], since_ns: int | None) -> list[StreamMessage]:
    return [message for message in log if since_ns is None or message.at_ns >= since_ns]


@settings(max_examples=400)
@given(st.data(), STEPS, st.booleans(), st.booleans())
def test_any_cut_of_the_stream_and_a_reconnect_give_every_message_once(data, steps, tty, coarse):
    """Wherever the connection breaks, however often and however long, each message comes exactly once."""
    log = log_of(steps, tty=tty, coarse=coarse)
    position = Position()
    got: list[StreamMessage] = []
    for _ in range(data.draw(st.integers(0, 5), label="breaks")):
        there = data.draw(st.integers(0, len(log)), label="written so far")
        seen = asked(log[:there], position.since_ns)
        raw = on_terminal(seen) if tty else framed(seen)
        cut = data.draw(st.integers(0, len(raw)), label="cut")
        position.reopened()
        reader = Bare() if tty else Framed()
        got += position.news(reader.feed(raw[:cut]))
    position.reopened()
    reader = Bare() if tty else Framed()
    rest = asked(log, position.since_ns)
    got += position.news(reader.feed(on_terminal(rest) if tty else framed(rest)) + reader.finish())
    assert got == log


@given(st.data(), STEPS)
def test_a_cut_within_a_long_line_does_not_tear_it(data, steps):
    """The parts of a line that came before a break and those that come after it become one line."""
    log = log_of(steps, tty=False)
    whole = LineJoiner()
    expected = whole.feed(log) + whole.finish()
    position, lines, got = Position(), LineJoiner(), []
    for place in sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=4), label="cuts")):
        position.reopened()
        got += lines.feed(position.news(asked(log[:place], position.since_ns)))
    position.reopened()
    got += lines.feed(position.news(asked(log, position.since_ns))) + lines.finish()
    assert got == expected


@given(st.data(), STEPS)
def test_messages_that_docker_dropped_meanwhile_repeat_nothing(data, steps):
    """A rotation that takes old messages away, the last one read among them, brings none of them twice."""
    log = log_of(steps, tty=True)
    position = Position()
    read = data.draw(st.integers(0, len(log)), label="read")
    got = position.news(log[:read])
    position.reopened()
    times = sorted({message.at_ns for message in log})
    gone_ns = data.draw(st.sampled_from([0, *times]), label="dropped before")
    left = [message for message in log if message.at_ns >= gone_ns]
    got += position.news(asked(left, position.since_ns))
    # Of messages of the very same time rotation drops all or none here.
    assert got == log[:read] + [message for message in log[read:] if message.at_ns >= gone_ns]


@given(st.data(), STEPS)
def test_lines_that_the_daemon_itself_sends_twice_come_once(data, steps):
    """At a rotation Docker may go some lines back within a stream, and then on."""
    log = log_of([Step(step.stream, step.after_ns, step.text, True) for step in steps], tty=False)
    position = Position()
    got: list[StreamMessage] = []
    begin = 0
    for place in sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=4), label="rotations")):
        got += position.news(log[begin:place])
        begin = data.draw(st.integers(0, place), label="sent again from")
    got += position.news(log[begin:])
    assert got == log


def test_the_end_of_a_log_is_not_searched_for_older_lines_of_the_other_stream():
    """After a tail of stdout, a reconnect does not bring up stderr from before it."""
    old = StreamMessage(_START_NS, 2, b"old", True)
    new = StreamMessage(_START_NS + 5, 1, b"new", True)
    position = Position(tailed=True)
    assert position.news([new]) == [new]
    position.reopened()
    later = StreamMessage(_START_NS + 9, 2, b"later", True)
    assert position.news([old, new, later]) == [later]


def test_a_clock_set_back_loses_nothing_while_connected():
    """Messages that are older than the last one are new when they stand behind it."""
    first, second = StreamMessage(_START_NS, 1, b"a", True), StreamMessage(_START_NS - 10**12, 1, b"b", True)
    position = Position()
    assert position.news([first, second]) == [first, second]
    position.reopened()
    third = StreamMessage(_START_NS - 10**12 + 1, 1, b"c", True)
    assert third in position.news([second, third])


def test_the_rest_of_a_line_is_asked_for_however_late_it_comes():
    """Its parts bear the time of the first one, and the other stream goes on meanwhile."""
    begin = StreamMessage(_START_NS, 2, b"be", False)
    meanwhile = StreamMessage(_START_NS + 9 * SLACK_NS, 1, b"meanwhile", True)
    rest = StreamMessage(_START_NS, 2, b"gin", True)
    position = Position()
    assert position.news([begin, meanwhile]) == [begin, meanwhile]
    position.reopened()
    assert position.news(asked([begin, meanwhile, rest], position.since_ns)) == [rest]


def test_times_are_asked_for_without_loss():
    """Nanoseconds survive: a float of the same time would not hold them."""
    position = Position()
    position.news([StreamMessage(_START_NS + 1, 1, b"", True)])
    assert position.since_ns == _START_NS + 1 - SLACK_NS
