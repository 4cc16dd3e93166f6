"""From the bytes of a Docker log to lines."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.logs.frames import (
    CUT,
    LINE_BYTES,
    Bare,
    Framed,
    FrameError,
    LineJoiner,
    StreamLine,
    StreamMessage,
    split_time,
)
from tests.unit.logs.wire import framed, on_terminal, stamp

_NS = 1_795_168_580_785_245_755
TEXT = st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b""))
MESSAGES = st.lists(
    st.builds(StreamMessage, st.integers(_NS, _NS + 10**12), st.sampled_from([1, 2]), TEXT, st.booleans()),
    max_size=30,
)


def pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[a:b] for a, b in pairwise(places)]


@given(MESSAGES, st.lists(st.integers(0, 10**6), max_size=8))
def test_frames_cut_anywhere_give_the_same_messages(messages, cuts):
    """Pieces of any size, a single byte too, change nothing."""
    reader = Framed()
    assert [m for piece in pieces(framed(messages), cuts) for m in reader.feed(piece)] == messages


@given(MESSAGES, st.lists(st.integers(0, 10**6), max_size=8))
def test_a_terminal_cut_anywhere_gives_the_same_messages(messages, cuts):
    """Bare messages are told apart by line ends and by the times in front of them."""
    at_ns, sent = _NS, []
    for message in messages:
        at_ns += message.at_ns - _NS
        sent.append(StreamMessage(at_ns, 1, message.text or b"-", message.ends))
    reader = Bare()
    got = [m for piece in pieces(on_terminal(sent), cuts) for m in reader.feed(piece)]
    assert got + reader.finish() == sent


def test_one_byte_at_a_time():
    """The SDK hands a terminal over like this."""
    raw = stamp(_NS) + b"one\r\n" + stamp(_NS + 1) + b"two\r\n"
    reader, lines = Bare(), LineJoiner(tty=True)
    got = [line for at in range(len(raw)) for line in lines.feed(reader.feed(raw[at : at + 1]))]
    assert got == [StreamLine(_NS, 1, b"one"), StreamLine(_NS + 1, 1, b"two")]


def test_a_line_of_several_messages_is_one_line():
    """Docker cuts at 16 KiB and repeats the time; the other stream may come in between."""
    part = b"a" * 16384
    messages = [
        StreamMessage(_NS, 1, part, False),
        StreamMessage(_NS + 5, 2, b"err", True),
        StreamMessage(_NS, 1, part, False),
        StreamMessage(_NS, 1, b"end", True),
    ]
    assert LineJoiner().feed(messages) == [
        StreamLine(_NS + 5, 2, b"err"),
        StreamLine(_NS, 1, part + part + b"end"),
    ]


def test_a_process_that_dies_within_a_line_does_not_spoil_the_next_one():
    """What it left is a line of its own; with a terminal too, where nothing stands between the two."""
    messages = [StreamMessage(_NS, 1, b"half", False), StreamMessage(_NS + 9, 1, b"whole", True)]
    want = [StreamLine(_NS, 1, b"half"), StreamLine(_NS + 9, 1, b"whole")]
    assert LineJoiner().feed(Framed().feed(framed(messages))) == want
    assert LineJoiner(tty=True).feed(Bare().feed(on_terminal(messages))) == want


def test_a_time_that_a_program_writes_into_its_line_does_not_cut_it():
    """It is older than the moment at which Docker reads it."""
    text = b"started at " + stamp(_NS - 1) + b"and " + b"x" * 80
    (message,) = Bare().feed(stamp(_NS) + text + b"\n")
    assert message == StreamMessage(_NS, 1, text, True)


@pytest.mark.parametrize("tty", [False, True], ids=["framed", "terminal"])
def test_a_line_of_100_mb_is_cut_and_marked_in_little_memory(tty):
    """It comes at once as its first megabyte and a mark, and the line after it is whole."""
    part = [StreamMessage(_NS, 1, b"a" * 16384, False)]
    raw = on_terminal(part) if tty else framed(part)
    reader, lines, got = (Bare() if tty else Framed()), LineJoiner(tty=tty), []
    tracemalloc.start()
    for _ in range(6400):
        got += lines.feed(reader.feed(raw))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    end = [StreamMessage(_NS, 1, b"end", True), StreamMessage(_NS + 1, 1, b"next", True)]
    got += lines.feed(reader.feed(on_terminal(end) if tty else framed(end)))
    assert [line.text for line in got] == [b"a" * LINE_BYTES + CUT % LINE_BYTES, b"next"]
    assert peak < 5 * LINE_BYTES


def test_one_frame_of_100_mb_is_taken_in_parts():
    """Docker makes none, other engines may."""
    size = 100 * 1024 * 1024
    body = b"b" * (1024 * 1024)
    reader, lines = Framed(), LineJoiner()
    got = lines.feed(reader.feed(framed([]) + b"\x01\0\0\0" + (size + 32).to_bytes(4, "big") + stamp(_NS)))
    for _ in range(100):
        got += lines.feed(reader.feed(body))
    got += lines.feed(reader.feed(b"\n"))
    got += lines.feed(reader.feed(framed([StreamMessage(_NS + 1, 1, b"next", True)])))
    assert [(line.at_ns, line.text[:3], len(line.text) < 2 * LINE_BYTES) for line in got] == [
        (_NS, b"bbb", True),
        (_NS + 1, b"nex", True),
    ]


def test_bytes_that_are_no_frames_are_refused():
    """Reading on would make lines of nonsense."""
    with pytest.raises(FrameError):
        Framed().feed(b"hello, world")


@pytest.mark.parametrize(
    ("written", "at_ns"),
    [
        (b"2026-11-20T09:56:20.785245755Z text", _NS),
        (b"2026-11-20T09:56:20.7Z text", 1_795_168_580_700_000_000),
        (b"2026-11-20T11:56:20.785245755+02:00 text", _NS),
        (b"2026-11-20T09:56:20Z text", 1_795_168_580_000_000_000),
    ],
)
def test_times_of_every_engine_are_read_to_the_nanosecond(written, at_ns):
    """Docker always writes nine digits in UTC, Podman neither."""
    assert split_time(written, 0) == (at_ns, b"text")


@pytest.mark.parametrize("written", [b"text", b"", b"2026-13-45T99:99:99.000000000Z text", b"x" * 40])
def test_what_has_no_time_keeps_the_last_one(written):
    """And loses no byte."""
    assert split_time(written, 7) == (7, written)


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(raw):
    """A terminal can hold anything."""
    reader = Bare()
    messages = reader.feed(raw) + reader.finish()
    assert sum(len(m.text) + m.ends for m in messages) <= len(raw)
