"""Errors of the logs, gathered and bounded."""

from opskit.logs.record import LogEntry, facts
from opskit.watch.logs import EACH_ROUND, KEPT, LogsView, error_text


def take(errors: LogsView, raw: bytes, at: float = 1.0):
    entry = LogEntry("app.log", raw)
    return errors.take(entry, facts(raw), at)


def text(raw: bytes) -> str:
    return error_text(LogEntry("a", raw), facts(raw))


def test_equal_ones_are_counted_instead_of_shown_again() -> None:
    """Numbers do not make them different; the newest comes first."""
    errors = LogsView()
    for number in range(5):
        take(errors, b"ERROR task %d failed" % number, at=float(number))
        take(errors, b"ERROR the disk is full", at=float(number))
    assert [(one.text, one.count) for one in errors.latest_errors] == [
        ("the disk is full", 5),
        ("task 4 failed", 5),
    ]


def test_a_flood_is_counted() -> None:
    """Only so many are told between two rounds; the next round tells as many again."""
    errors = LogsView()
    told = [take(errors, b"ERROR x") for _ in range(EACH_ROUND + 50)]
    assert sum(one is not None for one in told) == EACH_ROUND
    assert (errors.errors, errors.not_shown) == (EACH_ROUND + 50, 50)
    errors.room = EACH_ROUND
    assert take(errors, b"ERROR x") is not None


def test_what_is_kept_is_bounded() -> None:
    """However different they are."""
    errors = LogsView()
    for number in range(KEPT * 2):
        errors.room = EACH_ROUND
        take(errors, f"ERROR {'ab'[number % 2] * (number + 1)}".encode())
    assert len(list(errors.latest_errors)) == KEPT


def test_what_a_tagged_line_says() -> None:
    """Where, which fault, what the server said; a fallback from where to where."""
    assert text(b"[LLM_ERROR] node=mlx model=m fault=reset detail=gone") == "m on mlx: reset: gone"
    fallback = b"[FALLBACK] from_node=a from_model=x to_node=b to_model=y why=reset"
    assert text(fallback) == "x on a > y on b: reset"
    assert text(b"[FALLBACK] qwq:32b to phi") == "qwq:32b to phi"


def test_a_traceback_is_told_by_its_last_line() -> None:
    """The line that failed, and the error itself."""
    raw = b'ERROR it failed\nTraceback (most recent call last):\n  File "a.py"\nValueError: no'
    assert text(raw) == "it failed: ValueError: no"


def test_a_huge_message_is_cut() -> None:
    """A line of a megabyte does not become one on the screen."""
    assert len(text(b"ERROR " + b"x" * 1_000_000)) <= 1000
