"""`${NAME}`, `${NAME:-default}` and `$$`."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config.document import FromEnvironment, only_name, substitute

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


@pytest.mark.parametrize(
    "text, environ, result",
    [
        ("a${X}c", {"X": "b"}, "abc"),
        ("${X}${Y}", {"X": "1", "Y": "2"}, "12"),
        ("${X:-d}", {}, "d"),
        ("${X:-d}", {"X": ""}, "d"),
        ("${X:-d}", {"X": "v"}, "v"),
        ("${X:-http://h:1}", {}, "http://h:1"),
        ("${X:-}", {}, ""),
        ("${X}", {"X": ""}, ""),
        ("$${X}", {"X": "v"}, "${X}"),
        ("$X costs $5$", {"X": "v"}, "$X costs $5$"),
        ("${X}", {"X": "${Y}", "Y": "no"}, "${Y}"),
    ],
)
def test_references_are_replaced(text: str, environ: dict[str, str], result: str):
    """A reference becomes its value once, and everything else stays."""
    done = substitute(text, environ)
    assert (done.text, done.unset, done.problem) == (result, (), "")


def test_an_unset_variable_is_named():
    """Every variable that is missing is told, in order."""
    assert substitute("${A}${B:-x}${C}", {}).unset == ("A", "C")


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A", "${A-b}", "${A:-b", "a${ A }"])
def test_a_broken_reference_is_told(text: str):
    """A `${` that is no reference is a mistake, not text."""
    assert substitute(text, {"A": "x"}).problem


def test_only_replaced_text_may_be_retyped():
    """Text that holds no reference stays plain text."""
    assert isinstance(substitute("${A}", {"A": "1"}).text, FromEnvironment)
    assert not isinstance(substitute("$$1", {}).text, FromEnvironment)


@pytest.mark.parametrize(
    "text, name",
    [("${A}", "A"), ("${A:-}", "A"), ("${A:-x}", None), ("x${A}", None), ("$${A}", None), ("A", None)],
)
def test_a_secret_is_one_reference_and_nothing_else(text: str, name: str | None):
    """Anything around the reference, or a default inside it, would be a secret in the file."""
    assert only_name(text) == name


@given(st.text(), st.dictionaries(NAMES, st.text()))
def test_escaped_text_comes_back_as_it_was(text: str, environ: dict[str, str]):
    """Doubling every dollar sign protects any text from substitution."""
    assert substitute(text.replace("$", "$$"), environ).text == text


@given(st.lists(st.tuples(st.from_regex(r"[^$]*", fullmatch=True), NAMES, st.text())), st.booleans())
def test_a_text_of_references_is_the_text_of_their_values(parts, with_default: bool):
    """Values are put in verbatim, whatever they hold."""
    environ = {name: value for _, name, value in parts}
    default = ":-" if with_default else ""
    text = "".join(f"{before}${{{name}{default}}}" for before, name, _ in parts)
    expected = "".join(f"{before}{environ[name]}" for before, name, _ in parts)
    assert substitute(text, environ).text == expected


@given(st.text(alphabet="${}:-AB_1 "))
def test_anything_is_either_substituted_or_refused(text: str):
    """No `${` survives unnoticed unless it was escaped."""
    done = substitute(text, {"A": "x", "B": "y"})
    unescaped = re.sub(r"\$\$", "", text)
    assert done.problem or done.unset or "${" not in unescaped or done.text != text
