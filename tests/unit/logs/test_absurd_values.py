"""Whatever a log line holds, reading it never raises: absurd numbers, times out of range, broken text."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opskit.errors import UsageError
from opskit.facts.model_requests import calls_of
from opskit.logs.frames import split_time
from opskit.logs.record import LogEntry, facts
from opskit.logs.request import story
from opskit.logs.stats import LogTally
from opskit.logs.stats_report import as_json, as_markdown
from opskit.logs.times import timestamp
from opskit.records import asdict
from opskit.text import EARLIEST_S, LATEST_S, epoch_s, utc
from opskit.watch.requests import RequestTracker

ID = "8979fe84-3a15-468c-96c9-758325391ded"
NS = 1763629171255000000
#: As a log may write them, where a time, a level, a number of seconds or a count is expected.
WORDS = [
    *(str(NS // unit) for unit in (1, 10**3, 10**6, 10**9)),
    *(
        "0",
        "-1",
        "-1763629171",
        "1e400",
        "-1e400",
        "1e305",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e-400",
        "1" + "0" * 400,
    ),
    *("1" + "0" * 5000, "true", "null", '""', "[]", "{}", "[" * 400 + "]" * 400, "[" * 3000, '{"a":' * 300),
    *('"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59-14:00"', '"2026-02-31T25:61:61Z"', '"\\ud800"'),
    *('"2026-11-20T08:00:00+99:99"', f'"{NS}"', '"' + "9" * 5000 + '"', '"\u00b2"', "1763629171.255000000"),
]
TEXTS = st.sampled_from(WORDS) | st.text(max_size=30) | st.floats().map(str) | st.integers().map(str)
STAMPS = st.sampled_from(
    [
        *(
            "2026-11-20T08:00:00Z ",
            "2026-11-20 08:00:inf   ",
            "2026-11-20T08:00:nan000Z ",
            "2026-11-20 08:00:1e9.25Z ",
        ),
        *("0000-00-00T00:00:00Z ", "9999-12-31T23:59:59-23:59 ", "0001-01-01T00:00:00+23:59 ", ""),
        *("2026-11-20T08:00:60Z ", "2026-11-20T08:00:00,999999999999+99:99 ", "web-1  | "),
    ]
)
TAGS = st.sampled_from(
    ["LLM_CALL", "LLM_RESPONSE", "LLM_ERROR", "LLM_CRASH", "LLM_PARSE", "FALLBACK", "REQUEST"]
)


@st.composite
def json_lines(draw: st.DrawFn) -> bytes:
    names = ("ts", "time", "timestamp", "@timestamp", "level", "msg", "duration_ms", "request_id", "elapsed")
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), TEXTS), max_size=5))
    return ("{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}").encode(
        "utf-8", "surrogatepass"
    )


@st.composite
def tagged_lines(draw: st.DrawFn) -> bytes:
    names = ("node", "model", "seconds", "tokens", "first_token_s", "fault", "status", "num_ctx", "fallback")
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), TEXTS), max_size=6))
    head = f"{draw(STAMPS)}[{draw(TAGS)}] correlation_id={ID} "
    return (head + " ".join(f"{name}={value}" for name, value in pairs)).encode("utf-8", "surrogatepass")


LINES = st.one_of(
    json_lines(),
    tagged_lines(),
    st.binary(max_size=120),
    st.tuples(STAMPS, TEXTS).map(lambda pair: "ERROR took ".join(pair).encode("utf-8", "surrogatepass")),
)
LOGS = st.lists(LINES, min_size=1, max_size=6)
OURS = f"2026-11-20T08:00:00.000Z [LLM_RESPONSE] correlation_id={ID} node=a model=b"


def every_word(test):
    """One example of each word, as a time, a level and a number."""
    for word in WORDS:
        test = example([f'{{"ts":{word},"level":{word},"msg":{word},"duration_ms":{word}}}'.encode()])(test)
        ours = f"{OURS} seconds={word} status=200 first_token_s=1 tokens={word} ok=1".encode()
        test = example([b"2026-11-20T08:00:00.000Z ERROR x", ours])(test)
    return test


@every_word
@given(LOGS)
def test_no_line_ends_its_reader(lines: list[bytes]) -> None:
    """The facts of a line and its time, which is one that can be written, or none."""
    for line in lines:
        for at in (facts(line).at, timestamp(line)):
            assert at is None or utc(at)


@every_word
@given(LOGS)
def test_no_line_ends_statistics(lines: list[bytes]) -> None:
    """`logs stats` counts every line and draws its reports."""
    tally = LogTally()
    tally.feed(b"\n".join(lines) + b"\n", "a.log")
    assert tally.lines == b"\n".join(lines).count(b"\n") + 1
    assert as_markdown(tally)
    json.dumps(as_json(tally), allow_nan=False)


@every_word
@given(LOGS)
def test_no_line_ends_a_request(lines: list[bytes]) -> None:
    """`logs request`, `watch` and `doctor` join the calls of what can be read."""
    entries = [LogEntry("a.log", line, timestamp(line)) for line in lines]
    try:
        assert story(entries, ID).lines
    except UsageError:
        assert not any(ID.encode() in line.lower() for line in lines)
    requests = RequestTracker()
    for entry in entries:
        requests.take(facts(entry.raw), entry.at or 0.0)
    assert asdict(requests.summary(0.0))
    calls_of(map(facts, lines))


@given(st.binary(max_size=60))
@example(b"9999-12-31T23:59:59.999999999-23:59 x")
@example(b"0001-01-01T00:00:00Z x")
def test_the_time_of_docker_can_be_written(raw: bytes) -> None:
    """What stands in front of a message is a time within range, or no time."""
    at_ns, _ = split_time(raw, 5)
    assert utc(at_ns / 1e9)


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_seconds_to_nanoseconds_are_told_apart(unit: int) -> None:
    """A number that counts s, ms, µs or ns since the epoch is the same time."""
    assert epoch_s(NS * unit // 10**9) == pytest.approx(NS / 1e9, abs=1)
    assert facts(f'{{"ts":{NS * unit // 10**9}}}'.encode()).at == pytest.approx(NS / 1e9, abs=1)
    assert facts(f'{{"ts":"{NS * unit // 10**9}"}}'.encode()).at == pytest.approx(NS / 1e9, abs=1)


def test_a_number_is_the_time_of_a_json_line_wherever_it_is_read() -> None:
    """What `--since` compares is what the line says."""
    line = b'{"ts": 1772366400.5, "msg": "x"}'
    assert timestamp(line) == facts(line).at == 1772366400.5


@given(st.floats() | st.integers() | st.sampled_from([10**400, -(10**400), math.nan, True, None, "1", []]))
def test_other_numbers_are_no_time(number: object) -> None:
    """A time lies between 1973 and 5138, or there is none."""
    at = epoch_s(number)
    assert at is None or EARLIEST_S <= at < LATEST_S
