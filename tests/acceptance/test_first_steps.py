"""What a newcomer types first: help, a mistyped command, completion, a first configuration."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from opskit.cli.app import COMMANDS, GROUPS
from opskit.cli.doctor import _head
from opskit.doctor.diagnosis import Diagnosis
from opskit.result import Finding, Status
from tests.parts.command import environment, opskit


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
def test_the_first_page_names_the_next_command(home: Path, arguments: list[str]) -> None:
    """`opskit` alone tells what to type when something does not work, and lists every command uncut."""
    result = opskit(*arguments, home=home)
    page = result.out or result.err
    assert result.status == (0 if arguments else 2)
    lines = [line.strip() for line in page.splitlines()]
    assert "Something does not work?   opskit doctor" in lines
    assert 'An error to look up:       opskit explain "the error text"' in lines
    listed = [f"{name:11}{line}" for name, line in COMMANDS.items()]
    assert lines[lines.index("Commands:") + 1 :][: len(listed)] == listed


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_lists_its_commands_uncut(home: Path, group: str) -> None:
    """A line that ends in dots tells half of what a command does."""
    page = opskit(group, "--help", home=home).out
    listed = page.partition("Commands:")[2].splitlines()
    assert [line for line in listed if line.endswith("...")] == [], page
    assert len(listed) > 1


def test_the_first_page_imports_no_command(home: Path) -> None:
    """The list of commands costs no import of a command, nor of the records."""
    code = (
        "import sys\nfrom opskit.cli.main import status\nstatus(['--help'])\n"
        "print(sorted({'msgspec', 'opskit.errors'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["prbe"], "did you mean `opskit probe`"),
        (["models", "lst"], "did you mean `opskit models list`"),
        (["probe", "--jsn"], "did you mean --json?"),
        (
            ["--config", "a b.yaml", "probe"],
            "options stand behind the command: `opskit probe --config 'a b.yaml'`",
        ),
        (["run", "two", "words"], 'put a text of several words in quotes: "two words"'),
        (["watch", "--count", "x"], "`opskit watch --help`"),
        (["logs", "--id"], "`opskit logs --help`"),
    ],
)
def test_a_mistyped_call_is_answered_with_the_right_one(
    home: Path, arguments: list[str], advice: str
) -> None:
    """One line says what to type instead, and the exit status is 2."""
    result = opskit(*arguments, home=home)
    assert result.status == 2
    assert result.err.startswith("opskit: VAL_002: ")
    assert advice in result.err


def test_help_and_version_are_words_too(home: Path) -> None:
    """`opskit help COMMAND` and `opskit version` do what their options do."""
    assert (
        opskit("help", "models", "route", home=home).out == opskit("models", "route", "--help", home=home).out
    )
    assert opskit("version", home=home).out == opskit("--version", home=home).out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("opskit pro", ["probe"]),
        ("opskit models l", ["list", "loaded"]),
        ("opskit config show --js", ["--json"]),
    ],
)
def test_bash_completes_commands_and_options(home: Path, line: str, words: list[str]) -> None:
    """The completion that opskit installs offers commands, subcommands and options in a real bash."""
    home.mkdir()
    opskit_here = f"{sys.executable} -m opskit"
    script = (
        f'opskit() {{ {opskit_here} "$@"; }}; export -f opskit\n'
        f"source <(_OPSKIT_COMPLETE=source_bash {Path(sys.executable).with_name('opskit')})\n"
        f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        f"_opskit_completion {Path(sys.executable).with_name('opskit')}; echo ${{COMPREPLY[@]}}\n"
    )
    done = subprocess.run(
        ["bash", "-c", script], env=environment(home), capture_output=True, text=True, timeout=30
    )
    assert done.stdout.split() == words, done.stderr


def test_an_error_has_the_shape_of_the_catalogue(home: Path) -> None:
    """With --json an error names code, message, details and time, as the server does."""
    document = opskit("probe", "--json", "--config", "/nowhere", home=home).document
    assert document["error_code"] == document["error"]["code"] == "CONFIG_002"
    assert document["error_message"]
    assert set(document["details"]) == {"remedy", "cause"}
    assert document["timestamp"] > 1.7e9


def test_the_scenarios_of_the_drill_are_a_document(home: Path) -> None:
    """`drill --list --json` prints one document."""
    assert "crash" in opskit("drill", "--list", "--json", home=home).document["scenarios"]


def test_doctor_does_not_say_that_all_is_well_where_a_check_is_open(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a cause, the first line of the page names the checks that could not be judged."""
    passed = Finding("memory", "memory", Status.PASS)
    unclear = Finding("model servers", "model servers", Status.INCONCLUSIVE)
    _head(Diagnosis((), (passed, unclear), (unclear,)))
    _head(Diagnosis((), (passed,), ()))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("No cause was found, but 1 check could not be judged: model servers (2 checks")
    assert second.startswith("Nothing is wrong (1 check")


def test_a_configuration_may_come_from_a_pipe(home: Path) -> None:
    """`--config <(...)` is read to its end, however slowly it is written."""
    home.mkdir()
    reader, writer = os.pipe()
    timer = threading.Timer(0.3, lambda: (os.write(writer, b"debug: 3\n"), os.close(writer)))
    timer.start()
    done = subprocess.run(
        [sys.executable, "-m", "opskit", "config", "check", "--config", f"/dev/fd/{reader}"],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=30,
        pass_fds=[reader],
    )
    os.close(reader)
    assert done.returncode == 78
    assert "debug: must be true or false" in done.stdout


def test_a_pipe_that_nobody_writes_to_is_an_error(home: Path) -> None:
    """A named pipe in the place of the configuration is reported after a while."""
    home.mkdir()
    os.mkfifo(home / "opskit.yaml")
    result = opskit("config", "show", home=home, timeout=60)
    assert result.status == 78
    assert "nothing is written to it" in result.err


def test_a_link_to_a_file_that_is_gone_is_an_error(home: Path) -> None:
    """A dangling link is not the same as no configuration."""
    home.mkdir()
    (home / "opskit.yaml").symlink_to("gone.yaml")
    result = opskit("config", "check", home=home)
    assert result.status == 78
    assert "a link to a file that does not exist" in result.err


def test_sizes_have_units_and_percents_an_end(home: Path) -> None:
    """A size may be written as 10MB; more than 100 % would never warn, and is refused."""
    home.mkdir()
    file = home / "opskit.yaml"
    file.write_text("log: {max_bytes: 10MB}\nwatch: {memory_percent: 90}\n")
    values = {
        row["key"]: row["value"] for row in opskit("config", "show", "--json", home=home).document["values"]
    }
    assert values["log.max_bytes"] == 10_000_000
    file.write_text("log: {max_bytes: lots}\nwatch: {memory_percent: 500}\n")
    result = opskit("config", "check", home=home)
    assert "log.max_bytes: must be a size" in result.out
    assert "watch.memory_percent: must be at most 100" in result.out


def test_a_node_without_a_source_is_told_which_there_are(home: Path) -> None:
    """What is missing is said with its choices."""
    home.mkdir()
    (home / "opskit.yaml").write_text("nodes:\n  a: {url: 'http://x:1'}\n")
    assert "is missing: one of mlx, ollama, llamacpp, openai" in opskit("config", "check", home=home).out


def test_probe_and_doctor_agree_where_there_is_nothing(home: Path) -> None:
    """Where nothing listens and nothing is configured neither judges, and both say what to type first."""
    home.mkdir()
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    for command in ("probe", "doctor"):
        words = [sys.executable, "-m", "opskit", command]
        done = subprocess.run(words, env=env, cwd=home, capture_output=True, text=True, timeout=60)
        assert done.returncode == 3, done.stdout
        assert "no model server is there, and none is configured" in " ".join(done.stdout.split()).lower()
        assert "`ollama serve` starts Ollama" in done.stdout
