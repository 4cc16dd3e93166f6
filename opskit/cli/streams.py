"""The streams that the process was started with, made fit for any text and any caller.

A caller may have closed a stream, may send it to a full disk, or may have set a locale that cannot say what a
model answers. None of this is a bug of opskit, and none of it loses an answer.
"""

import io
import os
import sys

from opskit.system.output import NarrationFile, OutputFile


def prepare() -> None:
    """Replace the standard streams of this process, and a process whose encoding is ASCII by another one."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one. Left closed it would be that of the next file.
            os.open(os.devnull, os.O_RDWR)
    if sys.getfilesystemencoding() in ("ascii", "us-ascii") and not sys.flags.utf8_mode and sys.executable:
        # Arguments, paths and what other programs print are ASCII here too: begin again with UTF-8 for all.
        command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execv(sys.executable, command)  # noqa: S606 - this very program
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
    sys.stdout = _text(OutputFile(1), sys.stdout)
    sys.stderr = _text(NarrationFile(2), sys.stderr)


def finish() -> None:
    """Hand over what was printed. Raises BrokenPipeError and OutputError."""
    sys.stdout.flush()


def silence() -> None:
    """Drop what is still to be printed: nobody takes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _text(raw: io.FileIO, before: object) -> io.TextIOWrapper:
    """A stream as Python makes it, for characters that its encoding lacks too."""
    encoding = getattr(before, "encoding", "utf-8")
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding,
        "backslashreplace",
        line_buffering=raw.isatty() or raw.fileno() == 2,
        write_through=bool(getattr(before, "write_through", False)),
    )
