"""Shapes of messages and their count."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.logs import shape as shapes
from opskit.logs.shape import Shapes, shape


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("task 4711 failed", "task <n> failed"),
        ("took 1.5 s", "took <duration>"),
        ("took 350ms, then 2 minutes", "took <duration>, then <duration>"),
        ("cannot open /var/log/app/x.log", "cannot open <path>"),
        ("cannot open C:\\data\\x.txt now", "cannot open <path> now"),
        ("no such file: ./a/b-c.txt", "no such file: <path>"),
        ("id 25a0b2f7-6a3c-4e0a-9d0a-2f1b3c4d5e6f gone", "id <uuid> gone"),
        ("10.0.0.7:5432 refused", "<ip> refused"),
        ("connect to [::1]:8010", "connect to <ip>"),
        ("at 0x7ffd2c and deadbeef01", "at <hex> and <hex>"),
        ("key 'user one' unknown", "key <text> unknown"),
        ('model "qwen 2" missing', "model <text> missing"),
        ("GET http://localhost:11434/api/tags failed", "GET <url> failed"),
        ("since 2026-03-01T12:00:05.123Z down", "since <time> down"),
        ("  two   blanks\tand a tab ", "two blanks and a tab"),
        ("не удалось за 12 с", "не удалось за <n> с"),
        ("can't stop, won't stop", "can't stop, won't stop"),
        ("read/write failed", "read/write failed"),
        ("defaced facade", "defaced facade"),
        ("", ""),
    ],
)
def test_what_changes_from_message_to_message_is_folded(message, expected):
    """Numbers, durations, places and names become placeholders; words stay."""
    assert shape(message.encode()) == expected


@given(first=st.integers(0, 10**9), second=st.integers(0, 10**9))
def test_messages_that_differ_in_a_number_have_one_shape(first, second):
    """However long the numbers are."""
    texts = [f"worker-{n} lost {n} tasks in {n} ms at 10.0.0.1:{n}" for n in (first, second)]
    assert shape(texts[0].encode()) == shape(texts[1].encode())


@given(message=st.binary(max_size=600))
def test_any_bytes_have_a_shape_on_one_line(message):
    """Invalid UTF-8, NUL and control characters neither raise nor reach the report."""
    assert shape(message).isprintable()


sightings = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 50).map(float)),
        st.sampled_from(["a", "b"]),
        st.sampled_from([b"task 1 failed", b"task 22 failed", b"lost 10.0.0.1", b"slow"]),
    ),
    max_size=40,
)


def shapes_of(messages):
    counted = Shapes()
    for at, source, message in messages:
        counted.add(at, source, message)
    return counted


@given(messages=sightings, cut=st.integers(0, 40), data=st.data())
def test_merging_parts_gives_the_count_of_the_whole(messages, cut, data):
    """Counts, first and last time and the sample do not depend on order or on the place of the cut."""
    shuffled = data.draw(st.permutations(messages))
    merged = shapes_of(shuffled[cut:])
    merged.merge(pickle.loads(pickle.dumps(shapes_of(shuffled[:cut]))))
    assert merged == shapes_of(messages)


def test_the_sample_is_the_earliest_message():
    """What a person sees first is what happened first."""
    counted = shapes_of(
        [(9.0, "b", b"task 9 failed"), (3.0, "a", b"task 3 failed"), (None, "a", b"task 0 failed")]
    )
    [(name, seen)] = counted.top(5)
    assert (name, seen.count, seen.first, seen.last) == ("task <n> failed", 3, 3.0, 9.0)
    assert seen.sample == (3.0, "a", b"task 3 failed")


def test_memory_is_bounded_and_frequent_shapes_survive(monkeypatch):
    """Shapes without end share one count; the total and the most frequent stay right."""
    monkeypatch.setattr(shapes, "MAX_SHAPES", 100)
    counted = Shapes()
    for number in range(5000):
        word = "".join(chr(103 + int(digit)) for digit in str(number))
        counted.add(float(number), "a", f"unique {word}".encode())
        counted.add(float(number), "a", b"common 17")
    assert len(counted.seen) <= 100
    assert counted.total == 10_000
    assert counted.other + sum(seen.count for seen in counted.seen.values()) == 10_000
    assert [(name, seen.count) for name, seen in counted.top(1)] == [("common <n>", 5000)]
