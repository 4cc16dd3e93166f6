"""Single keys of a terminal, without Enter and without echo, for as long as something is drawn on it."""

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def pressed(on_key: Callable[[str], None]) -> Iterator[None]:
    """Hand over each key; the terminal is given back as it was. Nothing where standard input is none.

    Ctrl-C stays an interrupt. Needs a running loop.
    """
    if not sys.stdin.isatty():
        yield
        return
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)

    def read() -> None:
        try:
            text = os.read(descriptor, 64)
        except OSError:
            text = b""
        if not text:
            loop.remove_reader(descriptor)
        for char in text.decode("utf-8", "replace"):
            on_key(char)

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
