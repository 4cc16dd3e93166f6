"""What the agent can use, as its loop sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

#: The tool that ends a run; its only argument is the answer.
FINISH = "finish"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gives back: `text` is for the model, and `ok` False means that it did not work."""

    text: str
    ok: bool = True


class Tool(Protocol):
    """One thing that the agent can do. `schema` is the JSON schema of its arguments, with bounded strings."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def schema(self) -> Mapping[str, Any]: ...

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Do it. What goes wrong is a result that is not `ok`."""
        ...


class FinishTool:
    """Ends the run with an answer; the loop itself takes it."""

    name = FINISH
    description = "give the final answer to the user"
    schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {"answer": {"type": "string", "maxLength": 1500}},
        "required": ["answer"],
        "additionalProperties": False,
    }

    async def run(self, arguments: Mapping[str, Any]) -> ToolResult:
        return ToolResult(str(arguments.get("answer", "")))
