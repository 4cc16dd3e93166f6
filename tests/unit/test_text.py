"""Amounts, lists and names in the words of people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.text import (
    and_more,
    counted,
    did_you_mean,
    duration_s,
    last_lines,
    listing,
    near_names,
    size,
    size_bytes,
    span,
)


@pytest.mark.parametrize(
    ("amount", "shown", "precise"),
    [
        (None, "?", "?"),
        (0, "0 B", "0 B"),
        (999, "999 B", "999 B"),
        (1024, "1.0 KiB", "1.0 KiB"),
        (324 * 1024, "324 KiB", "324.0 KiB"),
        (1000 * 1024**2, "1.0 GiB", "1.0 GiB"),
        (964.4 * 1024**3, "964 GiB", "964.4 GiB"),
        (2**50, "1024 TiB", "1024.0 TiB"),
    ],
)
def test_a_size_has_three_digits_and_a_unit(amount: float | None, shown: str, precise: str):
    """A precise one has a decimal however large it is."""
    assert size(amount) == shown
    assert size(amount, precise=True) == precise


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1KiB", 1024), ("10 MB", 10_000_000), ("7b", 7), ("1.5GiB", 1_610_612_736), (" 2 tib ", 2 * 1024**4),
        ("1iB", None), ("7", None), ("-1 MB", None), ("1 MB extra", None), ("", None), ("١ MB", None),
    ],
)  # fmt: skip
def test_a_size_is_read(text: str, amount: int | None):
    """KiB is 1024 and kB is 1000; a bare number has no unit."""
    assert size_bytes(text) == amount


@given(st.floats(0, 1e15))
def test_a_written_size_is_read_back(amount: float):
    """Within the digits that are written."""
    read = size_bytes(size(amount, precise=True))
    assert read == pytest.approx(amount, rel=0.06, abs=0.5)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0 s"), (0.9, "0 s"), (59, "59 s"), (60, "1 min"), (90, "1 min 30 s"), (119, "1 min 59 s"),
        (121, "2 min"), (3599, "59 min"), (3600, "1 h"), (3660, "1 h 1 min"), (86_399, "23 h 59 min"),
        (86_400, "1 d"), (90_000, "1 d 1 h"), (40 * 86_400, "40 d"),
    ],
)  # fmt: skip
def test_a_span_has_two_units_at_most(seconds: float, shown: str):
    """Rounded down."""
    assert span(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0 s"),
        (7.6, "8 s"),
        (119, "119 s"),
        (150, "2 min"),
        (7199, "120 min"),
        (86_400, "24 h"),
        (200_000, "2 d"),
    ],
)
def test_a_rounded_span_has_one_unit(seconds: float, shown: str):
    """To the nearest, and at least two of it."""
    assert span(seconds, rounded=True) == shown


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_longer_span_is_never_shown_as_shorter(seconds: float, other: float):
    """The first unit grows with the time."""
    shown = [duration_s(span(value).replace("min", "m")) for value in sorted((seconds, other))]
    assert shown[0] <= shown[1]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5), ("2s", 2.0), ("1m30s", 90.0), ("1 h 5 m", 3900.0), ("1.5h", 5400.0),
        ("2d", 172_800.0), ("1w", 604_800.0), ("0s", 0.0), ("7", None), ("", None), ("1 min", None),
        ("-1s", None), ("s", None), ("1s later", None),
    ],
)  # fmt: skip
def test_a_duration_is_read(text: str, seconds: float | None):
    """Durations have units; a bare number has none."""
    assert duration_s(text) == seconds


def test_a_number_agrees_with_its_noun():
    """One is singular, everything else plural."""
    assert [counted(number, "check") for number in (0, 1, 2)] == ["0 checks", "1 check", "2 checks"]
    assert counted(2, "reply", "replies") == "2 replies"


def test_a_listing_counts_what_it_does_not_show():
    """Nothing is counted when everything is shown."""
    assert listing([]) == ""
    assert listing(["a", "b"]) == "a, b"
    assert listing(list("abcd")) == "a, b, c, d"
    assert listing(list("abcdef")) == "a, b, c, d and 2 more"
    assert listing(list("abc"), 1, separator="; ") == "a and 2 more"


def test_the_first_problem_says_how_many_follow():
    """With what shows them, where something does."""
    assert [and_more(0), and_more(3)] == ["", " (and 3 more)"]
    assert and_more(1, "opskit config check") == " (and 1 more: opskit config check)"


def test_a_mistyped_name_gets_its_near_ones():
    """The nearest first; all known names when none is near."""
    known = {"ollama": 1, "mlx": 2, "victoria": 3}
    assert near_names("olama", known) == ["ollama"]
    assert did_you_mean("olama", known) == "did you mean ollama?"
    assert did_you_mean("crahs", ["crash", "crash-old"]) == "did you mean crash or crash-old?"
    assert did_you_mean("#", known) == "known: mlx, ollama, victoria"


def test_the_last_lines_keep_their_beginning_and_a_long_one_its_two_ends():
    """An error without its first letters is no error that a person can look for."""
    lines = ["first " * 60, "ERROR: for web  " + "x" * 300, "Encountered errors"]
    assert last_lines("\n".join(lines)).startswith("ERROR: for web xxx")
    long = last_lines("ERROR: cannot start " + "y" * 900 + " address already in use\n")
    assert long.startswith("ERROR: cannot start")
    assert long.endswith("address already in use")
    assert len(long) <= 400
    assert last_lines(" \n") == ""
