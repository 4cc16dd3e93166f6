"""An agent that wants to run a program which the policy asks about, over a simulated stack."""

import json
from pathlib import Path
from typing import Any

from opskit.sandbox.stage import Stage

GOAL = "Deploy the release, and say what the program printed."


def step(tool: str, **args: Any) -> str:
    return json.dumps({"thought": "the goal", "tool": tool, "args": args})


def scripted(messages: list[dict[str, Any]], model: str) -> str:
    """Deploy first; once that has a result, finish with it. Any other goal is answered at once."""
    texts = [str(message["content"]) for message in messages]
    if not any(GOAL in text for text in texts):
        return "42"
    results = [text for text in texts if text.startswith("Result of run_terminal_cmd")]
    if not results:
        return step("run_terminal_cmd", command="deployer --to production")
    return step(
        "finish", answer="The release is deployed." if "deployed" in results[-1] else "It was not run."
    )


class Workplace:
    """A home with a configuration, a workspace and the program `deployer`, which leaves a line each time."""

    def __init__(self, home: Path, **agent: Any) -> None:
        self.home = home
        self.workspace = home / "workspace"
        self.programs = home / "programs"
        for folder in (home, self.workspace, self.programs):
            folder.mkdir()
        self._audited = 0
        self.program = self.programs / "deployer"
        self.write_program("deployed")
        self.config = home / "opskit.yaml"
        self.config.write_text(json.dumps({"agent": {"workspace": str(self.workspace), **agent}}))

    def reset(self) -> None:
        """Forget what was deployed and audited."""
        self._audited = len(self._audit_lines())
        self.write_program("deployed")
        (self.workspace / "deployments").unlink(missing_ok=True)

    def write_program(self, text: str) -> None:
        self.program.write_text(f"#!/bin/sh\necho $1 $2 >> deployments\necho {text}\n")
        self.program.chmod(0o755)

    @property
    def deployments(self) -> list[str]:
        """The arguments of each run of the program."""
        path = self.workspace / "deployments"
        return path.read_text().splitlines() if path.exists() else []

    def environment(self, stage: Stage) -> dict[str, str]:
        path = f"{self.programs}:/usr/local/bin:/usr/bin:/bin"
        nodes = {name: url for name, url in stage.environment().items() if not name.startswith("V")}
        return {**nodes, "PATH": path, "OPSKIT_CONFIG": str(self.config)}

    @property
    def audit(self) -> list[dict[str, Any]]:
        """The lines about approvals since the last reset."""
        lines = [json.loads(line) for line in self._audit_lines()[self._audited :]]
        return [line for line in lines if line["event"].startswith("approval")]

    def _audit_lines(self) -> list[str]:
        paths = self.home.glob("state/**/agent_audit.jsonl")
        return [line for path in paths for line in path.read_text().splitlines()]
