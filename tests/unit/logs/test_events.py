"""Lines that belong together stay together, in a stream and in a block alike."""

from hypothesis import given
from hypothesis import strategies as st

from opskit.logs.events import Grouper, may_continue, next_event, span
from opskit.logs.file_reader import tail_offset
from opskit.logs.files import blocks
from opskit.logs.record import LogEntry
from opskit.logs.scan import entries, hits
from opskit.logs.select import EntryFilter

HEAD = b"2026-11-20T08:00:00Z ERROR it failed\n"
TRACE = b'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nValueError: no\n'
NEXT = b"2026-11-20T08:00:01Z INFO next\n"

LINES = st.sampled_from(
    [
        HEAD,
        NEXT,
        b"2026-11-20T08:00:02Z [LLM_CALL] node=mlx\n",
        b'{"level":"error","message":"x"}\n',
        b"Traceback (most recent call last):\n",
        b'  File "a.py"\n',
        b"\tat org.Example\n",
        b"ValueError: no\n",
        b"KeyError\n",
        b"thread 'main' panicked at a.rs:1:2:\n",
        b"stack backtrace:\n",
        "│ in a box │\n".encode(),
        b"{\n",
        b"}\n",
        b"future: <Task>\n",
        b"main.main\n",
        b"7 plain\n",
        b"plain words\n",
        b"\n",
    ]
)


def texts(block: bytes) -> list[bytes]:
    grouper = Grouper()
    events = [grouper.push(LogEntry("s", line)) for line in block.removesuffix(b"\n").split(b"\n")]
    return [event.raw for batch in [*events, grouper.flush()] for event in batch]


def test_a_traceback_stays_with_its_line():
    """Three lines before, the trace, one after: three events."""
    assert texts(NEXT + HEAD + TRACE + NEXT) == [
        NEXT[:-1],
        (HEAD + TRACE)[:-1],
        NEXT[:-1],
    ]


def test_an_exception_name_alone_is_a_line_of_its_own():
    """`ValueError: no` continues only what has opened a traceback."""
    assert texts(NEXT + b"ValueError: no\n") == [NEXT[:-1], b"ValueError: no"]


def test_a_match_inside_a_traceback_brings_the_whole_event():
    """Searching for the exception shows the line that failed and its trace."""
    block = NEXT + HEAD + TRACE + NEXT
    [(start, end)] = hits(block, EntryFilter(grep=("ValueError",)))
    assert block[start:end] == HEAD + TRACE


@given(st.lists(LINES, min_size=1, max_size=30))
def test_blocks_and_streams_agree(lines):
    """The events around each line of a block are those that a stream of its lines gives."""
    block = b"".join(lines)
    streamed, at = [], 0
    for text in texts(block):
        streamed.append((at, at + len(text) + 1))
        at += len(text) + 1
    by_line = set()
    at = 0
    for line in lines:
        by_line.add(span(block, at, at + len(line)))
        at += len(line)
    assert sorted(by_line) == streamed


@given(st.lists(LINES, min_size=1, max_size=60), st.integers(1, 200), st.booleans())
def test_a_file_is_cut_at_events(tmp_path_factory, lines, size, ended):
    """Whatever the size of a block: joined they are the file, and no event is torn."""
    import io

    content = b"".join(lines)
    content = content if ended else content[:-1]
    pieces = list(blocks(io.BytesIO(content), size))
    assert b"".join(pieces) == content
    if content:
        whole = [entry.raw for entry in entries("s", [content], EntryFilter())]
        parts = [entry.raw for piece in pieces for entry in entries("s", [piece], EntryFilter())]
        assert parts == whole


@given(st.lists(LINES, min_size=1, max_size=40), st.integers(0, 400))
def test_pieces_for_workers_meet(tmp_path_factory, lines, at):
    """The first event at or after an offset is the same for whoever asks, and is the head of an event."""
    path = tmp_path_factory.mktemp("p") / "f"
    content = b"".join(lines)
    path.write_bytes(content)
    with path.open("rb") as file:
        found = next_event(file.fileno(), at, len(content))
    assert min(at, len(content)) <= found <= len(content)
    assert found in (0, len(content)) or not may_continue(content[found:].partition(b"\n")[0])


@given(
    st.lists(st.binary(max_size=5).filter(lambda b: b"\n" not in b), max_size=30),
    st.integers(0, 40),
    st.booleans(),
)
def test_the_tail_is_what_tail_says(tmp_path_factory, lines, count, ended):
    """The offset of the last N lines, with and without a last line end."""
    path = tmp_path_factory.mktemp("p") / "f"
    content = b"\n".join(lines) + (b"\n" if ended else b"")
    path.write_bytes(content)
    with path.open("rb") as file:
        offset = tail_offset(file.fileno(), len(content), count)
    whole = content.removesuffix(b"\n").split(b"\n") if content else []
    expected = whole[-count:] if count else []
    assert (
        content[offset:].removesuffix(b"\n").split(b"\n")[: len(expected)]
        == (expected or [b""])[: len(expected)]
    )
    assert content[offset:].count(b"\n") <= max(count, 0)


def test_a_huge_line_is_taken_in_pieces():
    """100 MB without a line end: every byte is given, in bounded pieces."""
    import io

    class Endless(io.RawIOBase):
        left = 100_000_000

        def read(self, size=-1):
            take = min(size, self.left)
            self.left -= take
            return b"x" * take

    sizes = [len(piece) for piece in blocks(Endless())]
    assert sum(sizes) == 100_000_000
    assert max(sizes) <= 24 * 1024 * 1024


def test_an_entry_without_a_time_has_that_of_the_line_before():
    """Times are inherited inside a source."""
    block = HEAD + b"words without a time, LLM\n" + NEXT
    [entry] = entries("s", [block], EntryFilter(grep=("LLM",), since=1.0))
    assert entry.at is not None
