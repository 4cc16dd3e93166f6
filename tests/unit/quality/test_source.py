"""Where the Python is in a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.quality.source import holds_python, in_answer, in_markdown


def codes(text: str) -> list[str]:
    return [source.code for source in in_markdown(text, "answer")]


def test_marked_blocks_are_taken_and_others_left():
    """Only blocks marked as Python count when there are any."""
    text = "```python\na = 1\n```\n```bash\nls\n```\n```\nb = 2\n```\n~~~py\nc = 3\n~~~\n"
    assert codes(text) == ["a = 1\n", "c = 3\n"]


@pytest.mark.parametrize(
    "info", ["python", "Python", "py", "python3", "{.python}", "python title=a.py", " py:x"]
)
def test_a_mark_may_be_written_in_many_ways(info):
    """Models and tools mark Python in several ways."""
    assert codes(f"```{info}\na = 1\n```\n") == ["a = 1\n"]


def test_a_block_without_a_mark_counts_when_no_other_does():
    """Without any mark, blocks that hold Python are taken and printed results are not."""
    assert codes("```\nprint(1)\n```\nprints\n```\n1\n```\n") == ["print(1)\n"]


def test_a_block_that_is_never_closed_counts():
    """An answer that was cut off still has its code."""
    assert codes("Sure:\n```python\ndef f():\n    return") == ["def f():\n    return"]


def test_a_block_knows_where_it_stands():
    """Lines and columns of a block in a list lead back to the text."""
    (source,) = in_markdown("1. so\n\n   ```python\n   a = 1\n   ```\n", "answer")
    assert (source.line, source.column, source.code) == (3, 3, "a = 1\n")


def test_a_longer_fence_may_hold_a_shorter_one():
    """Code that contains a fence is one block."""
    assert codes('````python\ns = """\n```\n"""\n````\n') == ['s = """\n```\n"""\n']


@pytest.mark.parametrize(
    "text", ["", "Sorry, I cannot do that.", "# Title\n\nwords (and more)\n", "```\n42\n```\n"]
)
def test_prose_holds_no_code(text):
    """An answer without code is none, however much of it happens to parse."""
    assert in_answer(text, "answer") == ()


def test_python_with_a_fence_in_a_docstring_is_python():
    """A whole program is not taken apart by the Markdown in its documentation."""
    text = 'def f():\n    """Use it so:\n\n    ```python\n    f()\n    ```\n    """\n'
    assert [source.code for source in in_answer(text, "answer")] == [text]


@pytest.mark.parametrize(
    "text", ["def f(:\n", "import os\nif x\n", "class A\n    pass\n@decorated\n", "x = = 1\ny = 2"]
)
def test_broken_python_is_still_python(text):
    """Code with a syntax error is judged, not called prose."""
    assert [source.code for source in in_answer(text, "answer")] == [text]


@pytest.mark.parametrize(
    "line", ["import the data", "from the start", "class of 1999", "return to sender", "Yes."]
)
def test_sentences_that_begin_like_python_are_none(line):
    """English shares words with Python."""
    assert not holds_python(line)


@given(
    st.lists(
        st.sampled_from(["```python", "~~~py", "```", "~~~", "a = 1", "  b", "\n", "\n", "> ", "- ", "   "])
    ).map("".join)
    | st.text()
)
def test_a_block_is_found_where_the_text_has_it(text):
    """Whatever the text, each block's lines stand at the place that the block names."""
    text = text.replace("\r", "\n").replace("\0", "")
    lines = text.split("\n")
    for source in in_markdown(text, "answer"):
        for number, line in enumerate(source.code.removesuffix("\n").split("\n"), source.line):
            assert line.strip() in lines[number]
