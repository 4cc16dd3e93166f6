"""`opskit logs` as people use it: sources in, wanted lines out."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts.command import environment, opskit, started

ID = "8979fe84-3a15-468c-96c9-758325391ded"
TAGGED = f"2026-11-20T08:00:01Z [LLM_CALL] correlation_id={ID} node=ollama model=phi3.5:3.8b fallback=false"
FAILED = f"2026-11-20T08:00:02Z [LLM_ERROR] correlation_id={ID} node=ollama fault=reset seconds=0.2"
PLAIN = "2026-11-20T08:00:00Z INFO nothing much"
TRACE = (
    "2026-11-20T08:00:03Z ERROR it failed\n"
    "Traceback (most recent call last):\n"
    '  File "a.py", line 1, in f\n'
    "ValueError: no"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text(f"{PLAIN}\n{TAGGED}\n{FAILED}\n{TRACE}\n{PLAIN}\n")
    return path


def logs(*arguments: str, home: Path, **rest):
    return opskit("logs", *arguments, home=home, **rest)


def test_tagged_lines_by_default(home: Path, log: Path) -> None:
    """Without a condition the tags of SPEC A1 are shown, and nothing else."""
    result = logs(str(log), home=home)
    assert (result.status, result.out.splitlines()) == (0, [TAGGED, FAILED])


def test_tags_can_be_chosen(home: Path, log: Path) -> None:
    """--tag takes names and wildcards."""
    assert logs(str(log), "--tag", "LLM_ERROR,FALLBACK", home=home).out.splitlines() == [FAILED]
    assert logs(str(log), "--tag", "LLM_*", home=home).out.splitlines() == [TAGGED, FAILED]


def test_an_event_is_shown_whole(home: Path, log: Path) -> None:
    """A match in a traceback brings the line that failed; --raw shows the line alone, as grep does."""
    assert logs(str(log), "--grep", "ValueError", home=home).out == TRACE + "\n"
    assert logs(str(log), "--grep", "ValueError", "--raw", home=home).out == "ValueError: no\n"


def test_conditions_join(home: Path, log: Path) -> None:
    """--id, --not, --level, --since and --until."""
    assert logs(str(log), "--id", ID[:8], "--not", "CALL", home=home).out.splitlines() == [FAILED]
    assert logs(str(log), "--level", "error", home=home).out == FAILED + "\n" + TRACE + "\n"
    window = ["--since", "2026-11-20T08:00:02Z", "--until", "2026-11-20T08:00:03Z"]
    assert logs(str(log), "--all", *window, home=home).out.splitlines() == [FAILED]


def test_context(home: Path, log: Path) -> None:
    """-C shows neighbours."""
    assert logs(str(log), "--tag", "LLM_ERROR", "-C", "1", home=home).out == f"{TAGGED}\n{FAILED}\n{TRACE}\n"


def test_tail(home: Path, log: Path) -> None:
    """--tail looks at the last lines only."""
    assert logs(str(log), "--all", "--tail", "1", home=home).out == PLAIN + "\n"


def test_several_sources_are_merged(home: Path, tmp_path: Path, log: Path) -> None:
    """By time, each line behind its source; packed files too."""
    with gzip.open(tmp_path / "old.log.gz", "wb") as packed:
        packed.write(TAGGED.replace("08:00:01", "07:59:59").encode() + b"\n")
    result = logs(str(log), str(tmp_path / "old.log.gz"), home=home)
    assert [line.split(" | ")[0] for line in result.out.splitlines()] == ["old.log.gz", "app.log", "app.log"]


def test_json_is_one_object_for_each_event(home: Path, log: Path) -> None:
    """--json holds time, tag, level, id, fields and the raw text."""
    result = logs(str(log), "--tag", "LLM_ERROR", "--json", home=home)
    found = json.loads(result.out)
    assert (found["source"], found["tag"], found["level"]) == ("app.log", "LLM_ERROR", "error")
    assert (found["correlation_id"], found["fields"]["fault"]) == (ID, "reset")
    assert (found["raw"], found["at"]) == (FAILED, "2026-11-20T08:00:02.000000Z")


def test_raw_is_byte_for_byte_in_both_engines(home: Path, tmp_path: Path) -> None:
    """Invalid UTF-8, NUL, CR, no last line end: the bytes as they stand, with ripgrep and without."""
    path = tmp_path / "odd.log"
    lines = [
        b"\xff\xfe [LLM_CALL] \x00 x\r",
        b"plain",
        b"[FALLBACK] \xf0\x9f\x92\xa5",
        b"[LLM_X] last [REQUEST]",
    ]
    path.write_bytes(b"\n".join(lines))
    expected = b"\n".join([lines[0], lines[2], lines[3]]) + b"\n"
    found = []
    for search_path in (os.environ["PATH"], "/nonexistent"):
        out = tmp_path / "out"
        import subprocess
        import sys

        from tests.parts.command import environment

        home.mkdir(exist_ok=True)
        with out.open("wb") as file:
            subprocess.run(
                [sys.executable, "-m", "opskit", "logs", str(path), "--raw"],
                stdout=file,
                env={**environment(home), "PATH": search_path},
                timeout=30,
                check=True,
            )
        found.append(out.read_bytes())
    assert found == [expected, expected]


def test_standard_input_and_compose_prefixes(home: Path) -> None:
    """`docker-compose logs | opskit logs -` is read: the prefix is no part of the line."""
    text = f"web-1     | {TAGGED}\nworker-1  | {PLAIN}\nweb-1     | {FAILED}\n"
    result = logs("-", "--json", home=home, stdin=text.encode())
    assert [json.loads(line)["tag"] for line in result.out.splitlines()] == ["LLM_CALL", "LLM_ERROR"]


def test_our_own_log_is_the_default(home: Path) -> None:
    """After a run its lines are there without naming a source."""
    run = opskit("run", "What is 6 times 7?", "--sandbox", "--local", "--json", home=home)
    result = logs(
        "--id", run.document["correlation_id"], home=home, env={"DOCKER_HOST": "unix:///nonexistent"}
    )
    assert result.status == 0, result
    assert len(result.out.splitlines()) == 4


@pytest.mark.parametrize("form", [[], ["--grep", "LLM_CALL"], ["--raw"], ["show", "--all"]])
def test_what_is_piped_in_is_read(home: Path, form: list[str]) -> None:
    """Without a source `cat x.log | opskit logs` reads the pipe, as grep would; so does `< x.log`."""
    piped = f"{TAGGED}\n".encode()
    assert logs(*form, home=home, stdin=piped).out == f"{TAGGED}\n"
    (home / "x.log").write_bytes(piped)
    shell = ["/bin/sh", "-c", '"$@" < x.log', "sh", sys.executable, "-m", "opskit", "logs", *form]
    done = subprocess.run(shell, env=environment(home), cwd=home, capture_output=True, timeout=60)
    assert done.stdout == piped


def test_reports_read_the_pipe_too(home: Path) -> None:
    """`logs stats` and `logs request` without a source."""
    stats = logs("stats", "--json", home=home, stdin=f"{TAGGED}\n".encode())
    assert stats.document["stats"]["tags"] == {"LLM_CALL": 1}
    assert "LLM_CALL" in logs("request", ID, home=home, stdin=f"{TAGGED}\n".encode()).out


def test_a_silent_pipe_is_not_waited_for(home: Path) -> None:
    """A pipe that is open and says nothing, as under ssh, leaves the default sources; stderr says so."""
    assert opskit("run", "What is 6 times 7?", "--sandbox", home=home).status == 0
    with subprocess.Popen(
        [sys.executable, "-m", "opskit", "logs"],
        env=environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home,
    ) as process:
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"[REQUEST]" in process.stdout.read()
        assert b"standard input is open and silent" in process.stderr.read()


def test_nothing_found_says_what_was_searched(home: Path, log: Path) -> None:
    """Exit 1 like grep, with sources, conditions and window."""
    result = logs(str(log), "--tag", "FALLBACK", "--since", "10m", home=home)
    assert (result.status, result.out) == (1, "")
    assert "nothing found" in result.err
    assert "app.log" in result.err
    assert "FALLBACK" in result.err
    assert "since" in result.err


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["{log}", "--grep", "(?=x)"], 2, "VAL_002"),
        (["{log}", "--grep", "("], 2, "VAL_002"),
        (["{log}", "--tag", "not a tag"], 2, "VAL_002"),
        (["{log}", "--level", "loud"], 2, "VAL_002"),
        (["{log}", "--since", "yesterdayish"], 2, "VAL_002"),
        (["{log}", "-f", "-C", "1"], 2, "VAL_002"),
        (["/nonexistent/x.log"], 1, "LOG_001"),
        (["/tmp"], 1, "LOG_001"),
    ],
)
def test_bad_input_is_told_in_one_line(
    home: Path, log: Path, arguments: list[str], status: int, code: str
) -> None:
    """Patterns, tags, levels, times and paths that cannot be used."""
    result = logs(*(argument.format(log=log) for argument in arguments), home=home)
    assert result.status == status, result
    assert code in result.err
    assert "Traceback" not in result.err


def test_a_torn_gzip_gives_what_it_holds(home: Path, tmp_path: Path) -> None:
    """A gz that was cut is read as far as it goes; status 1 says that this is not all."""
    whole = gzip.compress(b"".join(b"%d [LLM_CALL] x\n" % n for n in range(20_000)))
    (tmp_path / "torn.gz").write_bytes(whole[: len(whole) // 2])
    result = logs(str(tmp_path / "torn.gz"), home=home)
    assert result.status == 1
    assert len(result.out.splitlines()) > 1000
    assert "ends in the middle" in result.err
    counted = logs("stats", str(tmp_path / "torn.gz"), "--by", "tag", home=home)
    assert (counted.status, "LLM_CALL" in counted.out) == (1, True)
    assert "ends in the middle" in counted.err


def test_a_large_log_without_times_is_shown_within_seconds(home: Path, tmp_path: Path) -> None:
    """The first time behind an event is sought once, not behind each event again."""
    path = tmp_path / "untimed.log"
    path.write_bytes(b"".join(b"%d [LLM_CALL] x\n" % number for number in range(100_000)))
    result = logs(str(path), "--level", "debug", "--tag", "LLM_CALL", home=home)
    assert (result.status, len(result.out.splitlines())) == (0, 100_000)


def test_a_hundred_megabyte_line(home: Path, tmp_path: Path) -> None:
    """It is searched in pieces: the lines around it are found and memory stays small."""
    path = tmp_path / "long.log"
    with path.open("wb") as file:
        file.write(TAGGED.encode() + b"\n")
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b"\n" + FAILED.encode() + b"\n")
    result = logs(str(path), home=home)
    assert result.out.splitlines() == [TAGGED, FAILED]


def test_following_until_ctrl_c(home: Path, log: Path) -> None:
    """-f shows what is appended at once and ends with 130."""
    process = started(["logs", str(log), "-f"], home=home)
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in range(2)] == [TAGGED, FAILED]
    with log.open("a") as file:
        file.write(f"{PLAIN}\n{TAGGED} again\n")
    assert process.stdout.readline().strip() == f"{TAGGED} again"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_file_that_is_not_there_is_waited_for(home: Path, log: Path, tmp_path: Path) -> None:
    """-f says on stderr that it waits, shows the other file, and then what is written, as `tail -F` does."""
    late = tmp_path / "late.log"
    process = started(["logs", str(late), str(log), "-f"], home=home)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stderr.readline() == "-- late.log: no such file or directory; waiting for it\n"
    assert process.stdout.readline() == f"app.log | {TAGGED}\n"
    assert process.stdout.readline() == f"app.log | {FAILED}\n"
    late.write_text(f"{TAGGED}\n")
    assert process.stdout.readline() == f"late.log | {TAGGED}\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


BAD = {
    "a file that is not there": "nosuch.log",
    "a folder": "{folder}",
    "a pattern that matches nothing": "nosuch*.log",
    "a container that nobody knows": "nosuch-container",
    "a journal without journalctl": "journal:nosuch",
    "a pipe": "{pipe}",
    "a packed file that is none": "{packed}",
}
if os.geteuid():
    BAD["a file without permission"] = "{denied}"
if Path("/proc/self/mem").exists():
    BAD["a file that fails while it is read"] = "/proc/self/mem"


@pytest.fixture(params=BAD)
def bad(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A source that cannot be read."""
    spec = BAD[request.param].format(
        folder=tmp_path,
        denied=tmp_path / "denied.log",
        pipe=tmp_path / "pipe.log",
        packed=tmp_path / "bad.gz",
    )
    (tmp_path / "denied.log").touch(0o000)
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "bad.gz").write_bytes(b"\x1f\x8b\x08\x00 this is no gzip")
    return spec


@pytest.mark.parametrize(
    "form", [["show"], ["show", "--raw"], ["show", "--json"], ["stats"], ["request", ID]]
)
def test_one_bad_source_does_not_end_the_others(home: Path, log: Path, bad: str, form: list[str]) -> None:
    """The others are shown, the bad one is said once on stderr, and status 1 says that it was not all."""
    env = {"DOCKER_HOST": "unix:///nonexistent.sock", "PATH": "/nonexistent"}
    result = logs(*form, bad, str(log), home=home, env=env)
    assert result.status == 1
    assert "LLM_ERROR" in result.out
    said = result.err.splitlines()
    assert len(said) == 1, result.err
    assert "_00" in said[0]
    assert "Next: " in said[0]


def test_one_bad_source_does_not_end_following(home: Path, log: Path, bad: str) -> None:
    """-f shows what comes in the others, and says once what is wrong with the bad one."""
    env = {"DOCKER_HOST": "unix:///nonexistent.sock", "PATH": "/nonexistent"}
    process = started(["logs", "-f", bad, str(log)], home=home, env=env)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().endswith(f"{TAGGED}\n")
    assert process.stderr.readline().startswith("-- ")
    with log.open("a") as file:
        file.write(f"{TAGGED} again\n")
    while " again" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")


def test_only_bad_sources_are_an_error(home: Path, bad: str) -> None:
    """With nothing else to show there is one line with a code, and status 1."""
    env = {"DOCKER_HOST": "unix:///nonexistent.sock", "PATH": "/nonexistent"}
    for form in ("show", "stats"):
        result = logs(form, bad, home=home, env=env)
        assert (result.status, result.out) == (1, "")
        assert result.err.startswith("opskit: "), result.err
        assert len(result.err.splitlines()) == 1


def test_a_log_in_utf_16_is_read_as_text(home: Path, tmp_path: Path) -> None:
    """What Windows writes is searched and counted like any other log, in both orders of bytes."""
    for encoding, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        path = tmp_path / f"{encoding}.log"
        path.write_bytes(mark + f"{PLAIN}\n{TRACE}\n".encode(encoding))
        assert logs(str(path), "--level", "error", home=home).out == TRACE + "\n"
        assert json.loads(logs("stats", str(path), "--json", home=home).out)["stats"]["errors"]["total"] == 1


def test_a_named_pipe_is_read_until_its_writer_ends(home: Path, tmp_path: Path) -> None:
    """As `opskit logs <(journalctl)` gives one, read and followed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for arguments in (("--all",), ("--all", "--follow")):
        writer = subprocess.Popen(["sh", "-c", f'echo "{PLAIN}" > "{pipe}"'])
        result = logs(str(pipe), *arguments, home=home)
        assert (result.status, result.out, writer.wait()) == (0, PLAIN + "\n", 0)


def test_nothing_on_standard_input_is_the_end(home: Path) -> None:
    """`opskit logs - < /dev/null`, as cron runs it, finds nothing and ends."""
    home.mkdir()
    command = [sys.executable, "-m", "opskit", "logs", "-", "--all"]
    environ = environment(home, None)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environ, timeout=60)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Traceback" not in done.stderr


def test_levels_are_named_as_programs_name_them(home: Path, log: Path) -> None:
    """`warn` and `ERROR` are levels."""
    for name in ("warn", "ERROR", "err"):
        assert logs(str(log), "--level", name, home=home).out == f"{FAILED}\n{TRACE}\n"


def test_a_window_that_ends_before_it_begins_is_a_mistake(home: Path, log: Path) -> None:
    """It says so, instead of that nothing was found."""
    result = logs(str(log), "--all", "--since", "5m", "--until", "10m", home=home)
    assert (result.status, "--since 5m is not before --until 10m" in result.err) == (2, True)


def test_a_request_is_found_under_the_id_of_its_trace(home: Path, tmp_path: Path) -> None:
    """A traceparent holds the same digits without dashes, and either spelling finds both."""
    path, bare = tmp_path / "traced.log", ID.replace("-", "")
    path.write_text(f"{TAGGED}\n2026-11-20T08:00:02Z traceparent: 00-{bare}-00f067aa0ba902b7-01\n{FAILED}\n")
    for identifier in (ID, bare, ID[:13], bare[:12]):
        story = json.loads(logs("request", identifier, str(path), "--json", home=home).out)
        assert (story["correlation_id"], len(story["lines"])) == (ID, 3)
        assert len(logs(str(path), "--id", identifier, home=home).out.splitlines()) == 3
