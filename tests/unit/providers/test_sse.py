"""Lines and server-sent events out of bytes, however these are cut."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.providers.base import CallCause, CallError
from opskit.providers.http import lines
from opskit.providers.reading import Comment, Data, Other, events

text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n\r"), max_size=12)
line_texts = st.one_of(
    text,
    text.map("data: ".__add__),
    text.map("data:".__add__),
    text.map(": ".__add__),
    st.sampled_from(
        ["", "", "data", "event: error", "id: 7", "retry: 3", 'data: {"a": "\u2028"}', "data: Привет"]
    ),
)


def response(chunks: list[bytes]) -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return httpx.Response(200, content=body())


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[start:end] for start, end in pairwise(edges)]


async def read(chunks: list[bytes]) -> list[Data | Comment | Other]:
    return [event async for event in events(lines(response(chunks)))]


def run(coroutine):
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


@given(
    st.lists(line_texts, max_size=10),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.integers(0, 500), max_size=6),
)
def test_events_do_not_depend_on_how_the_bytes_are_cut(texts, line_end, places):
    """A packet may end anywhere, also inside a character or between CR and LF."""
    raw = line_end.join(texts).encode()
    assert run(read(cut(raw, places))) == run(read([raw]))


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_lines_are_cut_at_line_feeds_only(chunks):
    """U+2028 and its friends may stand raw inside JSON."""
    raw = b"".join(chunks)

    async def found() -> list[bytes]:
        return [line async for line in lines(response(chunks))]

    expected = [line.rstrip(b"\r") for line in raw.split(b"\n")]
    if not raw.split(b"\n")[-1]:
        expected.pop()
    assert run(found()) == expected


@pytest.mark.parametrize(
    "raw, expected",
    [
        (b"data: a\n\n", [Data("a")]),
        (b"data:a\n\n", [Data("a")]),
        (b"data:  a\n\n", [Data(" a")]),
        (b"data: a\ndata: b\n\n", [Data("a\nb")]),
        (b"data: a\n\ndata: b\n\n", [Data("a"), Data("b")]),
        (b"event: error\ndata: x\n\ndata: y\n\n", [Data("x", "error"), Data("y")]),
        (b": keepalive 3/10\n\n", [Comment("keepalive 3/10")]),
        (b":\n", [Comment("")]),
        (b"data\n\n", [Data("")]),
        (b"id: 1\nretry: 2\n\n", []),
        (b"event: ping\n\n", []),
        (b"data: [DONE]", [Data("[DONE]")]),
        (b'{"error": "x"}\n', [Other('{"error": "x"}')]),
        ('data: {"a": "x\u2028y"}\n\n'.encode(), [Data('{"a": "x\u2028y"}')]),
        (b"", []),
    ],
)
async def test_an_event_is_read_as_the_standard_says(raw, expected):
    """And one that the end of the stream leaves open still counts."""
    assert await read([raw]) == expected


async def test_a_line_beyond_the_bound_is_refused():
    """No server can fill the memory with one line."""
    with pytest.raises(CallError) as caught:
        [line async for line in lines(response([b"x" * 60, b"y" * 60]), limit_bytes=100)]
    assert caught.value.cause is CallCause.PAYLOAD


async def test_data_without_an_end_is_refused():
    """No server can fill the memory with one event, nor with lines that are no event."""
    for row in (b"data: " + b"x" * 65536 + b"\n", b"x" * 65536 + b"\n"):
        with pytest.raises(CallError) as caught:
            await read([row] * 200)
        assert caught.value.cause is CallCause.PAYLOAD


async def test_a_long_line_in_small_pieces_is_read_once():
    """Reading takes a time that grows with the length, not with its square."""
    pieces = [b"x" * 64] * 100_000 + [b"\n"]
    async with asyncio.timeout(60):
        assert [len(line) async for line in lines(response(pieces))] == [6_400_000]
