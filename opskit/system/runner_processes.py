"""Processes that serve one model for a model server: the children of Ollama, by their own arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath

import psutil

#: Of `llama-server` and of an older `ollama runner` (wire facts A8).
_PROGRAMS = ("llama-server", "ollama_llama_server", "ollama")
#: Ollama keeps weights in files of this name.
_BLOB = "sha256-"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerProcess:
    """One such process. `weights` is the file, or the name, of its model; `rss_bytes` its memory."""

    pid: int
    parent: int | None
    program: str
    port: int
    weights: str
    stopped: bool
    cpu_s: float
    rss_bytes: int

    @property
    def words(self) -> str:
        return f"process {self.pid} ({self.program})"


@dataclass(frozen=True, slots=True)
class RunnerTable:
    """The runners of one server, and those whose server has ended: they hold memory, and nobody asks them.

    `server` is its process, None where it is not one that starts runners, or may not be looked at.
    """

    server: int | None = None
    of_server: tuple[RunnerProcess, ...] = ()
    orphans: tuple[RunnerProcess, ...] = ()


def read_runner_table(server: int | None) -> RunnerTable:
    """Look at every process that this user may look at. Blocks."""
    if server is not None and not _is_server(server):
        server = None
    of_server, orphans = [], []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            arguments = runner_arguments(command)
            if arguments is None:
                continue
            runner = _read(process, command, *arguments)
            if server is not None and runner.parent == server:
                of_server.append(runner)
            elif _is_ollamas(runner) and not _is_alive(runner.parent):
                orphans.append(runner)
        except psutil.Error:
            continue
    return RunnerTable(server, tuple(of_server), tuple(orphans))


def runner_arguments(command: Sequence[str]) -> tuple[int, str] | None:
    """Return port and model of a command line that has both; None for any other process. Pure."""
    words = [word for word in command if word]
    weights, port = _value(words, "--model"), _value(words, "--port")
    if weights is None or port is None or not port.isdecimal():
        return None
    return int(port), weights


def _is_server(pid: int) -> bool:
    try:
        return "ollama" in psutil.Process(pid).name().lower()
    except psutil.Error:
        return False


def _is_ollamas(runner: RunnerProcess) -> bool:
    """A `llama-server` that a person started has such arguments too; the blob of a store tells it apart."""
    return PurePath(runner.weights).name.startswith(_BLOB)


def _is_alive(parent: int | None) -> bool:
    """Tell whether a server may still be there: an orphan becomes the child of the first process."""
    if parent is None or parent <= 1:
        return False
    try:
        return psutil.Process(parent).name() not in ("systemd", "launchd", "init", "tini", "catatonit")
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


def _read(process: psutil.Process, command: Sequence[str], port: int, weights: str) -> RunnerProcess:
    names = [PurePath(word).name for word in command[:3]]
    with process.oneshot():
        times = process.cpu_times()
        return RunnerProcess(
            pid=process.pid,
            parent=process.ppid(),
            program=next((name for name in names if name in _PROGRAMS), names[0]),
            port=port,
            weights=weights,
            stopped=process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP),
            cpu_s=times.user + times.system,
            rss_bytes=process.memory_info().rss,
        )


def _value(command: Sequence[str], option: str) -> str | None:
    for word, following in pairwise([*command, ""]):
        if word == option and following and not following.startswith("--"):
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2] or None
    return None
