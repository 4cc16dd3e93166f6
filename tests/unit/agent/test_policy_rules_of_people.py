"""Rules of a person: deny before ask before allow, and never over what opskit denies."""

import shlex

import pytest

from opskit.agent.policy.decide import decide
from tests.parts.policy import rules, workspace


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return workspace(tmp_path_factory.mktemp("people") / "workspace")


def ruling(line: str, place, **patterns: tuple[str, ...]) -> str:
    return decide(shlex.split(line), place, rules(**patterns)).ruling


def test_an_allowed_pattern_is_allowed_as_it_is_written(place):
    """Words and wildcards take as many words as there are; `...` takes the others."""
    allow = ("docker restart victoria*", "systemctl restart ollama", "helm status ...")
    assert ruling("docker restart victoria-agent", place, allow=allow) == "allow"
    assert ruling("helm status x y", place, allow=allow) == "allow"
    for line in (
        "docker restart",
        "docker restart other",
        "docker restart victoria-agent x",
        "docker rm victoria",
    ):
        assert ruling(line, place, allow=allow) == "ask", line


def test_a_wildcard_takes_neither_options_nor_paths_outside(place):
    """`cat *` is for files of the workspace; what leads out is written in full."""
    allow = ("cp * *", "tail -n * /var/log/ollama.log", "rm ...")
    assert ruling("cp app.log copy.log", place, allow=allow) == "allow"
    assert ruling("tail -n 5 /var/log/ollama.log", place, allow=allow) == "allow"
    for line in (
        "cp /etc/passwd x",
        "cp ../x y",
        "cp -t x",
        "cp to-passwd x",
        "cp x to-etc/y",
        "cp id_rsa x",
        "cp ~/x y",
        "tail -n 5 /var/log/other.log",
        "rm -rf x",
        "rm x /etc/passwd",
        "cp --target=/etc x",
    ):
        assert ruling(line, place, allow=allow) == "ask", line


def test_allow_does_not_win_over_what_is_denied(place):
    """Interpreters, wrappers, denied flags, programs of the workspace and unprintable words stay denied."""
    allow = ("python3 ...", "env ...", "find . -exec id ;", "git -c * log", "ls ...", "sudo ...")
    for line in (
        "python3 x.py",
        "python3.11 x",
        "env ls",
        "find . -exec id ';'",
        "git -c x=y log",
        "sudo id",
    ):
        assert ruling(line, place, allow=allow) == "deny", line
    assert decide(["ls", "a\nb"], place, rules(allow=allow)).ruling == "deny"
    assert decide(["./ls"], place, rules(allow=("./ls",))).ruling == "deny"


def test_deny_wins_over_ask_and_ask_over_allow(place):
    """Also over what opskit allows; a wildcard of a refusal takes options too."""
    patterns = {"deny": ("docker logs *secret*",), "ask": ("docker logs ...",), "allow": ("docker logs ...",)}
    assert ruling("docker logs my-secret-box", place, **patterns) == "deny"
    assert ruling("docker logs x", place, **patterns) == "ask"
    assert ruling("docker ps -a", place, ask=("docker ps *",)) == "ask"
    assert ruling("docker ps", place, **patterns) == "allow"


def test_a_rule_is_named_by_its_place_in_the_configuration(place):
    """Who reads the decision finds the line."""
    decision = decide(["docker", "restart", "x"], place, rules(allow=("true", "docker restart *")))
    assert decision.rule == "allow.user[1]"
    assert "docker restart *" in decision.why


def test_a_denied_name_is_denied_through_a_link_too(place, tmp_path):
    """A rule against a program holds for every name that leads to it."""
    (tmp_path / "bin").mkdir(mode=0o755)
    (tmp_path / "bin" / "list").symlink_to("/usr/bin/ls")
    denying = rules(f"{tmp_path}/bin:/usr/bin:/bin", deny=("ls ...",))
    assert decide(["list"], place, denying).ruling == "deny"
