"""Counting a log: against the truth of a generated one, and whatever the cuts."""

import itertools
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.logs.record import facts
from opskit.logs.stats import LogTally
from opskit.logs.stats_counts import CountLimits
from opskit.logs.stats_report import as_json
from tests.parts.logfile import write

ID = "25a0b2f7-6a3c-4e0a-9d0a-2f1b3c4d5e6f"


def tally_of(text, **options):
    counted = LogTally(**options)
    counted.feed(text if isinstance(text, bytes) else text.encode(), "app")
    return counted


def messages(shapes):
    return {name: seen.count for name, seen in shapes.seen.items()}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "app.log"
    truth = write(path, size_bytes=600_000, seed=7)
    return truth, path.read_bytes()


class TestTruth:
    def test_lines_errors_and_warnings_are_exact(self, log):
        """A generated log with every kind of line: the counts are those of its making."""
        truth, text = log
        counted = tally_of(text)
        assert (counted.lines, counted.size_bytes) == (truth.lines, truth.size_bytes)
        assert (counted.errors.total, counted.warnings.total) == (truth.errors, truth.warnings)
        assert counted.tags == truth.tagged
        assert counted.slow_total == truth.slow
        assert (counted.first, counted.last) == (truth.first.timestamp(), truth.last.timestamp())

    def test_calls_are_counted_by_node_and_model(self, log):
        """Calls, answers, faults, crashes, tokens and seconds of each pair."""
        truth, text = log
        counted = tally_of(text)
        assert len(counted.places.pairs) == len(truth.calls)
        for (node, model), call in truth.calls.items():
            place = counted.places.pairs[node, model]
            assert (place.calls, place.ok, place.tokens) == (call.calls, call.ok, call.tokens)
            assert place.faults == call.faults
            assert place.seconds.greatest == max(call.seconds)
            assert place.seconds.mean == pytest.approx(sum(call.seconds) / len(call.seconds))
        total = counted.places.total()
        assert (total.fallbacks, total.fallback_calls) == (truth.fallbacks, truth.fallbacks)
        assert total.crashes == truth.crashes

    def test_requests_last_from_their_first_to_their_last_line(self, log):
        """By correlation id: total, longest, shortest and slow ones."""
        truth, text = log
        ended = tally_of(text).requests.ended()
        assert (ended.total, ended.answered, ended.failed) == (truth.requests, truth.requests, 0)
        assert ended.seconds.greatest == pytest.approx(max(truth.request_seconds), abs=1e-5)
        assert ended.seconds.least == pytest.approx(min(truth.request_seconds), abs=1e-5)
        assert ended.slow == truth.blocks * sum(seconds > 5 for seconds in truth.request_seconds)

    def test_a_traceback_counts_once_with_what_it_raised(self, log):
        """Not the error line in front of it, not the word ERROR inside of it."""
        truth, text = log
        assert messages(tally_of(text).errors)["ValueError: ERROR in task <n>"] == truth.tracebacks

    def test_every_line_is_in_the_timeline(self, log):
        """Lines, errors and calls add up."""
        truth, text = log
        counted = tally_of(text)
        sums = [sum(column) for column in zip(*counted.timeline.buckets.values(), strict=True)]
        assert sums == [truth.lines, truth.errors, truth.tagged["LLM_CALL"]]


class TestMerging:
    def test_any_cut_between_events_and_any_order_give_the_same(self, log):
        """Parts tallied apart, sent through a pipe and merged in any order equal the whole."""
        _, text = log
        chance = random.Random(3)
        lines = text.splitlines(keepends=True)
        starts = [n for n, line in enumerate(lines) if line[:1] not in (b" ", b"T", b"V")]
        for _ in range(10):
            cuts = [0, *sorted(chance.sample(starts, 6)), len(lines)]
            parts = [tally_of(b"".join(lines[a:b])) for a, b in itertools.pairwise(cuts)]
            chance.shuffle(parts)
            merged = LogTally()
            for part in parts:
                merged.merge(pickle.loads(pickle.dumps(part)))
            assert comparable(merged) == comparable(tally_of(text))

    @given(data=st.data())
    def test_single_events_in_any_order_give_the_same(self, data):
        """Down to one event a part, in an order that has nothing to do with time."""
        events = data.draw(st.lists(st.sampled_from(EVENTS), max_size=12))
        whole = tally_of(b"".join(events))
        merged = LogTally()
        for event in data.draw(st.permutations(events)):
            merged.merge(tally_of(event))
        assert comparable(merged) == comparable(whole)


def comparable(tally):
    """All but what is documented as approximate: the minute of lines that are only counted, and the ends."""
    found = as_json(tally, top=1000)
    for bucket in found["timeline"]["buckets"]:
        del bucket["lines"]
    found["timeline"]["buckets"] = [
        bucket for bucket in found["timeline"]["buckets"] if bucket["errors"] or bucket["calls"]
    ]
    for approximate in ("first", "last"):
        del found[approximate]
    del found["timeline"]["untimed_lines"]
    return found


ANSWER = (
    f"2026-03-01T12:01:09.250Z [LLM_RESPONSE] correlation_id={ID} node=b model=n seconds=12.5 status=200 "
    'first_token_s=null tokens=17 preview="took 99 s, ERROR, duration=99"'
)
FAILURE = (
    "2026-03-01 12:00:02,000 ERROR app: task 12 failed\nTraceback (most recent call last):\n"
    '  File "x.py", line 1\nKeyError: 4'
)
EVENTS = [
    f"{event}\n".encode()
    for event in (
        f"2026-03-01T12:00:00.100Z [REQUEST] correlation_id={ID} method=RUN goal=x",
        f"2026-03-01T12:00:01.000Z [LLM_CALL] correlation_id={ID} node=a model=m:1b fallback=false attempt=1",
        f"2026-03-01T12:00:04.500Z [LLM_ERROR] correlation_id={ID} node=a model=m:1b seconds=3.5 fault=busy",
        ANSWER,
        "[LLM_CALL] Model: qwq:32b",
        FAILURE,
        "2026-03-01 12:00:03 [WARNING] slow disk, took 11.5 s",
        '{"ts": 1772366400.5, "level": "error", "msg": "no space", "duration": 31}',
        '{"level": "warn", "msg": "odd", "elapsed_ms": 25}',
        "web-1  | ERROR: boot",
        "plain",
    )
]


MORE_EVENTS = [
    b"INFO ERROR\n",
    b'{"level": "CRIT"}\n',
    b'level=info msg="the ERROR is gone"\n',
    b"time=x level=warn msg=full\n",
    b'{"level": "error", "msg": "\xff"}\n',
]


class TestLevels:
    @pytest.mark.parametrize(
        ("line", "shape"),
        [
            ("2026-03-01 12:00:00,123 ERROR app.db: lost 10.0.0.1:5432", "app.db: lost <ip>"),
            ("ERROR:root:it broke", "root:it broke"),
            ("[2026-03-01 12:00:00 +0000] [7] [ERROR] Worker 3 died", "Worker <n> died"),
            ("web-1  | 2026-03-01 12:00:00 CRITICAL out of disk", "out of disk"),
            ('{"severity": "Fatal", "message": "gone", "level": null}', "gone"),
            ('web-1 | {"lvl":"ERR","event":"gone"}', "gone"),
            ('time=2026-03-01T12:00:00Z level=error msg="no such model"', "no such model"),
            ("2026-03-01 12:00:00 PANIC boom", "boom"),
        ],
    )
    def test_an_error_is_one_in_any_form(self, line, shape):
        """Text, JSON, logfmt, with a compose prefix or without."""
        assert messages(tally_of(line).errors) == {shape: 1}

    @pytest.mark.parametrize(
        "line",
        [
            "2026-03-01 12:00:00 INFO no ERROR here",
            '{"level": "info", "message": "an ERROR was mended"}',
            '{"level": "info", "severity": "error"}',
            "    ERROR = 5",
            "STDERR was empty",
            'level=info msg="the ERROR is gone"',
            '2026-03-01T12:00:00.000Z [LLM_RESPONSE] node=a model=b seconds=1.5 status=200 preview="ERROR"',
        ],
    )
    def test_the_word_alone_is_no_error(self, line):
        """The first level that a line names is its level."""
        assert tally_of(line).errors.total == 0

    @given(st.lists(st.sampled_from([*EVENTS, *MORE_EVENTS]), max_size=8))
    def test_errors_and_warnings_are_those_of_the_record_reader(self, events):
        """Counting agrees with what `logs --level` shows, event by event."""
        levels = [facts(event.rstrip(b"\n")).level for event in events]
        counted = tally_of(b"".join(events))
        assert counted.errors.total == sum(level in ("error", "critical") for level in levels)
        assert counted.warnings.total == sum(level == "warning" for level in levels)

    def test_slow_is_what_is_slow_in_any_unit(self):
        """Seconds, milliseconds, words; JSON and text."""
        text = """{"duration": 12.5}
{"duration_ms": 12500}
{"elapsed": "11s"}
{"durationMs": 900}
{"duration": 1.2e-05}
2026-03-01 12:00:00 INFO call took 15.2 s
2026-03-01 12:00:00 INFO took 161 tasks
2026-03-01 12:00:00 INFO done duration=2min
"""
        counted = tally_of(text)
        assert [slow.seconds for slow in counted.slowest()] == [120.0, 15.2, 12.5, 12.5, 11.0]
        assert counted.timed.count == 7

    def test_of_many_slow_entries_the_slowest_are_kept(self):
        """All are counted, twenty are shown."""
        text = "".join(f'{{"duration": {n}}}\n' for n in range(100))
        counted = LogTally()
        for line in text.splitlines():
            counted.feed(line.encode())
        assert counted.slow_total == 89
        assert [slow.seconds for slow in counted.slowest()] == [float(n) for n in range(99, 79, -1)]

    def test_thresholds_are_the_caller_s(self):
        """A strict reader may call half a second slow."""
        counted = tally_of('{"duration": 0.6}\n{"duration": 0.4}\n', limits=CountLimits(slow_entry_s=0.5))
        assert counted.slow_total == 1


TRACE = "Traceback (most recent call last):\n  File x\n"
DURING = "During handling of the above exception, another exception occurred:"
GROUP = """  + Exception Group Traceback (most recent call last):
  |   File x
  | ExceptionGroup: two (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | KeyError: 4
    +------------------------------------
"""


class TestTracebacks:
    @pytest.mark.parametrize(
        ("text", "shape"),
        [
            (f"{TRACE}KeyError: 4\n", "KeyError: <n>"),
            (f"INFO x\n{TRACE}app.NoAnswer: 4\nINFO y\n", "app.NoAnswer: <n>"),
            (f"ERROR x\n{TRACE}KeyError: 4\n\n{DURING}\n\n{TRACE}ValueError: ERROR\n", "ValueError: ERROR"),
            (f"\nERROR x\n{TRACE}KeyError: 4".replace("\n", "\nweb-1  | "), "KeyError: <n>"),
            (f"ERROR: {TRACE}KeyError: 4\n", "KeyError: <n>"),
            ("ERROR x\n\tat com.example.Main(Main.java:7)\n", "x"),
            (GROUP, "ExceptionGroup: two (<n> sub-exceptions)"),
            ("Traceback (most recent call last):\n", "Traceback (most recent call last)"),
        ],
    )
    def test_an_event_of_many_lines_is_one_error(self, text, shape):
        """Its message is what was raised last."""
        assert messages(tally_of(text).errors) == {shape: 1}

    def test_a_warning_with_a_traceback_stays_a_warning(self):
        """`logger.warning(..., exc_info=True)` warns."""
        counted = tally_of("WARNING x\nTraceback (most recent call last):\n  File x\nKeyError: 4\n")
        assert (counted.errors.total, messages(counted.warnings)) == (0, {"KeyError: <n>": 1})


class TestTimeline:
    def test_lines_are_placed_in_their_minute(self):
        """Borders between minutes are found; lines without a time go with the one before."""
        text = "".join(
            f"2026-03-01 12:{minute:02d}:{second:02d} INFO x\nno time here\n"
            for minute in range(10)
            for second in range(0, 60, 7)
        )
        counted = tally_of(text)
        assert [bucket[0] for _, bucket in sorted(counted.timeline.buckets.items())] == [18] * 10

    @given(st.lists(st.integers(0, 3000), min_size=1, max_size=60).map(sorted))
    def test_in_a_sorted_log_each_minute_is_exact(self, seconds):
        """Whatever the gaps."""
        text = "".join(f"2026-03-01 12:{s // 60:02d}:{s % 60:02d} INFO x\n" for s in seconds)
        start = 1772366400 // 60
        counted = tally_of(text)
        for minute in range(60):
            lines = sum(s // 60 == minute for s in seconds)
            assert counted.timeline.buckets.get(start + minute, [0])[0] == lines

    def test_a_long_log_has_wider_buckets(self):
        """Years in minutes would be millions of buckets."""
        counted = LogTally()
        for day in range(0, 20_000, 1):
            counted.timeline.add(day * 86_400.0, 0)
        assert len(counted.timeline.buckets) <= 12_000
        assert sum(bucket[0] for bucket in counted.timeline.buckets.values()) == 20_000

    def test_lines_without_any_time_are_said_to_be(self):
        """They are in no minute."""
        counted = tally_of("a\nb\n")
        assert (counted.timeline.untimed_lines, counted.first, counted.lines) == (2, None, 2)

    def test_zones_are_heeded(self):
        """Noon in Moscow is nine in Greenwich."""
        counted = tally_of("2026-03-01T12:00:00.500+03:00 ERROR x\n2026-03-01T09:00:00,500 ERROR x\n")
        assert counted.first == counted.last == 1772355600.5

    def test_a_time_for_lines_without_one(self):
        """Docker knows when a line came, though the line does not say."""
        counted = LogTally()
        counted.feed(b"ERROR:    Exception in ASGI application\n", "web", 1772366400.0)
        assert counted.timeline.buckets[1772366400 // 60][1] == 1


@given(st.lists(st.binary(max_size=120), max_size=10), st.integers(0, 3))
def test_any_bytes_are_counted(lines, sign):
    """Whatever a line holds, it is one line, and counting does not raise."""
    marks = [b"", b" ERROR ", b"[LLM_ERROR] node=", b'{"level": "error", "duration": ']
    text = b"".join(marks[sign] + line.replace(b"\n", b"") + b"\n" for line in lines)
    assert tally_of(text).lines == len(lines)


def test_an_empty_block_is_nothing():
    """Feeding nothing counts nothing."""
    assert as_json(tally_of(b"")) == as_json(LogTally())
