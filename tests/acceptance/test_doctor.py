"""`opskit doctor` as people and machines use it."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from opskit.doctor.cause import KNOWN
from tests.parts.command import NOBODY, Result, environment, opskit, started

QUIET = "watch: {memory_percent: 100, disk_percent: 100}\nprobe: {first_token_s: 1, http_s: 1}\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "opskit.yaml").write_text(QUIET)
    return folder


@pytest.fixture
def stack(home: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A simulated stack in a process of its own, and where it is."""
    process = started(["sandbox", "up"], home=home)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    yield process, dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def doctor(home: Path, *arguments: str, **env: str) -> Result:
    return opskit("doctor", *arguments, home=home, env=env)


def test_a_healthy_stack_is_well(home: Path):
    """Nothing is wrong: exit 0, one line that says so, and one for each area."""
    result = doctor(home, "--sandbox")
    assert result.status == 0, result.out
    assert result.out.startswith("Nothing is wrong (")
    assert "[✓] nodes" in result.out
    assert result.err == ""


def test_verbose_shows_every_check_with_its_seconds(home: Path):
    """--verbose lists the checks."""
    result = doctor(home, "--sandbox", "--verbose")
    assert "seconds" in result.out
    assert "node ollama" in result.out


def test_causes_are_told_with_what_to_type(home: Path):
    """A cause shows its evidence and the next command; the exit status is 1."""
    result = doctor(home, OLLAMA_API_URL="localhost:11434", MLX_API_URL="")
    assert result.status == 1
    assert "an address cannot be used: OLLAMA_API_URL" in result.out
    assert "next: write http://localhost:11434" in result.out


def test_the_document_is_complete(home: Path):
    """--json holds causes with id, evidence, what they explain and their fix, and findings with seconds."""
    result = doctor(home, "--json", OLLAMA_API_URL="localhost:11434", MLX_API_URL="")
    assert result.status == 1
    found = result.document
    assert (found["schema_version"], found["command"], found["ok"]) == (1, "doctor", False)
    one = found["causes"][0]
    assert set(one) == {
        "id", "target", "key", "area", "title", "status", "evidence", "explains", "follows_from", "fix",
        "remedy", "code",
    }  # fmt: skip
    assert one["id"] == "address-invalid"
    assert one["explains"] == ["configuration"]
    assert all(isinstance(finding["seconds"], float) for finding in found["findings"])


def test_the_list_names_every_cause(home: Path):
    """--list shows the ids, which are unique and have an area each."""
    result = doctor(home, "--list", "--json")
    assert [one["id"] for one in result.document["known"]] == [known.id for known in KNOWN]
    assert "port-taken" in doctor(home, "--list").out


def test_nothing_is_fixed_without_a_question(home: Path, stack):
    """Without a terminal --fix shows the command and runs nothing; --dry-run never does."""
    process, env = stack
    process.send_signal(signal.SIGSTOP)
    for option in ("--fix", "--fix --dry-run --yes"):
        result = doctor(home, *option.split(), OLLAMA_API_URL=env["OLLAMA_API_URL"], MLX_API_URL="")
        assert result.status == 1, result.out
        assert f"kill -CONT {process.pid}" in result.err
        assert "fixed:" not in result.out


def test_a_safe_fix_is_made_and_looked_at_again(home: Path, stack):
    """--fix --yes runs the safe fix; the same look then finds nothing, and the exit status is 0."""
    process, env = stack
    process.send_signal(signal.SIGSTOP)
    result = doctor(home, "--fix", "--yes", "--json", OLLAMA_API_URL=env["OLLAMA_API_URL"], MLX_API_URL="")
    assert result.status == 0, result.out
    command = f"kill -CONT {process.pid}"
    fixed = {"key": "process-stopped:ollama", "command": command, "fixed": True, "detail": ""}
    assert result.document["fixed"] == [fixed]
    assert result.document["causes"] == []


def test_a_fix_is_a_repair_like_any_other(home: Path, stack):
    """It leaves the audit lines of a repair, under the name by which recovery knows the target."""
    process, env = stack
    process.send_signal(signal.SIGSTOP)
    doctor(home, "--fix", "--yes", OLLAMA_API_URL=env["OLLAMA_API_URL"], MLX_API_URL="")
    lines = (home / "state/opskit/audit.jsonl").read_text().splitlines()
    begun, ended = map(json.loads, lines)
    assert (begun["event"], ended["event"]) == ("repair_begins", "repair_ended")
    assert (ended["source"], ended["target"], ended["result"]) == ("doctor --fix", "ollama", "repaired")
    assert begun["commands"] == [f"kill -CONT {process.pid}"]
    assert begun["evidence"]["cause"] == "process-stopped:ollama"
    assert "ollama" in json.loads((home / "state/opskit/recovery.json").read_text())["targets"]


def test_a_pause_holds_for_a_fix_too(home: Path, stack):
    """What a person paused is not fixed, and the answer says until when and why."""
    process, env = stack
    opskit("pause", "ollama", "--for", "1h", "--reason", "I am debugging it", home=home)
    process.send_signal(signal.SIGSTOP)
    result = doctor(home, "--fix", "--yes", "--json", OLLAMA_API_URL=env["OLLAMA_API_URL"], MLX_API_URL="")
    [fixed] = result.document["fixed"]
    assert (result.status, fixed["fixed"]) == (1, False)
    assert "paused until" in fixed["detail"]
    assert "I am debugging it" in fixed["detail"]
    assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def test_no_fix_is_made_while_a_recovery_runs(home: Path, stack):
    """The lock of recovery is held by somebody: exit 75, and nothing is done."""
    process, env = stack
    process.send_signal(signal.SIGSTOP)
    folder = home / "state/opskit"
    folder.mkdir(parents=True)
    with (folder / "recover.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = doctor(home, "--fix", "--yes", OLLAMA_API_URL=env["OLLAMA_API_URL"], MLX_API_URL="")
    assert result.status == 75, result
    assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def test_a_fix_keeps_to_the_budget_of_its_target(home: Path, stack):
    """A target that breaks again and again is given up, by the doctor as by recovery."""
    process, env = stack
    repaired = 0
    for _ in range(7):
        process.send_signal(signal.SIGSTOP)
        result = doctor(
            home, "--fix", "--yes", "--json", OLLAMA_API_URL=env["OLLAMA_API_URL"], MLX_API_URL=""
        )
        [fixed] = result.document["fixed"]
        if not fixed["fixed"]:
            break
        repaired += 1
    assert repaired == 5
    assert "given up" in fixed["detail"]


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1)])
def test_on_a_terminal_it_asks(home: Path, stack, answer: str, status: int):
    """The command is shown, and only a yes runs it."""
    process, env = stack
    process.send_signal(signal.SIGSTOP)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(home)
        addresses = {"OLLAMA_API_URL": env["OLLAMA_API_URL"], "MLX_API_URL": ""}
        arguments = [sys.executable, "-m", "opskit", "doctor", "--fix"]
        os.execve(sys.executable, arguments, environment(home, addresses))
    shown = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
        if b"[y/N]" in shown and answer:
            os.write(terminal, f"{answer}\n".encode())
            answer = ""
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status, shown.decode()
    assert f"kill -CONT {process.pid}".encode() in shown
    assert (b"fixed: kill" in shown) == (status == 0)


@pytest.mark.parametrize("option", ["--yes", "--dry-run"])
def test_options_of_fix_alone_are_usage(home: Path, option: str):
    """--yes without --fix is a mistake in the command line, not a licence."""
    result = doctor(home, option)
    assert result.status == 2
    assert "--fix" in result.err


def test_a_named_file_that_is_missing_is_a_configuration_error(home: Path):
    """--config FILE that is not there: one line, 78."""
    result = doctor(home, "--config", "nowhere.yaml", MLX_API_URL="")
    assert result.status == 78
    assert result.err.count("\n") == 1


def test_lines_fit_a_narrow_terminal(home: Path):
    """At 80 columns nothing but a command to copy is longer than the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(home)
        env = {**environment(home, {"OLLAMA_API_URL": NOBODY, "MLX_API_URL": "x"}), "COLUMNS": "80"}
        os.execve(sys.executable, [sys.executable, "-m", "opskit", "doctor"], env)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    plain = [line for line in _plain(shown).splitlines() if "next: " not in line]
    assert max(map(len, plain)) <= 80, plain


def _plain(shown: bytes) -> str:
    """Without colours, and without the progress that was wiped away."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n")
    return text.rpartition("\r")[2]


def test_secrets_of_the_environment_are_not_shown(home: Path):
    """Whatever is wrong, no value of a secret gets into the document."""
    result = doctor(
        home, "--json", "--verbose", OLLAMA_API_URL="http://me:geheim@host:1", OPENAI_API_KEY="geheim"
    )
    assert result.status == 1
    assert "geheim" not in result.out + result.err
    assert json.loads(result.out)["causes"][0]["id"] == "address-invalid"


@pytest.mark.parametrize("password, is_cut", [("a#b", False), ("a?b", False), ("a/b", True)])
def test_only_a_password_that_ends_the_address_is_to_be_encoded(home: Path, password: str, is_cut: bool):
    """PostgreSQL reads the other characters as they stand: its own reason is the cause then."""
    url = f"postgresql://agent:{password}@127.0.0.1:1/tasks"
    result = opskit("doctor", home=home, env={"DATABASE_URL": url})
    assert ("%2F" in result.out, "Connection refused" in result.out) == (is_cut, not is_cut)
    assert password not in result.out + result.err
