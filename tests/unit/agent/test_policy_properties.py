"""What holds for every command: a further word never gives it more than it had."""

import shlex
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.agent.policy.decide import decide
from opskit.agent.policy.rules import CommandRule, FlagRule
from tests.parts.policy import rules, workspace
from tests.unit.agent.test_policy_table import ALLOWED

RULES = rules()
COMMANDS = [shlex.split(line) for line in ALLOWED.strip().split("\n") if " -- " not in line]
_LETTERS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=5, max_size=12)
UNKNOWN_FLAGS = st.builds("--zz{}{}".format, _LETTERS, st.sampled_from(["", "=x", "=/etc/passwd"]))
OUTSIDE = st.one_of(
    st.sampled_from(
        [
            "/etc/passwd", "/", "..", "../..", "/proc/self/environ", "/root/.ssh/id_rsa", "to-etc/passwd",
            "to-passwd", "/etc/../etc/passwd", "logs/../../..", "~/.ssh/config", "~root/x", "@/etc/passwd",
        ]
    ),
    st.builds("/{}/{}".format, st.sampled_from(["etc", "usr", "bin", "dev"]), _LETTERS),
    st.builds("{}{}".format, st.sampled_from(["../", "logs/../../", "../../../"]), _LETTERS),
)  # fmt: skip
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return workspace(tmp_path_factory.mktemp("properties") / "workspace")


@given(command=st.sampled_from(COMMANDS), flag=UNKNOWN_FLAGS, at=st.integers(1, 9))
def test_an_unknown_flag_is_never_allowed(command, flag, at, place):
    """Wherever it stands, unless it is the value of the flag before it."""
    at = min(at, len(command))
    decision = decide([*command[:at], flag, *command[at:]], place, RULES)
    value = at < len(command) and command[at - 1].startswith("-")
    assert decision.ruling != "allow" or value


@given(command=st.sampled_from(COMMANDS), path=OUTSIDE)
def test_a_path_outside_is_never_allowed(command, path, place):
    """Added to any command that is allowed without it."""
    assert decide([*command, path], place, RULES).ruling != "allow"


def _flags(
    words: list[str], rule: CommandRule, above: frozenset[str] = frozenset()
) -> Iterator[tuple[list[str], CommandRule, str, FlagRule]]:
    """Yield every flag of a program and its commands once, with the words before it."""
    for flag, meaning in rule.flags.items():
        if flag not in above:
            yield words, rule, flag, meaning
    for name, inner in rule.commands.items():
        yield from _flags([*words, name], inner, above | rule.flags.keys())


@pytest.mark.parametrize("program", sorted(RULES.shipped.programs))
def test_no_value_of_any_flag_names_a_path_outside(program, place):
    """Neither as the next word nor attached, behind `@` or behind `=`, by a path or by a link."""
    for words, rule, flag, meaning in _flags([program], RULES.shipped.programs[program]):
        names = [min(names) for names in rule.requires]
        required = [word for name in names for word in ([name, "1"] if rule.flags[name].kind else [name])]
        for value in (
            "/etc/passwd",
            "@/etc/passwd",
            "x=../../../../../../../etc/passwd",
            "to-passwd",
            "a,to-etc/passwd",
        ):
            attached = [[f"{flag}{value}"]] if meaning.kind and len(flag) == 2 else []
            for written in ([flag, value], [f"{flag}={value}"], *attached):
                argv = [*words, *required, *written]
                assert decide(argv, place, RULES).ruling != "allow", argv
        if meaning.kind == "":
            assert decide([*words, f"{flag}=x"], place, RULES).ruling != "allow"


@given(command=st.sampled_from(COMMANDS), word=WORDS)
def test_a_word_never_turns_a_refusal_around(command, word, place):
    """What is denied stays denied with a word more."""
    for denied in (["env", *command], ["find", ".", "-exec", *command, ";"], ["git", "-c", "a=b", *command]):
        assert decide([*denied, word], place, RULES).ruling == "deny"


@given(argv=st.lists(WORDS, max_size=8))
def test_any_words_get_a_decision(argv, place):
    """Nothing that a model writes makes the policy fail, and only known programs are allowed."""
    decision = decide(argv, place, RULES)
    assert decision.why
    assert decision.ruling != "allow" or argv[0] in RULES.shipped.programs


@given(command=st.sampled_from(COMMANDS), word=st.sampled_from(["\n", "\0", "\x1b[2J", "a\u202eb", "\u2028"]))
def test_what_cannot_be_shown_is_denied_in_any_place(command, word, place):
    """A person who approves a command must see all of it."""
    for at in range(len(command) + 1):
        assert decide([*command[:at], word, *command[at:]], place, RULES).ruling == "deny"


@pytest.mark.parametrize("group", sorted({group for group, _ in RULES.shipped.denied.values()}))
def test_a_denied_name_is_denied_in_every_form(group, place):
    """By its path, with a version, in capitals, as an applet and on another machine."""
    names = [name for name, (denied_by, _) in RULES.shipped.denied.items() if denied_by == group]
    assert len(names) > 3
    for name in names:
        versions = () if name == "." or name[-1].isdigit() else (f"{name}3.11", f"{name}-12")
        for word in (name, name.upper(), f"/nowhere/bin/{name}", *versions):
            assert decide([word, "x"], place, RULES).ruling == "deny", word
        assert decide(["busybox", name, "x"], place, RULES).ruling == "deny"
        assert decide([name, "x"], None, RULES, remote=True).ruling == "deny"
