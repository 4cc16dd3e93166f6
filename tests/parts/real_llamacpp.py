"""The real server of llama.cpp with a real model, as a process of its own."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from tests.parts.server_process import POLL_S, START_S, ServerProcess, free_port

_SCRIPT = Path(__file__).with_name("llamacpp_server.py")


@dataclass(kw_only=True)
class RealLlamaCpp(ServerProcess):
    """A running server; `start` makes one."""

    @classmethod
    def start(cls, model: Path, work: Path, *, options: Sequence[str] = (), ready: bool = True) -> Self:
        """Start a server and return it, once it has loaded its model where `ready`.

        Raises RuntimeError when it ended, or was not ready within `START_S`; the log's tail is told.
        """
        work.mkdir(parents=True, exist_ok=True)
        log, port, began = work / "llama-server.log", free_port(), time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, _SCRIPT, "--model", model, "--port", str(port), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = cls(process=process, port=port, model=str(model), log=log)
        try:
            server._await_port(began + START_S, ready=ready)
        except BaseException:
            server.kill()
            raise
        server.start_s = time.monotonic() - began
        return server

    def _await_port(self, deadline: float, *, ready: bool) -> None:
        while True:
            try:
                status = httpx.get(f"{self.url}/health", timeout=1.0, trust_env=False).status_code
            except httpx.HTTPError:
                status = 0
            if status == 200 or (status == 503 and not ready):
                return
            if not self.alive or time.monotonic() > deadline:
                raise RuntimeError(f"llama.cpp's server did not start:\n{self.log_tail()}")
            time.sleep(POLL_S)
