"""Envelopes of Docker, Compose, Kubernetes nodes, the journal and syslog are no part of a text."""

import json
from datetime import UTC, datetime

import pytest

from opskit.cli.log_report import stats
from opskit.logs.files import FileSource
from opskit.logs.record import facts
from opskit.logs.select import EntryFilter
from opskit.logs.show import followed, once
from opskit.logs.source import LineSplitter, Window

TRACE = (
    "ERROR payment refused",
    "Traceback (most recent call last):",
    '  File "/srv/pay.py", line 9, in pay',
    "    charge()",
    "OSError: no route",
)
AT = datetime(2026, 5, 4, 10, 20, 30, 500_000, tzinfo=UTC).timestamp()
AFTER = "INFO paid"


def docker(text: str, stream: str = "stderr") -> str:
    return json.dumps(
        {"log": f"{text}\n", "stream": stream, "time": "2026-05-04T10:20:30.500000000Z"},
        separators=(",", ":"),
    )


def journal(text: str, priority: int = 6) -> str:
    return json.dumps(
        {
            "__CURSOR": "s=1",
            "__REALTIME_TIMESTAMP": str(round(AT * 1e6)),
            "PRIORITY": str(priority),
            "_SYSTEMD_UNIT": "pay.service",
            "_PID": "7",
            "MESSAGE": text,
        }
    )


ENVELOPES = {
    "docker json-file": docker,
    "cri": lambda text: f"2026-05-04T10:20:30.500000000Z stderr F {text}",
    "compose": lambda text: f"pay-1  | {text}",
    "compose 1 in colours": lambda text: f"\x1b[36mpay_1  |\x1b[0m {text}",
    "compose 2 in colours": lambda text: f"\x1b[36mpay-1  | \x1b[0m{text}",
    "compose with times": lambda text: f"pay-1  | 2026-05-04T10:20:30.500000000Z {text}",
    "docker logs with times": lambda text: f"2026-05-04T10:20:30.500000000Z {text}",
    "journal export": journal,
    "journal short-iso": lambda text: f"2026-05-04T10:20:30.500000+0000 host python[7]: {text}",
    "journal short-full": lambda text: f"Mon 2026-05-04 10:20:30.5 UTC host python[7]: {text}",
    "journal short-unix": lambda text: f"1777890030.500000 host python[7]: {text}",
    "syslog 5424": lambda text: f'<14>1 2026-05-04T10:20:30.5Z host pay 7 - [a@1 b="c]"] {text}',
}


def events(lines, selection, tmp_path):
    path = tmp_path / "app.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    return list(FileSource(path).wanted(selection))


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_error_and_its_traceback_are_found_inside(name, tmp_path):
    """The level, the event, the time and the bytes of the source are all kept."""
    lines = [ENVELOPES[name](text) for text in (*TRACE, AFTER)]
    [event] = events(lines, EntryFilter(level="error"), tmp_path)
    assert event.raw.decode() == "\n".join(TRACE)
    assert event.bytes_in_source.decode() == "\n".join(lines[:-1])
    assert event.at == AT or (event.at is None and name.startswith("compose"))


@pytest.mark.parametrize("name", ENVELOPES)
async def test_statistics_count_one_error(name, tmp_path, capsys):
    """A traceback inside an envelope is one error, and its message is what was raised."""
    path = tmp_path / "app.log"
    path.write_text("".join(f"{ENVELOPES[name](text)}\n" for text in (*TRACE, AFTER)))
    assert await stats((str(path),), None, None, None, None, None, json=True)
    errors = json.loads(capsys.readouterr().out)["stats"]["errors"]
    assert errors["total"] == 1
    assert "OSError: no route" in json.dumps(errors)


@pytest.mark.parametrize("wrap", [lambda s, text: f"{s}  | {text}", lambda s, text: docker(text, s)])
async def test_services_that_alternate_keep_their_tracebacks(wrap, tmp_path):
    """Each traceback stays with its own service, in a file that is read and in one that is followed."""
    lines = []
    for text in TRACE:
        lines += [wrap("pay-1", text), wrap("db-1", "LOG checkpoint")]
    path = tmp_path / "both.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    selection = EntryFilter(level="error")
    [read] = [item async for item in once([FileSource(path)], selection, Window())]
    stream = followed([FileSource(path)], selection, Window(tail=100))
    live = await anext(stream)
    await stream.aclose()
    assert read.raw.decode() == live.raw.decode() == "\n".join(TRACE)


def test_parts_of_a_long_line_are_one_line():
    """Docker cuts at 16 KiB, Kubernetes marks parts with P; another stream may stand in between."""
    cri = "2026-05-04T10:20:30.5Z"
    for lines in (
        ['{"log":"ERROR be","stream":"stderr","time":"2026-05-04T10:20:30Z"}', docker("gin")],
        [f"{cri} stderr P ERROR be", f"{cri} stdout F other", f"{cri} stderr F gin"],
    ):
        entries = LineSplitter("s").feed("".join(f"{line}\n" for line in lines).encode())
        assert entries[-1].raw == b"ERROR begin"


def test_a_priority_is_the_level_of_a_text_without_one(tmp_path):
    """What the program says itself counts more."""
    lines = [journal("disk is dying", 3), journal("INFO all is well", 3), journal("hello")]
    assert [event.raw for event in events(lines, EntryFilter(level="error"), tmp_path)] == [b"disk is dying"]


def test_what_a_person_greps_for_is_the_text_or_the_name_in_front(tmp_path):
    """`^` is the beginning of the text; the service is found as well; keys of the JSON are not."""
    compose = ENVELOPES["compose"]
    assert len(events([compose("a"), compose("ba")], EntryFilter(grep=("^a",)), tmp_path)) == 1
    assert len(events([compose("a")], EntryFilter(grep=("pay-1",)), tmp_path)) == 1
    assert not events([docker("a")], EntryFilter(grep=("stream",)), tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "INFO | started",
        "2026-05-04T10:20:30Z ERROR worker: task 1 failed",
        "2026-05-04T10:20:30.123Z [LLM_CALL] node=a model=b",
        "May  4 10:20:30 ERROR worker: task 1 failed",
        '{"log":"not Docker\'s","level":"error"}',
        "",
    ],
)
def test_what_only_resembles_an_envelope_stays(line):
    """A line is never shortened for its looks."""
    assert [entry.written for entry in LineSplitter("s").feed(f"{line}\n".encode())] == [None]


def test_a_line_outside_the_envelope_is_kept(tmp_path):
    """A torn line among wrapped ones is read as it stands."""
    lines = [docker("a"), '{"log":"ERROR to', docker("c")]
    found = events(lines, EntryFilter(), tmp_path)
    assert [event.raw for event in found][-2:] == [b'{"log":"ERROR to', b"c"]
    assert facts(found[-1].raw).level is None
