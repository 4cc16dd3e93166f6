"""Signals around work that is undone when it is interrupted."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _raise(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _pass(number: int, frame: FrameType | None) -> None:
    del number, frame


def interruptible() -> contextlib.AbstractContextManager[None]:
    """An end by SIGTERM or SIGHUP raises KeyboardInterrupt, as Ctrl-C does, so that work can be undone."""
    return _handled(_raise)


def undisturbed() -> contextlib.AbstractContextManager[None]:
    """What runs now is short and must come to its end: signals that would interrupt it do nothing."""
    return _handled(_pass)


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
