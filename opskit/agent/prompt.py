"""The prompts of the package, filled in."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from opskit.agent.tools.tool import FINISH

_EXAMPLES = {
    "list_directory": ("see which files are there", {"path": "."}),
    "read_file": ("the answer stands in this file", {"path": "notes/todo.txt"}),
    "run_terminal_cmd": ("the size of the disk answers it", {"argv": ["df", "-h"]}),
    "check_stack": ("see what is wrong with the stack", {}),
    "search_logs": ("find the error in the log", {"pattern": "error"}),
}


def prompt(name: str, **values: str) -> str:
    """Return the prompt of that name with its values."""
    return _text(name).format(**values)


def act_prompt(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the rules of a step, with the tools and an example of each that is known."""
    described = "\n".join(
        f"- {tool['name']}: {tool['description']} args: {_signature(tool['parameters'])}" for tool in tools
    )
    names = [tool["name"] for tool in tools]
    examples = [
        json.dumps({"thought": thought, "tool": name, "args": args}, ensure_ascii=False)
        for name, (thought, args) in _EXAMPLES.items()
        if name in names
    ][:3]
    finish = {"thought": "the results answer it", "tool": FINISH, "args": {"answer": "There are 3 files."}}
    return prompt("act", tools=described, examples="\n".join([*examples, json.dumps(finish)]))


def _signature(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties", {})
    required = schema.get("required", ())
    parts = [
        f'"{key}": {shape.get("type", "any")}{"" if key in required else " (optional)"}'
        for key, shape in properties.items()
    ]
    return "{" + ", ".join(parts) + "}"


@cache
def _text(name: str) -> str:
    return files("opskit.agent").joinpath("prompts", f"{name}.md").read_text("utf-8")
