"""The agent's tools over a real workspace, with everything that they leave behind."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opskit.agent.tools.tool import ToolResult
from opskit.agent.tools.toolbox import AUDIT_NAME, toolbox
from opskit.config.load import load
from opskit.records import replace
from tests.parts.policy import SYSTEM_PATH, workspace


@dataclass
class Tools:
    """Calls tools by name; `notes` are what a person was told."""

    folder: Path
    settings: dict[str, Any]
    environ: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place = self.folder / "workspace"
        if not self.place.exists():
            workspace(self.place)
        state = self.folder / "state"
        state.mkdir(exist_ok=True)
        self._audit = state / AUDIT_NAME
        config = load(None, environ={}, cwd=Path("/nowhere"), in_docker=False).config
        settings = {"workspace": str(self.place), **self.settings}
        self.box = toolbox(
            replace(config, agent=replace(config.agent, **settings)), self.environ, state, self.notes.append
        )

    async def __call__(
        self, name: str, approved: tuple[str, ...] | None = None, **arguments: Any
    ) -> ToolResult:
        return await self.box.call(name, arguments, approved=approved)

    async def run(self, command: str | list[str], approved: tuple[str, ...] | None = None) -> ToolResult:
        return await self.box.call("run_terminal_cmd", {"command": command}, approved=approved)

    @property
    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._audit.read_text().splitlines()]


def tools(folder: Path, environ: dict[str, str] | None = None, **settings: Any) -> Tools:
    """Return the tools; `settings` are those of the section `agent`."""
    return Tools(folder, settings, {"PATH": SYSTEM_PATH, "HOME": os.environ["HOME"], **(environ or {})})
