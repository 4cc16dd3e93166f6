"""A real Docker daemon, containers that leave no trace, and a socket in front of it that can be cut."""

import asyncio
import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest
from docker.errors import DockerException, NotFound
from docker.models.containers import Container

from opskit.errors import OpskitError
from opskit.system.docker import Docker
from opskit.system.docker_host import resolve

START_S = 30.0
POLL_S = 0.02
IMAGE = "opskit-test-busybox:1"
LABEL = "opskit.test"
_DOCKERFILE = b"""FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
"""


@dataclass
class Engine:
    """A daemon to test with. What `run` makes bears a label of its own, and only that is ever removed."""

    host: str
    client: docker.DockerClient
    mark: str = field(default_factory=lambda: uuid4().hex[:8])

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.host}

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return self.host.removeprefix("unix://")

    def door(self) -> Docker:
        return Docker(self.environment)

    def name(self, stem: str = "c") -> str:
        """A name that no other test has."""
        return f"{stem}-{self.mark}-{uuid4().hex[:6]}"

    def run(
        self,
        script: str,
        *,
        name: str | None = None,
        tty: bool = False,
        labels: Mapping[str, str] | None = None,
        log: Mapping[str, str] | None = None,
        driver: str = "json-file",
        start: bool = True,
        **options: Any,
    ) -> Container:
        """A container that runs a shell script; `log` are options of the log driver."""
        made = self.client.containers.create(
            IMAGE,
            ["sh", "-c", script],
            name=name or self.name(),
            tty=tty,
            labels={LABEL: self.mark, **(labels or {})},
            log_config={"type": driver, "config": dict(log or {})},
            network_mode="none",
            # As process 1 the shell would ignore SIGTERM.
            stop_signal="SIGKILL",
            **options,
        )
        if start:
            made.start()
        return made

    def clean(self) -> None:
        for left in self.client.containers.list(
            all=True, sparse=True, filters={"label": f"{LABEL}={self.mark}"}
        ):
            with contextlib.suppress(NotFound, DockerException):
                left.remove(force=True, v=True)

    def build(self) -> None:
        """The image, unless it is there: nothing but a static busybox."""
        with contextlib.suppress(docker.errors.ImageNotFound):
            self.client.images.get(IMAGE)
            return
        path = shutil.which("busybox")
        if path is None:
            pytest.skip("no busybox to build an image of: apt-get install busybox-static")
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for name, content in (("Dockerfile", _DOCKERFILE), ("busybox", Path(path).read_bytes())):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o755
                archive.addfile(info, io.BytesIO(content))
        context.seek(0)
        try:
            self.client.images.build(
                fileobj=context, custom_context=True, tag=IMAGE, network_mode="none", rm=True
            )
        except DockerException as exc:
            pytest.skip(f"the test image cannot be built (is busybox static?): {exc}")


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """The daemon that answers here, else one of our own; skips the test when neither can be had."""
    with contextlib.ExitStack() as parts:
        yield parts.enter_context(engine_of(_answering() or parts.enter_context(own_daemon()).host))


@contextlib.contextmanager
def engine_of(host: str) -> Iterator[Engine]:
    """The daemon at an address, with the image of the tests."""
    client = docker.DockerClient(base_url=host, timeout=30)
    made = Engine(host, client)
    try:
        made.build()
        yield made
        made.clean()
    finally:
        client.close()


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """One daemon for all tests."""
    with engine() as made:
        yield made


@pytest.fixture
def box(docker_engine: Engine) -> Iterator[Engine]:
    """The daemon, rid of this test's containers afterwards."""
    yield docker_engine
    docker_engine.clean()


def _answering() -> str | None:
    try:
        host = resolve().shown
    except OpskitError:
        return None
    if not host.startswith("unix://"):
        return None
    return host if _answers(host) else None


def _answers(host: str) -> bool:
    """Asked without the SDK, which leaves a socket open when it fails."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(2.0)
        try:
            line.connect(host.removeprefix("unix://"))
            line.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in line.recv(64)
        except OSError:
            return False


@dataclass
class Daemon:
    """A `dockerd` in a folder of its own, without a bridge or a firewall rule, ended by its pid."""

    program: str
    home: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.home}/docker.sock"

    def start(self) -> None:
        with (self.home / "log").open("wb") as log:
            command = [self.program, "--host", self.host, *_options(self.home)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        limit = time.monotonic() + START_S
        while not _answers(self.host):
            if self.process.poll() is not None or time.monotonic() > limit:
                tail = (self.home / "log").read_text(errors="replace")[-1500:]
                pytest.skip(f"dockerd does not start here:\n{tail}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End it as a reboot does: its containers get SIGTERM first."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def own_daemon() -> Iterator[Daemon]:
    """A daemon that no other test uses; skips the test where there can be none."""
    program = shutil.which("dockerd")
    if program is None:
        pytest.skip("no Docker daemon answers and there is no dockerd to start")
    if os.geteuid() != 0:
        pytest.skip("no Docker daemon answers, and only root can start dockerd")
    # A unix socket's path must be short.
    daemon = Daemon(program, Path(tempfile.mkdtemp(prefix="opskit-dockerd-")))
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
        # The network namespace of containers without a network stays mounted when the daemon ends.
        for left in (daemon.home / "exec" / "netns").glob("*"):
            subprocess.run(["umount", str(left)], check=False, capture_output=True)
        shutil.rmtree(daemon.home, ignore_errors=True)


def _options(home: Path) -> Sequence[str]:
    return (
        f"--data-root={home}/data",
        f"--exec-root={home}/exec",
        f"--pidfile={home}/pid",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
    )


class Cutter:
    """A socket in front of the daemon's. Connections through it can be broken at any byte."""

    def __init__(self, target: str, path: Path) -> None:
        self._target = target
        self._path = path
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.carried_bytes = 0
        self.connections = 0
        self.cut_after_bytes: int | None = None
        """Break a connection once it has brought this many bytes."""
        self.silent = False
        """Accept, and never answer."""

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self._path}"}

    @property
    def open_connections(self) -> int:
        return len(self._open)

    async def listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._carry, self._path)

    async def refuse(self) -> None:
        """Break everything and let nobody in until `listen`."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)
        self.cut()

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._open:
            writer.transport.abort()

    async def aclose(self) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        self.connections += 1
        far: asyncio.StreamWriter | None = None
        try:
            if self.silent:
                await reader.read()
                return
            back, far = await asyncio.open_unix_connection(self._target)
            pipes = [
                asyncio.create_task(self._pipe(reader, far)),
                asyncio.create_task(self._down(back, writer)),
            ]
            try:
                await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pipe in pipes:
                    pipe.cancel()
                await asyncio.gather(*pipes, return_exceptions=True)
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        brought = 0
        while piece := await reader.read(65536):
            limit = self.cut_after_bytes
            if limit is not None and brought + len(piece) > limit:
                writer.write(piece[: max(0, limit - brought)])
                await writer.drain()
                return
            brought += len(piece)
            self.carried_bytes += len(piece)
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@pytest.fixture
async def cutter(box: Engine) -> AsyncIterator[Cutter]:
    """A socket in front of the daemon of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="opskit-cut-"))
    made = Cutter(box.socket, folder / "docker.sock")
    await made.listen()
    yield made
    await made.aclose()
    shutil.rmtree(folder, ignore_errors=True)
