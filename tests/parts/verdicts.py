"""What the six commands that look at containers say of one container, each in its own words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.parts.command import opskit


@dataclass(frozen=True)
class Commands:
    """The real commands on a Compose project, with these of its containers named in the configuration."""

    home: Path
    env: Mapping[str, str]
    compose_file: Path
    containers: tuple[str, ...]
    rules: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.home.mkdir(exist_ok=True)
        stack = {
            "compose": {"app": [str(self.compose_file)]},
            "docker_network": None,
            "containers": {"victoria": list(self.containers), "veronica": []},
        }
        content = {"stack": stack, "recovery": dict(self.rules), "watch": {"memory_percent": 100}}
        self._config.write_text(yaml.safe_dump(content), encoding="utf-8")
        checks = [{"name": name, "kind": "container", "with": {"name": name}} for name in self.containers]
        self._checklist.write_text(yaml.safe_dump({"checks": checks}), encoding="utf-8")

    @property
    def _config(self) -> Path:
        return self.home / "opskit.yaml"

    @property
    def _checklist(self) -> Path:
        return self.home / "checks.yaml"

    def verify(self) -> dict[str, dict[str, Any]]:
        """Findings of kind `container`, by container."""
        return {one["target"]: one for one in self._run("verify", str(self._checklist))["findings"]}

    def doctor(self) -> dict[str, list[dict[str, Any]]]:
        """Causes whose target is a container, by container."""
        document = self._run("doctor")
        return {
            name: [one for one in document["causes"] if one["target"] == name] for name in self.containers
        }

    def conditions(self) -> dict[str, dict[str, str]]:
        """The condition of each container, by command."""
        looked_at = {one["target"]: one for one in self._run("doctor")["findings"]}["containers"]
        project = self.recover()["compose:app"]["evidence"]["containers"]
        return {
            "verify": {name: one["evidence"]["values"]["condition"] for name, one in self.verify().items()},
            "doctor": looked_at["evidence"]["conditions"],
            "diagnose": {name: one["evidence"]["condition"] for name, one in self.diagnose().items()},
            "recover": {name: project[name] for name in self.containers},
            "watch": {name: one["condition"] for name, one in self.watch().items()},
        }

    def diagnose(self) -> dict[str, dict[str, Any]]:
        """Findings of the area `containers`, by container."""
        document = self._run("diagnose", "containers", "--lines", "0")
        return {one["target"]: one for one in document["findings"] if one["check"] == "container"}

    def recover(self) -> dict[str, dict[str, Any]]:
        """Findings of a dry run, by target."""
        document = self._run("recover", "--dry-run", "--only", "docker", "--only", "compose:app")
        return {one["target"]: one for one in document["findings"]}

    def watch(self) -> dict[str, dict[str, Any]]:
        """What the last tick knows, by container."""
        result = self._opskit("watch", "--only", "containers", "--every", "500ms", "--count", "3", "--json")
        ticks = [event for line in result.splitlines() if (event := json.loads(line))["event"] == "tick"]
        return {one["name"]: one for one in ticks[-1]["containers"]["known"]}

    def _run(self, *arguments: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self._opskit(*arguments, "--json"))
        return document

    def _opskit(self, *arguments: str) -> str:
        result = opskit(*arguments, "--config", str(self._config), home=self.home, env=self.env)
        assert result.out, result.err
        return result.out
