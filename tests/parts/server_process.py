"""A real model server as a process of its own: frozen, killed and always reaped."""

import contextlib
import os
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

START_S = 60.0
"""How long a server may take from its start to its first token."""
POLL_S = 0.05
REAP_S = 10.0
LOG_TAIL_CHARS = 3000


@dataclass(kw_only=True)
class ServerProcess:
    """A running server that heads its own process group. `start_s` are the seconds to its first token."""

    process: subprocess.Popen[bytes]
    port: int
    model: str
    log: Path
    start_s: float = field(default=0.0, init=False)
    _frozen: bool = field(default=False, init=False)

    @property
    def url(self) -> str:
        """Without a path and without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        """A frozen server is alive."""
        return self.process.poll() is None

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def log_tail(self) -> str:
        return self.log_text()[-LOG_TAIL_CHARS:]

    def freeze(self) -> None:
        """Stop the process where it stands and return once it has: the kernel still accepts connections."""
        if self._frozen:
            return
        if not self.alive:
            raise RuntimeError(f"the server is dead:\n{self.log_tail()}")
        self._signal(signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.process.returncode = os.waitstatus_to_exitcode(status)
            raise RuntimeError(f"the server died meanwhile:\n{self.log_tail()}")
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen server go on; nothing happens to one that is not frozen."""
        if self._frozen:
            self._signal(signal.SIGCONT)
            self._frozen = False

    def kill(self) -> None:
        """SIGKILL, frozen or not, and reap; nothing happens to a dead server."""
        self._signal(signal.SIGKILL)
        self.process.wait(REAP_S)
        self._frozen = False

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for one that lingers; nothing happens to a dead server."""
        self.thaw()
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(REAP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            # It may end in between: macOS then says EPERM for the zombie.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


def free_port() -> int:
    """A port of loopback that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
