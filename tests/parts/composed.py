"""A Compose project of built images, in a folder of its own, on the real daemon and docker-compose."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from tests.parts.command import Result, opskit
from tests.parts.compose_stack import install_compose_2
from tests.parts.docker import IMAGE, LABEL, Engine

LIMIT_S = 60.0
#: Ends at SIGTERM, as process 1 of a shell does not by itself.
WAIT = "trap 'exit 143' TERM; while :; do sleep 1000 & wait $!; done"
#: Answers `GET /health` and `POST /chat` on port 8003, one request after another.
CHAT = """#!/bin/sh
read -r method path rest
length=0
while read -r line; do
  line=$(echo "$line" | tr -d '\\r')
  [ -z "$line" ] && break
  case "$line" in [Cc]ontent-[Ll]ength:*) length=${line#*: };; esac
done
[ "$length" -gt 0 ] && head -c "$length" > /dev/null
body='{"status": "ok"}'
[ "$path" = /chat ] && body='{"response": "ANSWER"}'
printf 'HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nConnection: close\\r\\n'
printf 'Content-Length: %s\\r\\n\\r\\n%s' "${#body}" "$body"
"""
DOCKERFILE = f"FROM {IMAGE}\nARG TEXT=one\nLABEL {LABEL}=MARK\nENV TEXT=$TEXT\nCOPY chat /bin/chat\n"


@dataclass
class Composed:
    """`project` is its name, which is that of its folder and no other's."""

    box: Engine
    folder: Path
    home: Path
    version: int = 1

    @property
    def file(self) -> Path:
        return self.folder / "docker-compose.yml"

    @property
    def project(self) -> str:
        return self.folder.name

    def write(self, services: Mapping[str, Mapping[str, Any]], *, answer: str = "ready", **top: Any) -> None:
        """The Compose file and the build context of its images."""
        context = self.folder / "image"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(DOCKERFILE.replace("MARK", self.box.mark))
        (context / "chat").write_text(CHAT.replace("ANSWER", answer))
        (context / "chat").chmod(0o755)
        labels = {LABEL: self.box.mark}
        whole = {name: {"labels": labels, "stop_grace_period": "1s", **one} for name, one in services.items()}
        self.file.write_text(yaml.safe_dump({"version": "3.4", "services": whole, **top}, sort_keys=False))

    def configuration(self, **more: Any) -> Path:
        """The configuration of opskit that knows this project as `app`."""
        path = self.folder.parent / "opskit.yaml"
        path.write_text(yaml.safe_dump({"stack": {"compose": {"app": [str(self.file)]}}, **more}))
        return path

    def compose(self, *arguments: str) -> str:
        program = ["docker-compose"] if self.version == 1 else ["docker", "compose"]
        done = subprocess.run(
            [*program, "-f", str(self.file), *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **self.box.environment},
            check=True,
            capture_output=True,
            timeout=LIMIT_S,
        )
        return done.stdout.decode()

    def opskit(self, *arguments: str, path: Path | None = None, **more: Any) -> Result:
        """`opskit ARGUMENTS` with this configuration; `path` goes in front of PATH."""
        env = {**self.box.environment}
        if path is not None:
            env["PATH"] = f"{path}:{os.environ['PATH']}"
        config = self.folder.parent / "opskit.yaml"
        return opskit(*arguments, "--config", str(config), home=self.home, env=env, **more)

    def ids(self) -> set[str]:
        wanted = {"label": f"com.docker.compose.project={self.project}"}
        return {one.id for one in self.box.client.containers.list(all=True, filters=wanted)}

    def image(self, service: str) -> str:
        """The id of the image that a service is built to."""
        mark = "_" if self.version == 1 else "-"
        return str(self.box.client.images.get(f"{self.project}{mark}{service}").id)

    def clean(self) -> None:
        self.box.clean()
        wanted = {"label": f"com.docker.compose.project={self.project}"}
        for network in self.box.client.networks.list(filters=wanted):
            network.remove()
        for volume in self.box.client.volumes.list(filters=wanted):
            volume.remove(force=True)
        for image in self.box.client.images.list(all=True, filters={"label": f"{LABEL}={self.box.mark}"}):
            subprocess.run(
                ["docker", "image", "rm", "-f", str(image.id)],
                env={"PATH": os.environ["PATH"], **self.box.environment},
                capture_output=True,
            )


@contextmanager
def composed(box: Engine, folder: Path, version: int = 1) -> Iterator[Composed]:
    """A project that leaves nothing behind; nobody has edited its `aged` files."""
    made = Composed(box, folder / f"app{uuid4().hex[:8]}", folder / "home", version)
    made.folder.mkdir()
    made.home.mkdir()
    if version == 2:
        install_compose_2(made.home)
    yield made
    made.clean()
