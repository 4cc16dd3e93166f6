"""The real `mlx_lm.server` as a process of its own, started, frozen, killed and always reaped."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from tests.parts.server_process import POLL_S, REAP_S, START_S, ServerProcess, free_port


@dataclass(kw_only=True)
class RealMlx(ServerProcess):
    """A running server; `start` makes one.

    It is offline, has a Hugging Face cache of its own that is empty, and heads its own process group.
    """

    hub_cache: Path
    """An existing folder, scanned by the server at each `/v1/models`."""

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
        server = cls(process=process, port=port, model=str(model), log=log, hub_cache=hub_cache)
        try:
            server._await_first_token(began + START_S)
        except BaseException:
            server.kill()
            raise
        server.start_s = time.monotonic() - began
        return server

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


def _offline_environment(home: Path, hub_cache: Path) -> dict[str, str]:
    """Ours without Hugging Face variables: the developer's cache and token stay out of the test."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return own | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HF_HUB_CACHE": str(hub_cache)}
