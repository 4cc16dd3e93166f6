"""A command on a pseudo-terminal of a chosen size: what is drawn on it, keys, and changes of size."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.parts.command import environment

LIMIT_S = 30.0
_HOME = "\x1b[H"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]")
ALTERNATE, BACK = "\x1b[?1049h", "\x1b[?1049l"


class OnTerminal:
    """`opskit ARGUMENTS` on a terminal of its own; ended with the `with` block whatever happens."""

    def __init__(
        self,
        *arguments: str,
        home: Path,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
    ) -> None:
        home.mkdir(exist_ok=True)
        self._master, slave = pty.openpty()
        self._size(columns, rows)
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.process = subprocess.Popen(
            [sys.executable, "-m", "opskit", *arguments],
            env=environment(home, {"TERM": "xterm-256color", **(env or {})}),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=home,
            start_new_session=True,
            # Ctrl-C reaches only the session whose terminal it is, and only the child can take it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        self.output = ""
        self._read_to = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    @property
    def frames(self) -> list[list[str]]:
        """The screens that were drawn so far, as lines of plain text."""
        return [_ESCAPES.sub("", part).splitlines() for part in self.output.split(_HOME)[1:]]

    def until(self, true: Callable[[list[str]], object]) -> list[str]:
        """Read until a screen that was drawn from now on is as wanted; that screen."""
        seen = max(0, len(self.frames) - 1)
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            more = self._read(0.2)
            # While more comes the last one may not be whole.
            for frame in self.frames[seen : -1 if more else None]:
                if true(frame):
                    return frame
            assert more or self.process.poll() is None, f"it ended: {self.output[-2000:]}"
        raise AssertionError(f"no such screen came; the last ones: {self.frames[-2:]}")

    def read_until(self, text: str) -> None:
        """Read until a text has been written behind the one of the last call, which may be there already."""
        limit = time.monotonic() + LIMIT_S
        while (end := self._end_of(text)) is None:
            assert time.monotonic() < limit, f"{text!r} did not come: {self.output[-2000:]!r}"
            more = self._read(0.2)
            assert more or self.process.poll() is None, f"it ended: {self.output[-2000:]!r}"
        self._read_to = end

    def _end_of(self, text: str) -> int | None:
        """Where a text ends in the output that was not read yet; escapes between its letters do not count."""
        shown = [
            match
            for match in re.finditer(f"{_ESCAPES.pattern}|(?s:.)", self.output[self._read_to :])
            if not _ESCAPES.fullmatch(match[0])
        ]
        at = "".join(match[0] for match in shown).find(text)
        return None if at < 0 else self._read_to + shown[at + len(text) - 1].end()

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        self._size(columns, rows)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def ended(self) -> int:
        """Its exit status, all of its output read."""
        limit = time.monotonic() + LIMIT_S
        while self.process.poll() is None:
            assert time.monotonic() < limit, "it does not end"
            self._read(0.05)
        while self._read(0.05):
            pass
        return self.process.returncode

    @property
    def settings(self) -> list[object]:
        """The terminal's settings as they are now."""
        return termios.tcgetattr(self._slave)

    def _size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, wait_s: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], wait_s)
        if not ready:
            return False
        try:
            text = os.read(self._master, 65536)
        except OSError:
            return False
        self.output += text.decode("utf-8", "replace")
        return bool(text)
