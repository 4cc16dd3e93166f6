"""One step of the agent: the schema that a server enforces, and the reading of what a model wrote. Pure.

Small models write their step in many forms: as JSON, as broken JSON, in a code block, behind a thought, with
the names of other frameworks, as `Action:` and `Action Input:`. All of them are read; what is no step is an
error with a text for the model.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from opskit.agent.tools.tool import FINISH
from opskit.llm.answer import Answer
from opskit.llm.profile import StepMode
from opskit.llm.visible import without_thinking
from opskit.records import Record

_THOUGHT_CHARS = 160
_TOOL_KEYS = ("tool", "name", "action", "function", "tool_name", "recipient_name")
_ARGUMENT_KEYS = ("args", "arguments", "parameters", "action_input", "input", "tool_input")
_ACTION = re.compile(r"^\s*Action\s*:\s*(?P<tool>[\w.-]+)\s*$", re.MULTILINE | re.IGNORECASE)
_INPUT = re.compile(r"^\s*Action[ _]Input\s*:\s*", re.MULTILINE | re.IGNORECASE)
_LARGEST_CHARS = 64_000


class AgentStep(Record):
    """What the model wants to do next."""

    thought: str
    tool: str
    args: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The same for the same call."""
        return f"{self.tool} {json.dumps(self.args, sort_keys=True, ensure_ascii=False)}"

    def as_text(self) -> str:
        """Return it as the model should have written it: never in another notation."""
        return json.dumps({"thought": self.thought, "tool": self.tool, "args": self.args}, ensure_ascii=False)


class StepError(Exception):
    """What a model wrote is no step; the text tells the model what is wrong."""


def object_schema(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def step_schema(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the schema of a step: one branch for each tool, every text bounded.

    Measured on tiny models: with a loose `args` half of the steps are cut off and a tenth have the right
    arguments; with a branch for each tool all are valid.
    """
    thought = {"type": "string", "maxLength": _THOUGHT_CHARS}
    return {
        "oneOf": [
            object_schema(thought=thought, tool={"const": tool["name"]}, args=tool["parameters"])
            for tool in tools
        ]
    }


def read_answer(answer: Answer) -> AgentStep:
    """Return the step in an answer; plain words of a model that was offered functions are what it answers.

    Raises StepError.
    """
    if (called := called_step(answer)) is not None:
        return called
    try:
        return read_step(answer.text)
    except StepError:
        if answer.mode is not StepMode.NATIVE or "{" in answer.text:
            raise
        return AgentStep("", FINISH, {"answer": without_thinking(answer.text).strip()})


def called_step(answer: Answer) -> AgentStep | None:
    """Return the step that came as a call of a function, where the server speaks so."""
    if not answer.tool_calls:
        return None
    call = answer.tool_calls[0]
    arguments = read_object(call.arguments) if call.arguments.strip() not in ("", "{}") else {}
    return AgentStep(answer.text.strip()[:300], call.name, arguments)


def read_step(text: str) -> AgentStep:
    """Return the step in what a model wrote. Raises StepError."""
    said = without_thinking(text[:_LARGEST_CHARS]).strip()
    if (action := _ACTION.search(said)) is not None:
        given = _INPUT.search(said, action.end())
        arguments = said[given.end() :].strip() if given is not None else ""
        return AgentStep(
            said[: action.start()].strip()[:_THOUGHT_CHARS], action["tool"], _arguments(arguments)
        )
    return _step(read_object(said))


def read_object(text: str) -> Mapping[str, Any]:
    """Return the JSON object in a text, repaired where it is broken. Raises StepError."""
    from json_repair import repair_json

    said = without_thinking(text[:_LARGEST_CHARS]).strip()
    begin = said.find("{")
    if begin < 0:
        raise StepError("there is no JSON object in your answer")
    try:
        fields, _ = json.JSONDecoder(strict=False).raw_decode(said, begin)
    except (json.JSONDecodeError, RecursionError):
        try:
            fields = repair_json(said[begin:], return_objects=True, skip_json_loads=True)
        except (RecursionError, ValueError):
            fields = None  # nested too deeply
    if isinstance(fields, list):
        fields = next((item for item in fields if isinstance(item, Mapping)), None)
    if not isinstance(fields, Mapping) or not fields:
        raise StepError("your answer is no JSON object")
    return fields


def _step(fields: Mapping[str, Any]) -> AgentStep:
    calls = fields.get("tool_calls")
    if isinstance(calls, list) and calls and isinstance(calls[0], Mapping):
        fields = calls[0]
    thought = str(fields.get("thought") or fields.get("reasoning") or "")[:_THOUGHT_CHARS]
    named = next((fields[key] for key in _TOOL_KEYS if fields.get(key)), None)
    if isinstance(named, Mapping):
        # {"function": {"name": ..., "arguments": ...}}
        return AgentStep(thought, str(named.get("name", "")), _arguments(_first(named, _ARGUMENT_KEYS)))
    if not isinstance(named, str):
        answer = fields.get("answer") or fields.get("final_answer")
        if isinstance(answer, str):
            return AgentStep(thought, FINISH, {"answer": answer})
        raise StepError('"tool" is missing')
    return AgentStep(thought, named.removeprefix("functions."), _arguments(_first(fields, _ARGUMENT_KEYS)))


def _first(fields: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((fields[key] for key in keys if key in fields), None)


def _arguments(given: Any) -> Mapping[str, Any]:
    """Return arguments as an object: models write them as text too, or leave them out."""
    if isinstance(given, str) and given.strip():
        try:
            return read_object(given)
        except StepError:
            raise StepError('"args" must be a JSON object') from None
    if given is None or given == "":
        return {}
    if not isinstance(given, Mapping):
        raise StepError('"args" must be a JSON object')
    return given
