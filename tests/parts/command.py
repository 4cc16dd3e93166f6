"""Runs the real command in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: An address where nothing listens: port 9 (discard) of loopback.
NOBODY = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)

    def finding(self, target: str, check: str | None = None) -> dict[str, Any]:
        return next(
            f for f in self.document["findings"] if f["target"] == target and check in (None, f["check"])
        )


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A bare environment whose nodes are all switched off unless named."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "OLLAMA_API_URL": NOBODY,
        "MLX_API_URL": NOBODY,
        "VICTORIA_URL": "",
        "VERONICA_URL": "",
        "LANG": "C.UTF-8",
        **(extra or {}),
    }


def opskit(
    *arguments: str,
    home: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout: float = 90,
) -> Result:
    """Run `opskit ARGUMENTS` to its end."""
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "opskit", *arguments],
        env=environment(home, env),
        input=stdin,
        capture_output=True,
        cwd=cwd or home,
        timeout=timeout,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def started(
    arguments: Sequence[str], *, home: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start `opskit ARGUMENTS` and leave it running."""
    home.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "opskit", *arguments],
        env=environment(home, env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home,
        text=True,
    )


@contextmanager
def sandbox(home: Path, *faults: str) -> Iterator[dict[str, str]]:
    """A simulated stack in a process of its own, by the variables with its addresses."""
    options = [word for fault in faults for word in ("--fault", fault)]
    process = started(["sandbox", "up", *options], home=home)
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(4)]
        yield dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
