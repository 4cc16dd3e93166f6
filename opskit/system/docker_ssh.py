"""Docker over ssh, as the Docker command line does it: `docker system dial-stdio` on the other machine."""

import asyncio
import contextlib
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

_STDERR_BYTES = 2000


class Tunnel:
    """A private unix socket; each connection to it becomes one ssh process whose stdio *is* the connection.

    No byte passes through this process. `complaint` is what the last ssh that failed had to say.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._command = _command(url)
        self._folder = folder
        self._listener = socket.socket(socket.AF_UNIX)
        self._processes: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self.path = str(folder / "docker.sock")
        self.complaint = ""

    @classmethod
    async def start(cls, url: str) -> Self:
        """Listen; ssh itself is first started by the first connection."""
        tunnel = cls(url, Path(tempfile.mkdtemp(prefix="opskit-ssh-")))
        tunnel._listener.bind(tunnel.path)
        tunnel._listener.listen()
        tunnel._listener.setblocking(False)
        tunnel._accepting = asyncio.create_task(tunnel._accept())
        return tunnel

    async def aclose(self) -> None:
        """End every ssh and remove the socket."""
        tasks = [task for task in (self._accepting, *self._processes) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            task = asyncio.create_task(self._carry(connection))
            self._processes.add(task)
            task.add_done_callback(self._processes.discard)

    async def _carry(self, connection: socket.socket) -> None:
        try:
            # A child wants a blocking socket; the flag is shared by all that hold it.
            connection.setblocking(True)
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as exc:
            self.complaint = f"{self._command[0]}: {exc.strerror}"
            return
        finally:
            connection.close()
        try:
            said = await process.stderr.read(_STDERR_BYTES) if process.stderr is not None else b""
            if await process.wait():
                self.complaint = " ".join(said.decode("utf-8", "replace").split())
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _command(url: str) -> list[str]:
    parts = urlsplit(url)
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-T"]
    if parts.username:
        options += ["-l", parts.username]
    if parts.port:
        options += ["-p", str(parts.port)]
    return ["ssh", *options, "--", parts.hostname or "", "docker", "system", "dial-stdio"]
