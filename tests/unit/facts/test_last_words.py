"""What the log of a container says last."""

import pytest

from opskit.facts.container_survey import last_words
from opskit.logs.record import LogEntry


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ""),
        (["INFO ready", "", "  "], "INFO ready"),
        (["starting", "cat: /etc/app.yaml: Is a directory"], "cat: /etc/app.yaml: Is a directory"),
        (["ERROR no table", "LINE 1: select", "INFO bye"], "ERROR no table"),
        (["ERROR first", "ERROR second", "WARNING late"], "ERROR second"),
        (["ssl.Error: expired", "INFO bye"], "ssl.Error: expired"),
        (['{"level": "error", "msg": "no such model", "ts": 1}'], "no such model"),
        (
            ["INFO up", "Traceback (most recent call last):", '  File "a.py", line 1', "KeyError: 'A'"],
            "KeyError: 'A'",
        ),
        (["\x1b[31mERROR red\x1b[0m"], "ERROR red"),
        (["x" * 5000], "x" * 4000),
    ],
)
def test_the_last_complaint_counts(lines: list[str], words: str):
    """The last complaint of a log, else its last line that has no level, else its last line."""
    assert last_words(LogEntry("api", line.encode()) for line in lines) == words
