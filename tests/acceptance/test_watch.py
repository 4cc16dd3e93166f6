"""`opskit watch` as people and scripts use it."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.parts.command import NOBODY, opskit, started
from tests.parts.terminal import ALTERNATE, BACK, OnTerminal

ID = "8979fe84-3a15-468c-96c9-758325391ded"
NO_DOCKER = {"DOCKER_HOST": "unix:///nonexistent.sock"}
ERROR = "2026-11-20T08:00:02Z ERROR the worker lost its database"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@contextmanager
def simulated(home: Path, *faults: str) -> Iterator[dict[str, str]]:
    """A simulated stack in a process of its own, and the environment that leads to it."""
    arguments = [word for fault in faults for word in ("--fault", fault)]
    with started(["sandbox", "up", "--json", *arguments], home=home) as process:
        assert process.stdout is not None
        text = ""
        while not text or text.count("{") != text.count("}"):
            text += process.stdout.readline()
        yield {**json.loads(text)["environment"], **NO_DOCKER}
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


@pytest.fixture
def stack(home: Path) -> Iterator[dict[str, str]]:
    with simulated(home) as environment:
        yield environment


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class Stream:
    """The events of a watch that runs, read one by one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[dict[str, Any]] = []

    def until(self, event: str, **fields: Any) -> dict[str, Any]:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            self.seen.append(json.loads(line))
            one = self.seen[-1]
            if one["event"] == event and all(one[key] == value for key, value in fields.items()):
                return one
        raise AssertionError(f"it ended without {event} {fields}: {self.seen}")


@pytest.fixture
def watching(home: Path) -> Iterator[Any]:
    """Starts watches that live no longer than the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, env: dict[str, str] | None = None) -> Stream:
        running.append(started(["watch", *arguments], home=home, env={**NO_DOCKER, **(env or {})}))
        return Stream(running[-1])

    yield start
    for process in running:
        process.kill()
        process.communicate()


def events(*arguments: str, home: Path, env: dict[str, str] | None = None):
    result = opskit("watch", *arguments, home=home, env={**NO_DOCKER, **(env or {})})
    return result, [json.loads(line) for line in result.out.splitlines()]


def test_a_well_stack_is_told_event_by_event(home: Path, stack: dict[str, str]) -> None:
    """Where nobody looks every line is one JSON object; the first states are events of their own."""
    result, told = events("--count", "2", "--every", "500ms", home=home, env=stack)
    assert result.status == 0, result
    assert {one["schema_version"] for one in told} == {1}
    states = {one["target"]: one["to"] for one in told if one["event"] == "state"}
    assert states == {"ollama": "ok", "mlx": "ok", "victoria": "ok", "veronica": "ok", "docker": "absent"}
    assert len(states) == sum(one["event"] == "state" for one in told)
    ticks = [one for one in told if one["event"] == "tick"]
    assert [one["number"] for one in ticks] == [1, 2]
    last = ticks[-1]
    assert last["status"] == "pass"
    assert [row["model"] for row in last["nodes"][0]["loaded"]] == ["phi3.5:3.8b"]
    assert last["agents"][0]["levels"] == {"agent": True, "enhanced": True, "initiative": True}
    assert last["machine"]["memory_total_bytes"] > 0
    assert last["containers"]["docker"] is False


def test_requests_and_errors_of_our_own_log(watching, home: Path) -> None:
    """A request that is answered after a crash: its error and fallback as they happen, then its end."""
    with simulated(home, "ollama:big:32b=crash") as faulty:
        watch = watching("--every", "500ms", env=faulty)
        watch.until("tick")
        run = opskit("run", "--local", "--model", "big:32b", "What is 6 times 7?", home=home, env=faulty)
        assert run.status == 0, run
        error = watch.until("error", tag="LLM_CRASH")
        assert "runner_crashed" in error["message"]
        assert watch.until("error", tag="FALLBACK")["correlation_id"] == error["correlation_id"]
        done = watch.until("request", state="done")
        found = (done["correlation_id"], done["fallback"], done["attempts"])
        assert found == (error["correlation_id"], True, 2)
        summary = watch.until("tick")["requests"]
    assert (summary["running"], summary["done"], summary["fallbacks"]) == (0, 1, 1)
    assert {row["model"]: row["failed"] for row in summary["models"]}["big:32b"] == 1


def test_errors_of_a_named_log_as_they_appear(watching, tmp_path: Path) -> None:
    """What stood there before is no news; a traceback is one error, told by its last line."""
    log = tmp_path / "app.log"
    log.write_text(f"{ERROR}\n")
    watch = watching(str(log), "--only", "errors", "--every", "500ms")
    watch.until("tick")
    with log.open("a") as file:
        file.write("plain\nERROR it failed\nTraceback (most recent call last):\n  File 'a'\nKeyError: 'x'\n")
    assert watch.until("error")["message"] == "it failed: KeyError: 'x'"
    with log.open("a") as file:
        file.write("WARN nothing\nCRITICAL no room\n")
    assert watch.until("error")["level"] == "critical"


def test_a_log_that_runs_ahead_is_skipped_and_counted(watching, tmp_path: Path) -> None:
    """Of 400,000 errors at once few are told one by one; all lines are accounted for, and looks go on."""
    log = tmp_path / "app.log"
    log.write_text("")
    watch = watching(str(log), "--only", "errors", "--every", "500ms")
    watch.until("tick")
    count = 400_000
    with log.open("w") as file:
        file.writelines(f"ERROR task {number} failed for want of time\n" for number in range(count))
    logs = watch.until("tick")["logs"]
    # The last line is an error once no further line came that could belong to it.
    while logs["lines"] + logs["left_out"] < count or logs["errors"] < logs["lines"]:
        logs = watch.until("tick")["logs"]
    assert logs["left_out"] > 0
    told = sum(one["event"] == "error" for one in watch.seen)
    assert told + logs["errors_not_shown"] == logs["errors"] == logs["lines"]
    assert told <= 100 * (watch.seen[-1]["number"] + 1)


def test_a_node_that_goes_and_comes_is_told_once_each(watching, home: Path, tmp_path: Path) -> None:
    """State events carry from, to and what to type."""
    with simulated(home) as env:
        watch = watching("--only", "ollama", "--every", "500ms", env=env)
        watch.until("state", target="ollama", to="ok")
        watch.until("tick", status="pass")
    gone = watch.until("state", target="ollama")
    assert (gone["from"], gone["to"]) == ("ok", "refused")
    assert "ollama serve" in gone["remedy"]
    watch.until("tick", status="fail")
    watch.until("tick", status="fail")
    assert [one["to"] for one in watch.seen if one["event"] == "state"] == ["ok", "refused"]


def test_a_node_that_hangs_delays_nobody(watching, stack: dict[str, str], silent: str) -> None:
    """While its answer is awaited looks go on and the others are shown fresh; then it is what it is."""
    watch = watching("--every", "500ms", "--only", "nodes", env={**stack, "MLX_API_URL": silent})
    hung = watch.until("state", target="mlx")
    assert (hung["to"], hung["status"]) == ("silent", "inconclusive")
    meanwhile = [one["nodes"] for one in watch.seen if one["event"] == "tick"]
    assert any((mlx["state"], mlx["late"]) == ("unknown", True) for _, mlx in meanwhile)
    assert any(not ollama["late"] and mlx["late"] for ollama, mlx in meanwhile)
    assert meanwhile[-1][0]["state"] == "ok"


@pytest.mark.parametrize(
    ("only", "env", "status"),
    [
        (["machine"], {}, 0),
        ([], {}, 3),
        (["nodes"], {}, 3),
        (["ollama"], {}, 1),
        (["errors"], {}, 0),
    ],
)
def test_the_exit_status_is_the_last_state(
    home: Path, only: list[str], env: dict[str, str], status: int
) -> None:
    """Nothing to be seen is 3; a node that was named and is not there is 1."""
    words = [word for area in only for word in ("--only", area)]
    result, _ = events("--count", "1", *words, home=home, env=env)
    assert result.status == status, result


def test_a_required_node_that_is_gone_fails(home: Path) -> None:
    """As the configuration says."""
    (home / "o.yaml").write_text(f'nodes: {{gpu: {{url: "{NOBODY}", source: ollama, required: true}}}}\n')
    result, _ = events("--count", "1", "--config", "o.yaml", home=home)
    assert result.status == 1, result


def test_memory_over_its_limit_warns_with_a_command(home: Path) -> None:
    """With a limit below what any machine uses: who uses it, and what to type; told once."""
    (home / "o.yaml").write_text("watch: {memory_percent: 0.01}\n")
    arguments = ("--count", "3", "--every", "500ms", "--only", "machine", "--config", "o.yaml")
    _, told = events(*arguments, home=home)
    (warning,) = [one for one in told if one["event"] == "warning"]
    assert warning["target"] == "memory"
    assert len(warning["largest"]) == 3
    assert warning["remedy"].startswith("`")
    assert told[-1]["warnings"][0]["target"] == "memory"


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["--every", "0"], 2, "VAL_002"),
        (["--every", "-1s"], 2, "VAL_002"),
        (["--every", "1ms"], 2, "at least 0.5 s"),
        (["--every", "2d"], 2, "at most a day"),
        (["--every", "soon"], 2, "VAL_002"),
        (["--every", "²"], 2, "VAL_002"),
        (["--every", "nan"], 2, "VAL_002"),
        (["--count", "0"], 2, "VAL_002"),
        (["--only", "everything"], 2, "nodes, agents"),
        (["/nonexistent/x.log"], 1, "LOG_001"),
        (["label:"], 1, "DOCKER"),
        (["no-such-container"], 1, "DOCKER_001"),
        (["--config", "/nonexistent.yaml"], 78, "CONFIG_002"),
    ],
)
def test_bad_input_is_told_in_one_line(home: Path, arguments: list[str], status: int, code: str) -> None:
    """Intervals, counts, areas and sources that cannot be used."""
    result, told = events(*arguments, home=home)
    assert (result.status, told) == (status, []), result
    assert code in result.err
    assert "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_a_closed_pipe_ends_it_quietly(home: Path) -> None:
    """`opskit watch | head -1`."""
    process = started(["watch", "--every", "500ms"], home=home, env=NO_DOCKER)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=20) == 141
    assert err == ""
    process.stderr.close()


def test_ctrl_c_is_130_as_with_logs(watching) -> None:
    """Nothing is said about it."""
    watch = watching("--every", "500ms")
    watch.until("tick")
    watch.process.send_signal(signal.SIGINT)
    _, err = watch.process.communicate(timeout=20)
    assert (watch.process.returncode, err) == (130, "")


def test_a_dumb_terminal_gets_lines(home: Path) -> None:
    """Where nothing can be redrawn JSON is written."""
    arguments = ("watch", "--count", "1", "--only", "machine")
    with OnTerminal(*arguments, home=home, columns=200, env={"TERM": "dumb", **NO_DOCKER}) as terminal:
        assert terminal.ended() == 0
        assert ALTERNATE not in terminal.output
        assert json.loads(terminal.output)["event"] == "tick"


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])
def test_the_screen_fits_its_terminal(home: Path, stack: dict[str, str], columns: int, rows: int) -> None:
    """Every section on it, no line too wide, none too many; the terminal is given back as it was."""
    arguments = ("watch", "--every", "500ms")
    with OnTerminal(*arguments, home=home, columns=columns, rows=rows, env=stack) as terminal:
        frame = terminal.until(lambda lines: "disk /" in "".join(lines) and "cpu ?" not in "".join(lines))
        text = "\n".join(frame)
        for word in ("phi3.5:3.8b", "victoria", "enhanced on", "memory", "requests", "Docker is not there"):
            assert word in text, text
        assert len(frame) <= rows
        assert all(cell_len(line.rstrip()) <= columns for line in frame)
        terminal.press("q")
        assert terminal.ended() == 0
        assert terminal.output.count(ALTERNATE) == terminal.output.count(BACK) == 1
        assert terminal.settings == terminal.before
        assert "ollama ok" in terminal.output.rpartition(BACK)[2]


def test_a_change_of_size_is_followed_at_once(home: Path, stack: dict[str, str]) -> None:
    """Smaller loses rows and columns, too small says so, larger brings them back."""
    with OnTerminal("watch", "--every", "1m", home=home, env=stack) as terminal:
        terminal.until(lambda lines: "phi3.5:3.8b" in "".join(lines))
        terminal.resize(48, 12)
        frame = terminal.until(lambda lines: " lines)" in "".join(lines))
        assert all(cell_len(line.rstrip()) <= 48 for line in frame)
        terminal.resize(30, 5)
        terminal.until(lambda lines: "too small" in "".join(lines))
        terminal.resize(120, 40)
        terminal.until(lambda lines: "phi3.5:3.8b" in "".join(lines))
        terminal.press("q")
        assert terminal.ended() == 0


@pytest.mark.parametrize(("how", "status"), [("\x03", 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_however_it_ends_the_terminal_is_whole(home: Path, how: str | signal.Signals, status: int) -> None:
    """Ctrl-C and SIGTERM leave neither the other screen nor raw keys behind."""
    with OnTerminal("watch", "--only", "machine", home=home, env=NO_DOCKER) as terminal:
        terminal.until(lambda lines: "memory" in "".join(lines))
        if isinstance(how, str):
            terminal.press(how)
        else:
            os.kill(terminal.process.pid, how)
        assert terminal.ended() == status
        assert terminal.output.count(ALTERNATE) == terminal.output.count(BACK) == 1
        assert terminal.settings == terminal.before
        assert "Traceback" not in terminal.output


def test_foreign_text_does_nothing_to_the_screen(home: Path, tmp_path: Path) -> None:
    """Escapes and markup in a log are text."""
    log = tmp_path / "app.log"
    log.write_text("")
    with OnTerminal("watch", str(log), "--every", "500ms", home=home, env=NO_DOCKER) as terminal:
        terminal.until(lambda lines: "none since the start" in "".join(lines))
        with log.open("ab") as file:
            file.write(b"ERROR \x1b[2J\x1b]0;title\x07 [bold]not bold[/bold] \xff\n")
        frame = terminal.until(lambda lines: "1 since the start" in "".join(lines))
        assert "[bold]not bold[/bold]" in "\n".join(frame)
        assert "\x1b[2J" not in terminal.output
        assert "\x07" not in terminal.output
        terminal.press("q")
        terminal.ended()


def test_standard_input_is_a_source(home: Path) -> None:
    """`... | opskit watch -`: what comes through the pipe."""
    result = opskit(
        *("watch", "-", "--only", "errors", "--count", "2", "--every", "500ms"),
        home=home,
        env=NO_DOCKER,
        stdin=f"{ERROR}\nplain\n".encode(),
    )
    told = [json.loads(line) for line in result.out.splitlines()]
    assert [one["message"] for one in told if one["event"] == "error"] == ["the worker lost its database"]
