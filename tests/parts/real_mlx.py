"""The real `mlx_lm.server` as a process of its own, started, frozen, killed and always reaped."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

START_S = 60.0
"""How long a server may take from its start to its first token."""
POLL_S = 0.05
REAP_S = 10.0
LOG_TAIL_CHARS = 3000


@dataclass
class RealMlx:
    """A running server; `start` makes one.

    It is offline, has a Hugging Face cache of its own that is empty, and heads its own process group.
    """

    process: subprocess.Popen[bytes]
    port: int
    model: str
    """What was given as `--model`: a path."""
    hub_cache: Path
    """An existing folder, scanned by the server at each `/v1/models`."""
    log: Path
    start_s: float = field(default=0.0, init=False)
    """Seconds from the start of the process to its first token."""
    _frozen: bool = field(default=False, init=False)

    @classmethod
    def start(cls, model: Path, work: Path, *, port: int | None = None, options: Sequence[str] = ()) -> Self:
        """Start a server and return it once it has generated a token.

        Args:
            model: folder of a checkpoint.
            work: folder for its log and its empty cache, created when absent.
            port: that of a dead server to come back on; a free one when absent.
            options: further arguments of `mlx_lm.server`.

        Raises:
            RuntimeError: it ended, failed or gave no token within `START_S`; the log's tail is told.

        """
        hub_cache = work / "hub"
        hub_cache.mkdir(parents=True, exist_ok=True)
        log = work / "mlx_lm.server.log"
        port = port or free_port()
        began = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlx_lm", "server"),
                    *("--model", str(model), "--host", "127.0.0.1", "--port", str(port)),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_offline_environment(work, hub_cache),
                start_new_session=True,
            )
        server = cls(process, port, str(model), hub_cache, log)
        try:
            server._await_first_token(began + START_S)
        except BaseException:
            server.kill()
            raise
        server.start_s = time.monotonic() - began
        return server

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
            raise RuntimeError(f"mlx_lm.server is dead:\n{self.log_tail()}")
        self._signal(signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.process.returncode = os.waitstatus_to_exitcode(status)
            raise RuntimeError(f"mlx_lm.server died meanwhile:\n{self.log_tail()}")
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

    def break_worker(self) -> None:
        """Crash the generation thread for good: the process lives on, and no later request can succeed.

        The server accepts the empty prompt of a text completion, and its worker then dies of it (0.32.2).

        Raises:
            RuntimeError: this version survived.

        """
        body = {"prompt": "", "max_tokens": 1}
        with contextlib.suppress(httpx.RemoteProtocolError):
            httpx.post(f"{self.url}/v1/completions", json=body, timeout=REAP_S, trust_env=False)
        if "generation thread died" not in self.log_text():
            raise RuntimeError("this mlx_lm.server survives an empty prompt")

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

    def _await_first_token(self, deadline: float) -> None:
        self._await_own_port(deadline)
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        try:
            # It listens while it still loads, so this one request may wait for all of that.
            httpx.post(
                f"{self.url}/v1/chat/completions",
                json=body,
                timeout=max(deadline - time.monotonic(), 1.0),
                trust_env=False,
            ).raise_for_status()
        except httpx.HTTPError as error:
            raise RuntimeError(f"mlx_lm.server gave no token: {error}\n{self.log_tail()}") from error

    def _await_own_port(self, deadline: float) -> None:
        """Wait for its log to say that it listens: on a taken port somebody else would answer us."""
        while "Starting httpd at" not in (log := self.log_text()):
            # After a failed bind its generation thread keeps the process alive.
            if not self.alive or "OSError" in log:
                raise RuntimeError(f"mlx_lm.server did not start:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"mlx_lm.server did not listen in {START_S:.0f} s:\n{self.log_tail()}")
            time.sleep(POLL_S)


def free_port() -> int:
    """A port of loopback that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _offline_environment(home: Path, hub_cache: Path) -> dict[str, str]:
    """Ours without Hugging Face variables: the developer's cache and token stay out of the test."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return own | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HF_HUB_CACHE": str(hub_cache)}
