"""`opskit policy check` as a person or a script runs it."""

from pathlib import Path

import pytest

from tests.parts.command import Result, opskit


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / "stack").mkdir(parents=True)
    (tmp_path / "home" / "stack" / "app.log").write_text("x\n")
    return tmp_path / "home"


def check(home: Path, *words: str, config: str = "") -> Result:
    (home / "opskit.yaml").write_text(config or "agent: {workspace: stack}\n")
    return opskit("policy", "check", *words, home=home)


@pytest.mark.parametrize(
    ("command", "status", "decision"),
    [
        (["cat", "app.log"], 0, "allow"),
        (["cat", "/etc/passwd"], 3, "ask"),
        (["find", ".", "-exec", "id", ";"], 1, "deny"),
        (["ls", "a\nb"], 1, "deny"),
    ],
)
def test_the_exit_status_is_the_decision(home, command, status, decision):
    """0, 3 and 1, with the rule and the reason, as text and as JSON."""
    text = check(home, "--", *command)
    assert (text.status, text.out.split()[0]) == (status, decision)
    assert "\nrule  " in text.out
    assert "\nwhy   " in text.out
    result = check(home, "--json", "--", *command)
    assert result.status == status
    assert result.document["decision"] == decision
    assert result.document["rule"].startswith(f"{decision}.")
    assert result.document["why"]
    assert result.document["findings"][0]["evidence"]["argv"] == command


def test_rules_of_the_configuration_decide(home):
    """What a person allows is allowed by a rule that names its place."""
    config = "agent:\n  workspace: stack\n  policy: {allow: [docker restart *], deny: [docker logs ...]}\n"
    assert "allow.user[0]" in check(home, "--", "docker", "restart", "x", config=config).out
    assert check(home, "--", "docker", "logs", "x", config=config).status == 1


def test_the_workspace_is_that_of_the_configuration_or_of_the_option(home):
    """A relative one belongs to the file or to the working folder; none at all refuses every file."""
    assert check(home, "--workspace", str(home), "--", "cat", "stack/app.log").status == 0
    unset = check(home, "--", "cat", "app.log", config="debug: false\n")
    assert unset.status == 3
    assert "agent.workspace" in unset.out
    missing = check(home, "--workspace", "nowhere", "--", "ls")
    assert missing.status == 2
    assert "is not a folder" in missing.err


def test_a_rule_that_cannot_be_read_is_reported_with_its_line(home):
    """Nothing is decided by half of the rules."""
    result = check(home, "--", "ls", config="agent:\n  policy:\n    allow: ['* x']\n")
    assert result.status == 78
    assert "opskit.yaml:3" in result.err


def test_nothing_is_run_and_no_state_is_made(home):
    """A check leaves no trace."""
    check(home, "--", "touch", "made")
    assert sorted(path.name for path in home.iterdir()) == ["opskit.yaml", "stack"]
