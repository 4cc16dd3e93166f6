"""Our own Victoria as a process of its own: `opskit serve victoria` over nodes that the test chose."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx

from tests.parts.command import environment

_LISTENS = re.compile(r"listens on (http://\S+)")
_START_S = 30.0


class VictoriaServer:
    """A running server; `kill` and `stop` end it, `start` begins it again at the same port."""

    def __init__(self, home: Path, env: Mapping[str, str], options: Sequence[str] = ()) -> None:
        home.mkdir(exist_ok=True)
        self._environment = environment(home, env)
        self._options = tuple(options)
        self._log = home / "victoria.log"
        self.port = 0
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until it listens. Raises RuntimeError with its log."""
        arguments = ["serve", "victoria", "--port", str(self.port), *self._options]
        self._log.write_bytes(b"")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "opskit", *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + _START_S
        while time.monotonic() < until and self._process.poll() is None:
            if (found := _LISTENS.search(self.log)) is not None:
                self.url = found[1]
                self.port = int(self.url.rpartition(":")[2])
                if self._answers():
                    return self
            time.sleep(0.02)
        raise RuntimeError(f"the server did not start:\n{self.log}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def stop(self, timeout_s: float = 30) -> int:
        """End it as a supervisor would; its exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout_s)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=1).status_code == 200
        except httpx.HTTPError:
            return False
