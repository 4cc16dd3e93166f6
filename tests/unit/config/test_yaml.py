"""What YAML may look like, and what is said when it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config.document import InvalidConfigError, Mark, scalar
from opskit.config.yaml import parse

BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 8)}]\n" for n in range(9)
)


def refused(text: str | bytes) -> str:
    with pytest.raises(InvalidConfigError) as raised:
        parse(text if isinstance(text, bytes) else text.encode(), "f.yaml")
    assert raised.value.message.isprintable()
    return raised.value.message


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: a: appears twice (first on line 1)"),
        ("a:\n  b: 1\n  b: 2\n", "f.yaml:3:3: a.b: appears twice (first on line 2)"),
        ("1: x\n", "f.yaml:1:1: a key must be text: put it in quotes"),
        ("true: x\n", "f.yaml:1:1: a key must be text: put it in quotes"),
        ("a:\n  ? [1]\n  : x\n", "f.yaml:2:5: a: a key must be text: put it in quotes"),
        ("a:\n\tb: 1\n", "f.yaml:2:1: a tab cannot be used here: use spaces"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: only one document is allowed (a second `---`)"),
        ("a: [1\nb: 2\n", "f.yaml:2:2: a `,` or the closing bracket is missing"),
        ("a: 'x\n", "f.yaml:2:1: the quotes are not closed"),
        ("a: b: c\n", "f.yaml:1:5: a `:` is not expected here (check indentation and quotes)"),
        ("a: 1\n b: 2\n", "f.yaml:2:3: a `:` is not expected here (check indentation and quotes)"),
        ("a: @x\n", "f.yaml:1:4: a value that begins like this needs quotes"),
        ("a: *sk-123\n", "f.yaml:1:4: an alias (*name) without its anchor: put the value in quotes"),
        ("a: &x 1\nb: &x 2\n", "f.yaml:2:4: b: an anchor (&name) is defined twice"),
        ("*x : 1\n", "f.yaml:1:1: a key must be text: put it in quotes"),
        ("!!python/name:os.x\n", "f.yaml:1:1: tags (!name) are not supported: put the value in quotes"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "f.yaml:2:5: c: merge keys (<<) are not supported: write the keys"),
        ("- a\n", "f.yaml:1: must hold `key: value` lines"),
        ("word\n", "f.yaml:1: must hold `key: value` lines"),
        ("a: 1\nb: \x07\n", "f.yaml:2: a control character is not allowed here"),
    ],
)  # fmt: skip
def test_bad_form_is_named_by_file_line_and_column(text: str, message: str):
    """Each mistake of form gives one line in plain words."""
    assert refused(text) == message


def test_invalid_utf8_is_named_by_its_line():
    """A wrong byte is found on the line where it stands."""
    assert refused(b"a: 1\nb: \xff\n") == "f.yaml:2: not valid UTF-8 text"


@pytest.mark.parametrize(
    "text",
    [BOMB, "a: &a [*a]", "a: &a {b: *a}", "[" * 100_000, "a: [" + "1," * 20_000 + "]", "- " * 50_000],
    ids=["billion laughs", "recursive list", "recursive map", "deep", "long", "deep block"],
)
def test_a_file_cannot_grow_without_bound(text: str):
    """Aliases, depth and length end at a limit, not in exhausted memory or a traceback."""
    assert "too many values" in refused(text) or "nested too deeply" in refused(text)


def test_an_alias_is_a_copy():
    """Anchors may be used to write something once; what stands in the copy has the lines of the original."""
    document = parse(b"a: &x\n  - {c: 1}\nb: *x\n", "f")
    assert document.data == {"a": [{"c": 1}], "b": [{"c": 1}]}
    assert document.data["a"] is not document.data["b"]
    assert document.mark(("b", 0, "c")) == Mark(2, 6)
    assert document.mark(("b",)) == Mark(3, 1)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\ufeff"])
def test_an_empty_file_is_an_empty_document(text: str):
    """No content is no problem."""
    assert parse(text.encode(), "f").data == {}


@pytest.mark.parametrize(
    "text, value",
    [
        ("", None),
        ("null", None),
        ("true", True),
        ("yes", "yes"),
        ("010", 10),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("9" * 5000, float("inf")),
    ],
)
def test_plain_words_mean_what_they_look_like(text: str, value: object):
    """The core schema of YAML 1.2, without the surprises of 1.1."""
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@given(st.text())
def test_every_word_has_a_meaning(text: str):
    """No word raises."""
    assert scalar(text) is None or isinstance(scalar(text), (str, bool, int, float))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_document_or_a_problem(content: bytes):
    """Whatever a file holds, the answer is a document or InvalidConfigError in one printable line."""
    said = ""
    try:
        parse(content, "f")
    except InvalidConfigError as exc:
        said = exc.message
    assert not said or said.isprintable()


def test_marks_know_every_key():
    """A key path gives the line of its key; an unknown one that of the section around it."""
    document = parse(b"nodes:\n  ollama:\n    url: x\nrouter: {order: [a, b]}\n", "f")
    assert document.mark(("nodes", "ollama", "url")) == Mark(3, 5)
    assert document.mark(("router", "order", 1)) == Mark(4, 21)
    assert document.mark(("nodes", "ollama", "source")) == Mark(2, 3)
    assert document.mark(("absent",)) is None
