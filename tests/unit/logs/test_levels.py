"""The level of a line, however it is written, is the same for `--level` and for the statistics."""

import pytest

from opskit.logs.record import LogEntry, facts
from opskit.logs.scan import hits
from opskit.logs.select import EntryFilter
from opskit.logs.stats import LogTally

ERRORS = (
    b"\x1b[32m2026-05-04 10:20:30\x1b[0m | \x1b[31m\x1b[1mERROR   \x1b[0m | \x1b[36mpay\x1b[0m - boom",
    b"\x1b[31mERROR\x1b[0m:    Exception in ASGI application",
    b"2026-05-04 10:20:30 [\x1b[35;1mCRITICAL\x1b[0m] worker lost",
    b"\x1b[1;31mFATAL\x1b[0m out of disk",
    b"ERROR | started badly",
    b"2026/05/04 10:20:30 [error] 7#7: *1 connect() failed",
    b"[Mon May 04 10:20:30.000 2026] [core:crit] [pid 7] no memory",
    b'{"level":50,"time":1777890030500,"pid":1,"hostname":"a","msg":"boom"}',
    b'{"name":"pay","level":60,"msg":"boom","time":"2026-05-04T10:20:30Z","v":0}',
    b'{"version":"1.1","host":"a","short_message":"boom","level":3}',
    b'level=50 msg="boom"',
    b"E0504 10:20:30.500000      17 pay.go:20] boom",
    b"F0504 10:20:30.500000      17 pay.go:20] boom",
    b"0.06.027.351 E srv    send_error: task id = 0, error: boom",
    b"cpp-1  | 61.06.027.351 E srv    send_error: boom",
    b'[GIN] 2026/05/04 - 10:20:30 | 500 |  3.428625625s |  127.0.0.1 | POST     "/api/chat"',
    b'[GIN] 2026/05/04 - 10:20:30 |\x1b[97;41m 503 \x1b[0m|  42.04ms |  ::1 |\x1b[97;46m POST \x1b[0m "/"',
    b'pay-1  | [GIN] 2026/05/04 - 10:20:30 | 500 |  5m0s |  127.0.0.1 | POST     "/api/chat"',
    b"\x1b[31mERROR\x1b[0m it failed\n\x1b[31mTraceback (most recent call last):\x1b[0m\n  x\nOSError: no",
)
WARNINGS = (
    b'{"level":40,"msg":"slow"}',
    b"W0504 10:20:30.500000      17 pay.go:20] slow",
    b"\x1b[33mWARN\x1b[0m slow",
)
OTHERS = (
    b"2026/05/04 10:20:30 [notice] 7#7: signal [error] expected",
    b'{"level":30,"msg":"ERROR is over"}',
    b'{"level":20,"msg":"x"}',
    b'{"level":0,"msg":"x"}',
    b'{"level":true,"msg":"x"}',
    b"I0504 10:20:30.500000      17 pay.go:20] ERROR is over",
    b'[GIN] 2026/05/04 - 10:20:30 | 200 |  3.4s |  127.0.0.1 | POST     "/errors/500"',
    b'[GIN] 2026/05/04 - 10:20:30 | 404 |  3.4s |  127.0.0.1 | POST     "/api/chat"',
    b"E0504 is a part number",
    b"0.06.027.351 I srv    init: ERROR is over",
)


@pytest.mark.parametrize(
    ("line", "level"),
    [*((line, "error") for line in ERRORS), *((line, "warning") for line in WARNINGS)],
)
def test_a_level_is_read_in_every_writing(line, level):
    """Colours, numbers, klog's letters and GIN's statuses are levels like words."""
    wanted = EntryFilter(level=level)
    tally = LogTally()
    tally.feed(line + b"\n", "app")
    assert wanted.accepts(LogEntry("app", line))
    assert hits(line + b"\n", wanted) == [(0, len(line) + 1)]
    assert (tally.errors.total, tally.warnings.total) == (level == "error", level == "warning")


@pytest.mark.parametrize("line", OTHERS)
def test_what_only_resembles_a_level_is_none(line):
    """Numbers and words elsewhere in a line do not count."""
    tally = LogTally()
    tally.feed(line + b"\n", "app")
    assert facts(line).level not in ("warning", "error", "critical")
    assert (tally.errors.total, tally.warnings.total) == (0, 0)


def test_the_message_of_a_line_is_free_of_colours_and_of_its_level():
    """Equal errors count as one, in colours or without."""
    tally = LogTally()
    for line in ERRORS[1], b"ERROR: Exception in ASGI application", ERRORS[9], ERRORS[10]:
        tally.feed(line + b"\n", "app")
    counts = {shape: count.count for shape, count in tally.errors.top(9)}
    assert counts == {"Exception in ASGI application": 2, "boom": 2}
