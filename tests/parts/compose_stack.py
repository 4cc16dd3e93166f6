"""One Compose project in a folder of its own, its healer, and a real Compose of version 1 or 2."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker.models.containers import Container

from opskit.recovery.outcome import Outcome, RecoveryRun
from opskit.recovery.step import RecoveryContext, Step
from opskit.recovery.steps.compose_project import compose_projects
from opskit.recovery.steps.docker_daemon import docker_daemon, docker_network
from tests.parts.docker import IMAGE, LABEL, Engine
from tests.parts.healing import Healing, configured, machine, outcome

LIMIT_S = 30.0
WAIT = "trap 'exit 143' TERM; while :; do sleep 1000 & wait $!; done"
#: Nothing that happens within a test is recent any more.
LONG_AGO = {"hands_off_s": 0.001}


def steps(context: RecoveryContext) -> Sequence[Step]:
    return [docker_daemon(context), docker_network(context), *compose_projects(context)]


@dataclass
class Stack:
    """One Compose project in a folder of its own, and the healer of a machine that has no other."""

    box: Engine
    folder: Path
    network: str | None = None
    rules: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    version: int = 1

    def __post_init__(self) -> None:
        self.folder.mkdir()
        home = self.folder.parent / "home"
        self.environ = machine(home, {**self.box.environment, **self.env})
        if self.version == 2:
            install_compose_2(home)
        elif shutil.which("docker-compose") is None:
            pytest.skip("there is no docker-compose: apt-get install docker-compose")
        self.healing = Healing(self.folder.parent / "state", self.config(), self.environ)

    @property
    def file(self) -> Path:
        return self.folder / "docker-compose.yml"

    @property
    def project(self) -> str:
        return self.folder.name

    def config(self, **rules: Any) -> Any:
        stack = {"compose": {"app": [str(self.file)]}, "docker_network": self.network}
        content = {"stack": stack, "recovery": {**self.rules, **rules}}
        return configured(self.folder.parent / "config", content)

    def write(self, services: dict[str, dict[str, Any]], *, fresh: bool = False, **top: Any) -> None:
        """The Compose file; unless `fresh`, nobody has edited it."""
        made = {}
        for name, given in services.items():
            labels = {LABEL: self.box.mark, **given.pop("labels", {})}
            base = {
                "image": IMAGE,
                "command": ["sh", "-c", given.pop("script", WAIT).replace("$", "$$")],
                "labels": labels,
            }
            made[name] = {**base, **({} if "networks" in given else {"network_mode": "none"}), **given}
        self.file.write_text(yaml.safe_dump({"services": made, **top}, sort_keys=False))
        if not fresh:
            aged(self.file)

    @property
    def program(self) -> list[str]:
        return ["docker-compose"] if self.version == 1 else ["docker", "compose"]

    def compose(self, *arguments: str) -> None:
        subprocess.run(
            [*self.program, "-f", str(self.file), *arguments],
            env={**self.environ, "COMPOSE_IGNORE_ORPHANS": "1"},
            check=True,
            capture_output=True,
            timeout=LIMIT_S,
        )

    def docker(self, *arguments: str) -> None:
        subprocess.run(
            ["docker", *arguments], env=self.environ, check=True, capture_output=True, timeout=LIMIT_S
        )

    def containers(self, service: str) -> list[Container]:
        wanted = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        return self.box.client.containers.list(all=True, filters={"label": wanted})

    def container(self, service: str) -> Container:
        (found,) = self.containers(service)
        found.reload()
        return found

    async def until(self, service: str, true: Any) -> Container:
        """Wait for what the daemon tells of a container."""
        async with asyncio.timeout(LIMIT_S):
            while not true(found := self.container(service)):
                await asyncio.sleep(0.02)
        return found

    async def heal(self, *, dry: bool = False, **rules: Any) -> RecoveryRun:
        self.healing.config = self.config(**rules)
        return await self.healing.run(steps, dry=dry)

    async def healed(self, target: str, **rules: Any) -> Outcome:
        return outcome(await self.heal(**rules), target)

    @property
    def commands(self) -> list[str]:
        return [one.command.shown for one in self.healing.runner.ran]


@contextmanager
def cleaned(made: Stack) -> Iterator[Stack]:
    try:
        yield made
    finally:
        made.box.clean()
        for network in made.box.client.networks.list(
            filters={"label": f"com.docker.compose.project={made.project}"}
        ):
            network.remove()


def ended(found: Container) -> bool:
    return found.status == "exited"


def running(found: Container) -> bool:
    return found.status == "running"


def health(word: str) -> Any:
    return lambda found: (found.attrs["State"].get("Health") or {}).get("Status") == word


def aged(path: Path) -> None:
    """As if nobody had edited it: its time lies far ahead, for that of its last change cannot be set back."""
    far_ahead = time.time() + 3600
    os.utime(path, (far_ahead, far_ahead))


def install_compose_2(home: Path) -> None:
    """Give a home the plug-in that COMPOSE2 names: the real Compose 2 of the next Debian."""
    plugin = os.environ.get("COMPOSE2", "")
    if not os.access(plugin, os.X_OK):
        pytest.skip("COMPOSE2 names no plug-in of Compose 2: `.ci/run` shows where it comes from")
    folder = home / ".docker/cli-plugins"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "docker-compose").symlink_to(plugin)
