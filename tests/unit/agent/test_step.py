"""What small models write instead of a step, and what is read in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.agent.step import AgentStep, StepError, read_object, read_step, step_schema
from opskit.agent.tools.toolbox import Finish
from opskit.config.fields import json_schema

READ = {"path": "notes/todo.txt"}
PLAIN = '{"thought": "look", "tool": "read_file", "args": {"path": "notes/todo.txt"}}'


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        f"```json\n{PLAIN}\n```",
        f"Sure! Here is my step:\n{PLAIN}\nI will wait for the result.",
        f"<think>Which file? {{maybe}} notes.</think>{PLAIN}",
        "{'thought': 'look', 'tool': 'read_file', 'args': {'path': 'notes/todo.txt'}}",
        '{"thought": "look", "tool": "read_file", "args": {"path": "notes/todo.txt"}',
        '{"thought": "look", "tool": "read_file", "args": {"path": "notes/todo.txt",},}',
        '{thought: "look", tool: "read_file", args: {path: "notes/todo.txt"}}',
        '{"name": "read_file", "arguments": {"path": "notes/todo.txt"}}',
        '{"name": "read_file", "arguments": "{\\"path\\": \\"notes/todo.txt\\"}"}',
        '{"action": "read_file", "action_input": {"path": "notes/todo.txt"}}',
        '{"function": {"name": "read_file", "arguments": {"path": "notes/todo.txt"}}}',
        '{"tool_calls": [{"name": "read_file", "arguments": {"path": "notes/todo.txt"}}]}',
        '<tool_call>\n{"name": "read_file", "arguments": {"path": "notes/todo.txt"}}\n</tool_call>',
        '[{"tool": "read_file", "args": {"path": "notes/todo.txt"}}]',
        'Thought: I must look\nAction: read_file\nAction Input: {"path": "notes/todo.txt"}\nObservation:',
        "Thought: I must look\nAction: read_file\nAction Input: {'path': 'notes/todo.txt'}",
        '{"recipient_name": "functions.read_file", "parameters": {"path": "notes/todo.txt"}}',
        '{"thought": "line\nbreak", "tool": "read_file", "args": {"path": "notes/todo.txt"}}',
    ],
)
def test_a_step_is_read_in_whatever_form_it_comes(text: str):
    """JSON, broken JSON, other frameworks' names, prose around it."""
    step = read_step(text)
    assert (step.tool, dict(step.args)) == ("read_file", READ)


@pytest.mark.parametrize(
    "text", ["", "I think the answer is 42.", "{}", "[]", "[1, 2]", "{{{{", '{"tool": 3}']
)
def test_what_is_no_step_is_told_to_the_model(text: str):
    """The error says what is missing."""
    with pytest.raises(StepError):
        read_step(text)


def test_an_answer_alone_finishes():
    """Models forget the tool once they know the answer."""
    step = read_step('{"answer": "There are 3 files."}')
    assert (step.tool, step.args) == ("finish", {"answer": "There are 3 files."})


def test_arguments_that_are_no_object_are_refused():
    """A list of arguments names nothing."""
    with pytest.raises(StepError, match="args"):
        read_step('{"tool": "read_file", "args": ["a", "b"]}')


def test_deep_nesting_and_endless_text_end_soon():
    """A megabyte of brackets is no step, and no crash."""
    for text in ('{"tool": ' * 100_000, "[" * 1_000_000, '{"args": {' + '"a": {' * 50_000):
        with pytest.raises(StepError):
            read_step(text)


@given(st.text(max_size=300))
def test_no_text_raises_anything_else(text: str):
    """Whatever a model writes, it is a step or a StepError."""
    try:
        read_step(text)
    except StepError:
        return


@given(
    st.dictionaries(
        st.text(max_size=20), st.one_of(st.text(max_size=40), st.integers(), st.booleans()), max_size=5
    )
)
def test_a_step_survives_being_written_and_read(args: dict):
    """The dialogue holds the same notation that is asked for."""
    step = AgentStep("why", "read_file", args)
    read = read_step(step.as_text())
    assert (read.tool, dict(read.args), read.key) == ("read_file", args, step.key)


def test_the_schema_has_a_branch_for_each_tool_and_bounds_every_text():
    """An unbounded text is what cuts the steps of small models off."""
    schema = step_schema([{"name": Finish.name, "parameters": json_schema(Finish.arguments)}])
    (branch,) = schema["oneOf"]
    assert branch["properties"]["tool"] == {"const": "finish"}
    assert list(branch["properties"]) == ["thought", "tool", "args"]
    text = json.dumps(schema)
    assert text.count('"type": "string"') == text.count('"maxLength"')


def test_an_object_is_found_behind_a_thought():
    """Reasoning that holds braces is not the answer."""
    assert read_object('<think>{"steps": []}</think>{"steps": ["a"]}') == {"steps": ["a"]}
