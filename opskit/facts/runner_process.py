"""Processes that serve one model for a model server: the children of Ollama, by their own arguments."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePath

from opskit.records import Record
from opskit.system.host import core_counts
from opskit.system.process import Process, find_processes, read_process

#: Of `llama-server` and of an older `ollama runner` (wire facts A8).
PROGRAMS = ("llama-server", "ollama_llama_server", "ollama")
#: Ollama keeps weights in files of this name: a `llama-server` that a person started has others.
_BLOB = "sha256-"
_USUAL_BATCH = 512
#: Those that adopt a process whose parent has ended, beside the first process of the machine.
_ADOPTERS = ("systemd", "launchd", "init", "tini", "catatonit")


class RunnerProcess(Record, kw_only=True):
    """One such process; `weights` is the file, or the name, of its model."""

    process: Process
    port: int
    weights: str

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_stopped(self) -> bool:
        return self.process.stopped or self.process.traced

    @property
    def load_options(self) -> tuple[tuple[str, int], ...]:
        """Return the options of Ollama's API with which a client had it loaded, by its arguments.

        Ollama writes `-t` where a client gave `num_thread`, older builds always, for all cores; `-b` is
        `num_batch`, 512 where nobody gave it (seen on build fb307609). `num_gpu` may differ without a load.
        """
        threads, batch = (_value(self.process.command, option) for option in ("-t", "-b"))
        options = {"num_thread": threads, "num_batch": batch}
        usual = {"num_thread": set(core_counts()), "num_batch": {_USUAL_BATCH}}
        return tuple(
            (name, int(text))
            for name, text in options.items()
            if text is not None and text.isdecimal() and int(text) not in usual[name]
        )

    @property
    def words(self) -> str:
        names = [PurePath(word).name for word in self.process.command[:3]]
        program = next((name for name in names if name in PROGRAMS), self.process.name)
        return f"process {self.pid} ({program})"


class RunnerTable(Record, kw_only=True):
    """The runners of one server, and orphans, whose server has ended: they hold memory for nobody.

    `server` is its process, None where it is not one that starts runners, or may not be looked at.
    """

    server: int | None = None
    of_server: tuple[RunnerProcess, ...] = ()
    orphans: tuple[RunnerProcess, ...] = ()


def read_runner_table(server: int | None, *, orphans: bool = True) -> RunnerTable:
    """Look at every process that this user may look at. Blocks.

    Without `orphans` nothing is looked at where the server is none that starts runners.
    """
    process = None if server is None else read_process(server)
    if process is None or "ollama" not in process.name.lower():
        server = None
        if not orphans:
            return RunnerTable()
    processes, _ = find_processes(command=lambda command: runner_arguments(command) is not None)
    runners = [
        RunnerProcess(process=process, port=arguments[0], weights=arguments[1])
        for process in processes
        if (arguments := runner_arguments(process.command)) is not None
    ]
    return RunnerTable(
        server=server,
        of_server=tuple(runner for runner in runners if server and runner.process.parent == server),
        orphans=tuple(runner for runner in runners if _is_orphan(runner)),
    )


def runner_arguments(command: Sequence[str]) -> tuple[int, str] | None:
    """Return port and model of a command line that has both; None for any other process. Pure."""
    words = [word for word in command if word]
    weights, port = _value(words, "--model"), _value(words, "--port")
    if weights is None or port is None or not port.isdecimal():
        return None
    return int(port), weights


def _is_orphan(runner: RunnerProcess) -> bool:
    if not PurePath(runner.weights).name.startswith(_BLOB):
        return False
    parent = runner.process.parent
    if parent is None or parent <= 1:
        return True
    adopter = read_process(parent)
    # A parent that may not be looked at is there.
    return adopter is not None and adopter.name in _ADOPTERS


def _value(command: Sequence[str], option: str) -> str | None:
    for word, following in pairwise([*command, ""]):
        if word == option and following and not following.startswith("--"):
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2] or None
    return None
