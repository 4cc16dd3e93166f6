"""Bad input ends in one line with a code and a remedy, the right exit status, and no traceback."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts.command import NOBODY, environment, opskit, started


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def one_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("opskit: ")]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    assert "Next: " in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    "url", ["localhost:11434", "ftp://localhost", "http://", "http://h:99999", "http://user:hunter2@h"]
)
def test_a_wrong_url_is_a_configuration_error(home: Path, url: str) -> None:
    """A wrong URL exits 78 with CONFIG_003 and never shows a password."""
    result = opskit("run", "hello there", home=home, env={"OLLAMA_API_URL": url})
    assert result.status == 78
    assert "CONFIG_003" in one_line(result.err)
    assert "hunter2" not in result.err


def test_a_wrong_key_names_file_and_line(home: Path, tmp_path: Path) -> None:
    """An unknown key exits 78 and names the file, the line and the near key."""
    file = tmp_path / "o.yaml"
    file.write_text("router:\n  max_fallback: 3\n")
    result = opskit("probe", "--config", str(file), home=home)
    assert result.status == 78
    line = one_line(result.err)
    assert "o.yaml:2" in line
    assert "max_fallbacks" in line


def test_yaml_with_tabs_names_the_line(home: Path, tmp_path: Path) -> None:
    """A tab in YAML exits 78 with file and line."""
    file = tmp_path / "o.yaml"
    file.write_text("router:\n\tmax_fallbacks: 3\n")
    result = opskit("run", "hello", "--config", str(file), home=home)
    assert result.status == 78
    assert "o.yaml:2" in one_line(result.err)


def test_a_missing_configuration_file_is_told(home: Path) -> None:
    """A file named by --config that is not there exits 78 with CONFIG_002."""
    result = opskit("probe", "--config", "/nowhere/opskit.yaml", home=home)
    assert result.status == 78
    assert "CONFIG_002" in one_line(result.err)


@pytest.mark.parametrize("name", ["no such model", "x; rm -rf /", "$(reboot)", "`id`", "a|b"])
def test_a_strange_model_name_is_refused_without_harm(home: Path, name: str) -> None:
    """A model name with spaces or shell characters is an ordinary unknown name: MODEL_001, exit 1."""
    result = opskit("run", "hello", "--sandbox", "--model", name, home=home)
    assert result.status == 1
    assert "MODEL_001" in one_line(result.err)


@pytest.mark.parametrize(
    ("arguments", "next_command"),
    [
        (["approve", "that one"], "opskit approvals"),
        (["approve", "../7"], "opskit approvals"),
        (["run", "--follow", "the last run"], "opskit run --async"),
        (["run", "--follow", ""], "opskit run --async"),
    ],
)
def test_what_cannot_be_an_id_is_refused_before_anybody_is_asked(
    home: Path, arguments: list[str], next_command: str
) -> None:
    """It exits 2 with what to type, and no server is needed for it."""
    result = opskit(*arguments, home=home)
    assert result.status == 2
    assert f"`{next_command}" in one_line(result.err)


def test_control_characters_in_a_model_name_are_refused(home: Path) -> None:
    """A model name that is no printable text exits 2."""
    result = opskit("run", "hello", "--model", "a\x1b[2Jb", home=home)
    assert result.status == 2
    assert "\x1b" not in result.err


def test_a_ten_megabyte_goal_is_refused(home: Path) -> None:
    """A goal above the limit exits 2 with VAL_002, read no further than needed."""
    result = opskit("run", "-", "--local", home=home, stdin=b"a" * 10_000_000)
    assert result.status == 2
    assert "VAL_002" in one_line(result.err)


@pytest.mark.parametrize("goal", [b"\x00\x01\x02", b"\xff\xfe\xfd", b"   \n"])
def test_a_binary_or_empty_goal_is_refused(home: Path, goal: bytes) -> None:
    """A binary goal on standard input exits 2 with VAL_002."""
    result = opskit("run", "--local", home=home, stdin=goal)
    assert result.status == 2
    assert "VAL_002" in one_line(result.err)


def test_an_unwritable_state_folder_is_told(home: Path, tmp_path: Path) -> None:
    """A state folder that is a file exits 78 with STATE_001."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    for command in (["run", "hello"], ["probe"], ["models", "test"]):
        result = opskit(*command, home=home, env={"OPSKIT_STATE_DIR": str(blocker / "state")})
        assert result.status == 78, command
        assert "STATE_001" in one_line(result.err)


def test_no_node_at_all_names_the_addresses(home: Path) -> None:
    """With no node MODEL_001 names what was tried and how to start one, exit 1, in a moment."""
    result = opskit("run", "hello there", home=home)
    assert result.status == 1
    line = one_line(result.err)
    assert "MODEL_001" in line
    assert NOBODY in line
    assert "ollama serve" in line


def test_errors_are_documents_with_json(home: Path) -> None:
    """With --json an error is one document with code, message and remedy, and the same exit status."""
    for command, status, code in (
        (["run", "hello", "--json"], 1, "MODEL_001"),
        (["run", "--json", "--local", "--remote", "x"], 2, "VAL_002"),
        (["run", "x", "--json", "--no-such-option"], 2, "VAL_002"),
        (["probe", "--json", "--config", "/nowhere"], 78, "CONFIG_002"),
    ):
        result = opskit(*command, home=home)
        assert result.status == status, (command, result)
        assert result.document["ok"] is False
        assert result.document["error"]["code"] == code
        assert set(result.document["error"]) == {"code", "message", "remedy"}


def test_debug_shows_the_traceback(home: Path) -> None:
    """Only --debug shows a traceback."""
    result = opskit("run", "hello", "--debug", home=home)
    assert result.status == 1
    assert "Traceback" in result.err


def test_ctrl_c_ends_at_once_and_leaves_nothing(home: Path) -> None:
    """Ctrl-C in the middle of a run exits 130 without a traceback."""
    stand = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "opskit",
            "sandbox",
            "up",
            "--fault",
            "ollama=silence",
            "--fault",
            "mlx=zombie",
        ],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert stand.stdout is not None
        exports = dict(
            stand.stdout.readline().removeprefix("export ").strip().split("=", 1) for _ in range(4)
        )
        run = started(["run", "hello there", "--local", "-v"], home=home, env={**exports, "VICTORIA_URL": ""})
        assert run.stderr is not None
        while "[LLM_CALL]" not in run.stderr.readline():
            pass
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=10)
        assert run.returncode == 130
        assert "Traceback" not in err
    finally:
        stand.send_signal(signal.SIGINT)
        _, err = stand.communicate(timeout=10)
    assert stand.returncode == 0
    assert "Traceback" not in err


def test_a_closed_pipe_is_no_error(home: Path) -> None:
    """`opskit ... | head` ends quietly when the reader goes away."""
    home.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "opskit", "drill", "--list"],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        err = process.stderr.read() if process.stderr else b""
        process.wait(timeout=20)
    assert b"Traceback" not in err
    assert process.returncode in (0, 141)


def test_secrets_appear_nowhere(home: Path, tmp_path: Path) -> None:
    """A key from the environment is in no output and not in the log."""
    file = tmp_path / "o.yaml"
    file.write_text(
        f'nodes:\n  cloud:\n    url: "{NOBODY}"\n    source: openai\n    api_key: "${{CLOUD_KEY}}"\n'
    )
    secret = "sk-very-secret-0123456789"
    env = {"CLOUD_KEY": secret}
    outputs = [
        opskit("config", "show", "--config", str(file), home=home, env=env),
        opskit("probe", "--config", str(file), "--json", home=home, env=env),
        opskit("run", f"my key is {secret}", "-v", "--config", str(file), home=home, env=env),
    ]
    for result in outputs:
        assert secret not in result.out + result.err
    log = (home / "state" / "opskit" / "opskit.log").read_text()
    assert "[REQUEST]" in log
    assert secret not in log


def test_the_log_of_a_request_carries_one_correlation_id(home: Path) -> None:
    """Every line of a request carries the id that --json reports, one line per tag."""
    result = opskit("run", "What is 6 times 7?", "--sandbox", "--local", "--json", home=home)
    assert result.status == 0
    identifier = result.document["correlation_id"]
    lines = (home / "state" / "opskit" / "opskit.log").read_text().splitlines()
    tagged = [line for line in lines if identifier in line]
    assert [line.split("[")[1].split("]")[0] for line in tagged] == [
        "REQUEST",
        "LLM_CALL",
        "LLM_RESPONSE",
        "REQUEST_END",
    ]
    mode = (home / "state" / "opskit" / "opskit.log").stat().st_mode & 0o777
    assert mode == 0o600
    json.dumps(result.document)
