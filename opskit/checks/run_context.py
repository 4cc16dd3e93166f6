"""What the checks of one run share: configuration, HTTP client, the table of sockets, the Docker door."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from opskit.checks.threads import use_abandonable_threads
from opskit.config.schema import Config

if TYPE_CHECKING:
    import httpx

    from opskit.system.docker import Docker
    from opskit.system.sockets import SocketTable


class RunContext:
    """Everything is opened on first use and closed with the run; an async context manager.

    Entering it makes the running loop use threads that may be left behind.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        *,
        locks: Path,
        cwd: Path,
        config_path: str | None = None,
    ) -> None:
        self.config = config
        self.environ = environ
        self.locks = locks
        self.cwd = cwd
        self.config_path = config_path
        self._stack = contextlib.AsyncExitStack()
        self._clients: dict[bool, httpx.AsyncClient] = {}
        self._docker: Docker | None = None
        self._sockets: SocketTable | None = None
        self._looking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        use_abandonable_threads()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def client(self, *, insecure: bool = False, secure: bool = False) -> "httpx.AsyncClient":
        """An HTTP client without timeouts of its own: deadlines are the runner's.

        `secure` is for https with certificates checked; `insecure` takes any certificate.
        """
        import httpx

        from opskit import __version__
        from opskit.providers.transport import transport

        checked = secure and not insecure
        if checked not in self._clients:
            client = httpx.AsyncClient(
                transport=transport("https://" if checked else "http://", pooled=False),
                timeout=httpx.Timeout(None),
                trust_env=False,
                # A kept connection may be dead, which would say nothing of the server now.
                headers={"User-Agent": f"opskit/{__version__}", "Connection": "close"},
            )
            self._stack.push_async_callback(client.aclose)
            self._clients[checked] = client
        return self._clients[checked]

    async def docker(self) -> "Docker":
        """The door to Docker; its questions raise OpskitError DOCKER_*."""
        if self._docker is None:
            from opskit.system.docker import Docker

            door = Docker(self.environ)
            self._docker = door
            await self._stack.enter_async_context(door)
        return self._docker

    async def sockets(self, not_before: float) -> "SocketTable":
        """All sockets that are listened on, read once for everybody who is content with the same moment."""
        from opskit.system.sockets import SocketTable

        async with self._looking:
            if self._sockets is None or self._sockets.taken < not_before:
                began = time.monotonic()
                self._sockets = await asyncio.to_thread(SocketTable.read, began)
            return self._sockets
