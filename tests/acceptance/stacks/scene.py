"""What surrounds one examination: a home, variables, a configuration, servers that end with it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from opskit.records import replace
from opskit.sandbox.ollama import SimModel
from opskit.tags import format_line
from tests.parts.command import Result, started
from tests.parts.composed import Composed, composed
from tests.parts.docker import Engine
from tests.parts.ollama_process import OllamaProcess, ollama_process
from tests.parts.plain_host import PlainHost

LIMIT_S = 60.0
#: The load of the machine that runs the tests is not under test, and nobody waits 15 s for a token.
QUIET = {
    "watch": {"memory_percent": 100, "disk_percent": 100},
    "probe": {"first_token_s": 4, "http_s": 4},
}


@dataclass
class Scene:
    """`config` is laid over QUIET when it is a mapping, and written as it stands when it is a text."""

    home: Path
    parts: Mapping[str, Any]
    host: PlainHost
    closing: ExitStack
    env: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] | str = field(default_factory=dict)
    config_name: str = "opskit.yaml"
    prefix: Sequence[str] = ()
    """A program and its arguments that runs the doctor, put in front of it."""

    def environment(self) -> dict[str, str]:
        """Without any setting of opskit."""
        folders = {"XDG_STATE_HOME": str(self.home / "state"), "XDG_CONFIG_HOME": str(self.home / "config")}
        base = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8"}
        return {**base, **folders, **self.env}

    def opskit(self, *arguments: str) -> Result:
        """Run a command as a person on a plain machine does, who stands in their home."""
        command = [*self.prefix, sys.executable, "-m", "opskit", *arguments]
        done = subprocess.run(
            self.host.command(command, self.home),
            env=self.environment(),
            cwd=self.host.cwd(self.home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def doctor(self) -> Result:
        path = self.home / self.config_name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(self.config, str):
            path.write_bytes(self.config.encode())
        else:
            path.write_text(yaml.safe_dump({**QUIET, **self.config}))
        return self.opskit("doctor", "--json")

    def node(self, name: str, url: str, source: str = "ollama", **about: Any) -> None:
        """Add a node to the configuration."""
        assert isinstance(self.config, dict)
        self.config.setdefault("nodes", {})[name] = {"url": url, "source": source, **about}

    def ollama(
        self,
        *faults: str,
        models: Sequence[SimModel] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> OllamaProcess:
        """Start an Ollama with these faults; OLLAMA_API_URL leads to it."""
        folder = self.folder("ollama-server")
        server = self.closing.enter_context(ollama_process(folder, *faults, models=models, env=env))
        self.env["OLLAMA_API_URL"] = server.url
        return server

    def sandbox(self, *faults: str, nodes: Sequence[str] = ()) -> dict[str, str]:
        """Start a simulated stack and return its addresses; those of `nodes` become variables."""
        options = [part for fault in faults for part in ("--fault", fault)]
        process = started(["sandbox", "up", *options], home=self.folder("sandbox"))
        self.closing.callback(_end, process)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        urls = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
        self.env |= {name: url for name, url in urls.items() if name.partition("_")[0].lower() in nodes}
        return {**urls, "pid": str(process.pid)}

    def start(self, *command: str, port: int | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program that ends with the scene, and wait until it listens on `port`."""
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, **{**silent, **options})
        self.closing.callback(_end, process)
        if port is not None:
            wait_for_port(port)
        return process

    def engine(self) -> Engine:
        """The Docker daemon, with a mark of this scene's own; DOCKER_HOST leads to it."""
        box = replace(self.parts["docker_engine"], mark=uuid4().hex[:8])
        self.closing.callback(box.clean)
        self.env |= box.environment
        return box

    def compose(self, services: Mapping[str, Any], *, up: bool = True, **top: Any) -> Composed:
        """Write a Compose project, start it, and configure it as a part of the stack."""
        project = self.closing.enter_context(composed(self.engine(), self.folder("compose")))
        offline = {"network_mode": "none"}
        project.write(
            {
                name: service if "networks" in service else {**offline, **service}
                for name, service in services.items()
            },
            **top,
        )
        self.stack(compose={"shop": [str(project.file)]})
        if up:
            self.compose_up(project)
        return project

    def compose_up(self, project: Composed, *arguments: str) -> None:
        """Start its services; that some of them cannot start is the business of the stack."""
        subprocess.run(
            ["docker-compose", "-f", str(project.file), "up", "-d", *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **project.box.environment},
            capture_output=True,
            timeout=LIMIT_S,
        )

    def stack(self, **values: Any) -> None:
        assert isinstance(self.config, dict)
        base = {"docker_network": None, "containers": {"victoria": [], "veronica": []}}
        self.config["stack"] = {**base, **self.config.get("stack", {}), **values}

    def log_calls(self, *calls: Mapping[str, Any], ago: timedelta = timedelta()) -> None:
        """Write requests into opskit's own log; one with a `fault` failed."""
        lines = []
        for number, fields in enumerate(calls):
            call = {"correlation_id": str(uuid4()), **fields}
            fault = call.pop("fault", None)
            at = datetime.now(UTC) - ago - timedelta(seconds=len(calls) - number)
            lines.append(format_line("LLM_CALL", call, at))
            ended = (
                ("LLM_ERROR", {**call, "fault": fault})
                if fault
                else ("LLM_RESPONSE", {**call, "status": 200})
            )
            lines.append(format_line(*ended, at + timedelta(milliseconds=400)))
        path = self.folder("state/opskit") / "opskit.log"
        with path.open("a") as log:
            log.write("\n".join(lines) + "\n")

    def state_file(self, name: str, content: Any) -> None:
        (self.folder("state/opskit") / name).write_text(json.dumps(content))

    def folder(self, name: str) -> Path:
        path = self.home / name
        path.mkdir(parents=True, exist_ok=True)
        return path


@contextmanager
def scene(home: Path, parts: Mapping[str, Any], host: PlainHost) -> Iterator[Scene]:
    """Everything that it started ends with it."""
    home.mkdir()
    with ExitStack() as closing:
        yield Scene(home, parts, host, closing)


def wait_for_port(port: int, host: str = "127.0.0.1") -> None:
    """Until something listens there."""
    import socket

    limit = time.monotonic() + LIMIT_S
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.02)
        else:
            return


def wait_until(true: Callable[[], bool]) -> None:
    """Until something is so; fails where it never is."""
    limit = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.communicate()
