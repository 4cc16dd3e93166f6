"""The time of a line, whoever wrote it: local without a zone, counted from the epoch, without a year."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from opskit.logs.files import FileSource
from opskit.logs.record import LogEntry, facts
from opskit.logs.select import EntryFilter
from opskit.logs.show import followed, once
from opskit.logs.source import Window
from opskit.logs.stats import LogTally
from opskit.logs.times import minute_s, timestamp

AT = datetime(2026, 5, 4, 10, 20, 30, tzinfo=UTC)


@pytest.fixture(params=["America/New_York", "Asia/Kolkata", "UTC"])
def zone(request, monkeypatch):
    """The time zone of this machine."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    minute_s.cache_clear()
    yield request.param
    monkeypatch.undo()
    time.tzset()
    minute_s.cache_clear()


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M:%S,000 ERROR x",
        "%Y-%m-%dT%H:%M:%S x",
        "%Y/%m/%d %H:%M:%S x",
        '[GIN] %Y/%m/%d - %H:%M:%S | 200 | 1.2s | ::1 | GET "/"',
        '{"time":"%Y-%m-%d %H:%M:%S","msg":"x"}',
        "[%a %b %d %H:%M:%S.000 %Y] [core:error] x",
        "1:M %d %b %Y %H:%M:%S.000 # WARNING x",
        "[%d-%b-%Y %H:%M:%S] WARNING: x",
        "INFO:     [%d-%m-%Y %H:%M:%S] x",
    ],
)
def test_a_time_without_a_zone_is_local(zone, form):
    """What a program writes without a zone is the time of its machine."""
    line = AT.astimezone().strftime(form).encode()
    assert timestamp(line) == facts(line).at == AT.timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-04T10:20:30Z x",
        "2026-05-04 10:20:30.000 UTC [1] LOG: x",
        "2026-05-04 12:20:30+02:00 x",
        "2026-05-04 15:50:30 +0530 x",
        '::1 - - [04/May/2026:12:20:30 +0200] "GET / HTTP/1.1" 200 5',
        "ts=1777890030 level=info",
        "time=1777890030000 level=info",
        '{"ts":1777890030.0000002,"msg":"x"}',
        '{"time":"1777890030000000","msg":"x"}',
        '{"ts":1777890030000000000,"msg":"x"}',
        '{"ts":1.77789003e9,"msg":"x"}',
        '{"@timestamp":1777890030000,"msg":"x"}',
        "1777890030.000000 [0 127.0.0.1:5000] x",
        "[1777890030000] ERROR x",
    ],
)
def test_a_zone_or_an_epoch_holds_everywhere(zone, text):
    """The zone of this machine changes nothing."""
    assert timestamp(text.encode()) == pytest.approx(AT.timestamp(), abs=1e-5)
    assert facts(text.encode()).at == pytest.approx(AT.timestamp(), abs=1e-5)


@pytest.mark.parametrize("days", [0, 40, 300])
@pytest.mark.parametrize(
    "form",
    [
        "%b %e %H:%M:%S host app[1]: x",
        "E%m%d %H:%M:%S.000000 1 a.go:2] x",
        "(Engine pid=12) ERROR %m-%d %H:%M:%S [core.py:700] x",
    ],
)
def test_a_time_without_a_year_is_the_latest_that_has_been(days, form):
    """Syslog, klog and vLLM leave the year out."""
    at = (datetime.now().astimezone() - timedelta(days=days)).replace(microsecond=0)
    assert timestamp(at.strftime(form).encode()) == at.timestamp()


def test_pythons_own_server_writes_local_time():
    """It writes the time of an access log with a blank and without a zone."""
    line = b'127.0.0.1 - - [28/Nov/2026 05:35:44] "POST /v1/chat/completions HTTP/1.1" 200 -'
    assert timestamp(line) == datetime(2026, 11, 28, 5, 35, 44).astimezone().timestamp()


def test_what_only_resembles_a_zone_is_none(zone):
    """A word or a number behind the time is none of its zone."""
    local = AT.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert timestamp(f"{local} Zebra".encode()) == AT.timestamp()
    assert timestamp(f"{local} -123456".encode()) == AT.timestamp()


@pytest.mark.parametrize("prefix", ["", "web-1  | "])
async def test_a_line_without_a_time_belongs_to_the_one_before_it(prefix, tmp_path):
    """At the beginning of a file it belongs to the first that has one."""
    path = tmp_path / "app.log"
    lines = (
        "banner",
        "2026-05-04T10:00:00Z old",
        "OLD",
        "2026-05-04T10:20:30Z new",
        "NEW",
        "2026-99-99 99:99:99 Q",
    )
    path.write_text("".join(f"{prefix}{line}\n" for line in lines))
    since = AT.timestamp() - 60
    shown = [item.raw async for item in once([FileSource(path)], EntryFilter(since=since), Window())]
    assert shown == [b"2026-05-04T10:20:30Z new", b"NEW", b"2026-99-99 99:99:99 Q"]


async def test_lines_of_which_no_time_is_known_are_shown(tmp_path):
    """A log without times is not silently outside of --since, read or followed."""
    path = tmp_path / "app.log"
    path.write_text("one\ntwo\n")
    selection, window = EntryFilter(since=AT.timestamp()), Window(since=AT.timestamp())
    assert [item.raw async for item in once([FileSource(path)], selection, window)] == [b"one", b"two"]
    stream = followed([FileSource(path)], selection, window)
    assert [(await anext(stream)).raw, (await anext(stream)).raw] == [b"one", b"two"]
    await stream.aclose()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("msg=done elapsed=191.989µs", 191.989e-6),
        ("msg=done elapsed=1m0s", 60.0),
        ("msg=done duration=1h2m3.5s", 3723.5),
        ('{"msg":"done","duration":"3.428625625s"}', 3.428625625),
        ("took 1m30s to load", 90.0),
        ("took 250µs to load", 250e-6),
        ("took 3 s to load", 3.0),
        ('{"msg":"done","duration_ms":12.5}', 0.0125),
        ("msg=done elapsed=12ms", 0.012),
    ],
)
def test_durations_of_go_are_read(text, seconds):
    """`191.989µs` is no 192 seconds, and `1m0s` is a minute."""
    tally = LogTally()
    tally.feed(f"{text}\n".encode(), "app")
    assert tally.timed.greatest == pytest.approx(seconds)


def test_the_minutes_of_statistics_are_those_of_every_writing():
    """Lines with slashes are placed like those with dashes."""
    tally = LogTally()
    for minute in range(5):
        at = (AT + timedelta(minutes=minute)).astimezone()
        tally.feed(at.strftime('[GIN] %Y/%m/%d - %H:%M:%S | 500 | 1s | ::1 | GET "/"\n').encode(), "app")
    assert (tally.first, tally.last) == (AT.timestamp(), AT.timestamp() + 240)
    assert len(tally.timeline.buckets) == 5
    assert LogEntry("app", b"x").at is None


@pytest.mark.parametrize(
    "line",
    [
        b'{"timeUnixNano":"1777890030500000000","body":{"stringValue":"x"}}',
        b'{"timeUnixNano":1777890030500000000,"body":{"stringValue":"x"}}',
        b'{"timeUnixNano":"0","observedTimeUnixNano":"1777890030500000000"}',
        b'{"t":{"$date":"2026-05-04T10:20:30.500+00:00"},"s":"I","c":"NETWORK"}',
        b'{"t": {"$date": 1777890030500}, "s": "I", "c": "NETWORK"}',
        b'{"t":{"$date":{"$numberLong":"1777890030500"}},"s":"I","c":"NETWORK"}',
        b'{"_id":1,"createdAt":{"$date":"2026-05-04T10:20:30.500Z"},"msg":"x"}',
        b'{"instant":{"epochSecond":1777890030,"nanoOfSecond":500000000},"message":"x"}',
        b'{"timestamp":{"seconds":1777890030,"nanos":500000000},"message":"x"}',
        b'{"ts":{"$timestamp":{"t":1777890030,"i":1}},"message":"x"}',
    ],
)
def test_a_time_that_is_written_as_an_object_or_in_nanoseconds(line: bytes) -> None:
    """OpenTelemetry, MongoDB, Log4j and protobuf; a search that reads no JSON knows it to the second."""
    assert facts(line).at == pytest.approx(1777890030.5, abs=0.0 if b"$timestamp" not in line else 0.5)
    assert timestamp(line) == pytest.approx(1777890030.5, abs=0.5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"severityNumber":9,"body":{"stringValue":"queue is long"}}', "queue is long"),
        (b'{"severity_number":9,"body":{"string_value":"queue is long"}}', "queue is long"),
        (
            b'{"body":{"kvlistValue":{"values":[{"key":"msg","value":{"stringValue":"in a list"}}]}}}',
            "in a list",
        ),
        (b'{"body":{"message":"structured","code":5}}', "structured"),
        (b'{"body":{"intValue":"5"}}', "5"),
        (b'{"body":{"code":5}}', '{"code": 5}'),
    ],
)
def test_a_message_that_is_written_as_an_object(line: bytes, message: str) -> None:
    """The text in it, else the object as JSON."""
    assert facts(line).message == message


@pytest.mark.parametrize(
    ("line", "identifier"),
    [
        (b'{"trace_id":"0x5b8efff798038103d269b633813fc60c","body":"x"}', "5b8efff798038103d269b633813fc60c"),
        (b'{"trace_id":"0x00000000000000000000000000000000","body":"x"}', None),
        (b'{"request_id":0,"msg":"x"}', "0"),
        (
            b'{"body":"x","attributes":[{"key":"correlation_id","value":{"stringValue":"job-7"}}]}',
            "job-7",
        ),
    ],
)
def test_the_id_of_a_record_of_opentelemetry(line: bytes, identifier: str | None) -> None:
    """That of its trace, unless that is none, or one among its attributes."""
    assert facts(line).correlation_id == identifier
