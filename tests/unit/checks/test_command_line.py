"""A command line is cut as a shell cuts it, and what needs a shell is refused."""

import os
import subprocess
import tempfile
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opskit.checks.kinds.processes import words
from opskit.config.document import FromEnvironment, substitute

PLAIN = ("a", "b c", " ", "\t", "\n", ",", "..", "=", "A=1", "-c", "é", "://", "%", "^", "@", ":", "]", "}")
QUOTES = ("'", '"', "\\", "''", '""', "'a|b'", '"a;b"', "\\;", "\\\n")
SPECIAL = ("|", "&&", ";", ">", "<", "2>&1", "(", ")", "*", "?", "[", "{", "~", "#", "!", "`", "$(echo x)")
VARIABLES = ("$", "$$", "$HOME", "${HOME}")
PIECES = st.one_of(map(st.sampled_from, (PLAIN, QUOTES, SPECIAL, VARIABLES)))


@pytest.fixture(scope="module")
def empty() -> Iterator[str]:
    """A folder without a file whose name a pattern could match."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


@settings(max_examples=400)
@given(pieces=st.lists(PIECES, max_size=8))
@example(pieces=["a\\;b 'c d' \"e\\$f\" g\\\nh ''"])
@example(pieces=['"a\\b\\`"', "'", "\\", "'"])
def test_an_accepted_command_line_is_cut_as_a_shell_cuts_it(pieces: list[str], empty: str):
    """Whatever is accepted gives a program the words that a shell gives it."""
    text = f"printf '%s\\0' x {''.join(pieces)}"
    try:
        found = words(text)
    except ValueError:
        return
    done = subprocess.run(["sh", "-c", text], capture_output=True, check=True, cwd=empty)
    assert [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]] == list(found[2:])


@pytest.mark.parametrize(
    "text, part",
    [
        ("echo down | grep -q up", "`|`"),
        ("make |& tee log", "`|&`"),
        ("true && false", "`&&`"),
        ("false || true", "`||`"),
        ("false||true", "`||`"),
        ("echo a; false", "`;`"),
        ("sleep 5 &", "`&`"),
        ("echo x > written", "`>`"),
        ("echo x >> written", "`>>`"),
        ("ls nothing 2>&1", "`2>&1`"),
        ("ls nothing 2>/dev/null", "`2>`"),
        ("ls &> all", "`&>`"),
        ("grep x < file", "`<`"),
        ("cat << END", "`<<`"),
        ("curl http://h/?a=1&b=2", "`&`"),
        ("(true)", "`(`"),
        ("test -n $(id -u)", "`$(`"),
        ("test -n `id -u`", "```"),
        ('test -n "$(id -u)"', "`$(`"),
        ('test -n "`id -u`"', "```"),
        ("test -d $HOME", "let the checklist replace it: `${HOME}`"),
        ("test -d ${HOME}", "`${`"),
        ('test -d "$HOME/x"', "`${HOME}`"),
        ("echo $1", "`$1`"),
        ("printf $'a\\n'", "`$`"),
        ("ls *.log", "`*`"),
        ("ls /var/log/x?", "`?`"),
        ("ls x[0-9]", "`[`"),
        ("touch {a,b}", "`{`"),
        ("ls ~/logs", "`${HOME}`"),
        ("true # always", "`#`"),
        ("LANG=C sort file", "`env: {LANG: value}`"),
        ("cd /tmp", "`cwd`"),
        ("! false", "`!`"),
        ("command -v jq", "`command`"),
        ("exit 1", "`exit`"),
        ("source env.sh", "`source`"),
        ("true\nfalse", "a line break"),
        ('python -c "print($x)"', "`$x`"),
    ],
)
def test_what_needs_a_shell_is_refused(text: str, part: str):
    """The sentence names what needs a shell and writes the same command as a checklist reads it."""
    with pytest.raises(ValueError, match="no shell runs here") as raised:
        words(text)
    said = str(raised.value)
    assert part in said
    written = said.partition("write `run: ")[2].rpartition("`; what the program")[0]
    assert [substitute(word, {}).text for word in yaml.safe_load(written)] == ["sh", "-c", text]


@pytest.mark.parametrize(
    "text, cut",
    [
        ("grep 'a|b' file", ["grep", "a|b", "file"]),
        ('grep "a && b; c > d" file', ["grep", "a && b; c > d", "file"]),
        ("docker ps --format '{{.State}} | x'", ["docker", "ps", "--format", "{{.State}} | x"]),
        ("docker ps --format {{.State}}", ["docker", "ps", "--format", "{{.State}}"]),
        ("find . -name '*.py' -exec wc {} \\;", ["find", ".", "-name", "*.py", "-exec", "wc", "{}", ";"]),
        ("awk '{print $1}' file", ["awk", "{print $1}", "file"]),
        ('awk "{print \\$1}" file', ["awk", "{print $1}", "file"]),
        ("sh -c 'echo down | grep -q up'", ["sh", "-c", "echo down | grep -q up"]),
        ('docker exec web sh -c "echo $HOME"', ["docker", "exec", "web", "sh", "-c", "echo $HOME"]),
        ('/bin/bash -lc "ls *.log"', ["/bin/bash", "-lc", "ls *.log"]),
        ("curl -fs http://[::1]:80/x?y=1", ["curl", "-fs", "http://[::1]:80/x?y=1"]),
        ("[ -e file ]", ["[", "-e", "file", "]"]),
        ("sed s/a$/b/ x#y a~b", ["sed", "s/a$/b/", "x#y", "a~b"]),
        ("dd if=/dev/zero of=x", ["dd", "if=/dev/zero", "of=x"]),
        ("env LANG=C sort", ["env", "LANG=C", "sort"]),
        ("\n  echo a \\\n  b\n", ["echo", "a", "b"]),
        ("", []),
    ],
)  # fmt: skip
def test_what_is_quoted_or_means_nothing_to_a_shell_is_taken(text: str, cut: list[str]):
    """Operators in quotes are plain text; a script is what the shell that is named gets."""
    assert list(words(text)) == cut


@pytest.mark.parametrize("text", ["echo 'x", 'echo "x', "echo \\"])
def test_an_open_quote_is_refused(text: str):
    """A quote without its end, and a backslash before nothing, are no words."""
    with pytest.raises(ValueError, match="cannot be cut into words"):
        words(text)


def test_the_value_of_a_variable_is_not_shown():
    """A text that a variable helped to write may hold a secret."""
    with pytest.raises(ValueError, match=r'"sh", "-c", "\.\.\."') as raised:
        words(FromEnvironment("curl -H 'Bearer geheim' http://h | grep x"))
    assert "geheim" not in str(raised.value)
