"""The processes behind the models of an Ollama on this machine, and what each works on (wire facts A8).

Each serves one model over a loopback port of its own, without a key. Asking it takes 0.01 s and touches
neither Ollama's scheduler nor the life of the model.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from opskit.config.schema import NodeConfig
from opskit.facts.survey import Survey, read_sockets
from opskit.providers.base import CallCause, CallError, Slot
from opskit.providers.http import HttpClient
from opskit.providers.llamacpp import slots_of
from opskit.records import Record, replace
from opskit.system.host import core_counts, is_loopback
from opskit.system.network import endpoint
from opskit.system.process import Process, find_processes, option_value, read_process

#: A healthy one answers in milliseconds, also while it generates.
_ANSWER_S = 1.0
#: Who listens on a port changes seldom; the runners are read each time.
_SOCKETS_OLD_S = 30.0
#: Of `llama-server` and of an older `ollama runner` (wire facts A8).
PROGRAMS = ("llama-server", "ollama_llama_server", "ollama")
#: Ollama keeps weights in files of this name: a `llama-server` that a person started has others.
_BLOB = "sha256-"
_USUAL_BATCH = 512
#: Those that adopt a process whose parent has ended, beside the first process of the machine.
_ADOPTERS = ("systemd", "launchd", "init", "tini", "catatonit")


class RunnerHealth(StrEnum):
    """What the page `/health` says. `silent`: the connection is accepted, and nothing comes."""

    OK = "ok"
    LOADING = "loading"
    ERROR = "error"
    SILENT = "silent"
    #: It cannot be asked from here: it listens in a container, or has just ended.
    UNREACHABLE = "unreachable"


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
        return bool(self.process.halt)

    @property
    def load_options(self) -> tuple[tuple[str, int], ...]:
        """Return the options of Ollama's API with which a client had it loaded, by its arguments.

        Ollama writes `-t` where a client gave `num_thread`, older builds always, for all cores; `-b` is
        `num_batch`, 512 where nobody gave it (seen on build fb307609). `num_gpu` may differ without a load.
        """
        threads, batch = (option_value(self.process.command, option) for option in ("-t", "-b"))
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


class ModelRunner(Record, kw_only=True):
    """One runner at one moment. `progress` is that of a load, 0 to 1, where it is known.

    `slots` are None where the page is not there, as in an MLX-engine runner.
    """

    process: RunnerProcess
    health: RunnerHealth
    progress: float | None = None
    slots: tuple[Slot, ...] | None = None
    error: str = ""


class NodeRunners(Record, kw_only=True):
    """The runners of one node.

    `server` is the process of the node, None where it is not known, or does not start runners: then nothing
    is known of them.
    """

    server: int | None
    runners: tuple[ModelRunner, ...] = ()

    def of(self, weights: str | None) -> ModelRunner | None:
        """Return the runner of a file of weights, which aliases of one model share; None where unsure."""
        if weights is None:
            return self.runners[0] if len(self.runners) == 1 else None
        return next((runner for runner in self.runners if runner.process.weights == weights), None)


async def read_runners(survey: Survey, config: NodeConfig) -> NodeRunners:
    """Read the runners behind a node of this machine; none where it is on another."""
    if not is_loopback(config.url):
        return NodeRunners(server=None)
    table = await survey.get(read_sockets, not_before=time.monotonic() - _SOCKETS_OLD_S)
    server = next((socket.pid for socket in table.at("tcp", endpoint(config.url)[1]) if socket.pid), None)
    processes = await asyncio.to_thread(_children, server)
    if processes is None:
        return NodeRunners(server=None)
    runners = await asyncio.gather(*map(read_runner, processes))
    return NodeRunners(server=server, runners=tuple(runners))


def _children(server: int | None) -> list[RunnerProcess] | None:
    """Return the runners that a server started; None where it starts none, or may not be looked at."""
    process = None if server is None else read_process(server)
    if process is None or "ollama" not in process.name.lower():
        return None
    return [runner for runner in _runner_processes() if runner.process.parent == server]


def _runner_processes() -> list[RunnerProcess]:
    """Return the runners among all processes that this user may look at. Blocks."""
    processes, _ = find_processes(command=lambda command: runner_arguments(command) is not None)
    return [
        RunnerProcess(process=process, port=arguments[0], weights=arguments[1])
        for process in processes
        if (arguments := runner_arguments(process.command)) is not None
    ]


def runner_arguments(command: Sequence[str]) -> tuple[int, str] | None:
    """Return port and model of a command line that has both; None for any other process. Pure."""
    words = [word for word in command if word]
    weights, port = option_value(words, "--model"), option_value(words, "--port")
    if weights is None or port is None or not port.isdecimal():
        return None
    return int(port), weights


async def read_weights(survey: Survey, config: NodeConfig, model: str) -> str | None:
    """Read which file the weights of a model are in; None where the server never tells. Raises CallError."""
    return await (await survey.node(config).provider()).weights(model)


async def known_weights(survey: Survey, config: NodeConfig, model: str) -> str | None:
    """Return which file the weights of a model are in, read once in a run; None where it is not known."""
    try:
        return await survey.get(read_weights, config, model)
    except CallError:
        return None


async def read_orphaned_runners(_: Survey) -> tuple[RunnerProcess, ...]:
    """Read the runners of this machine whose server has ended: they hold memory for nobody."""
    return await asyncio.to_thread(lambda: tuple(filter(_is_orphan, _runner_processes())))


def _is_orphan(runner: RunnerProcess) -> bool:
    if not PurePath(runner.weights).name.startswith(_BLOB):
        return False
    parent = runner.process.parent
    if parent is None or parent <= 1:
        return True
    adopter = read_process(parent)
    # A parent that may not be looked at is there.
    return adopter is not None and adopter.name in _ADOPTERS


async def read_runner(process: RunnerProcess) -> ModelRunner:
    """Ask one runner for its health and its slots. A stopped one is not asked. Never raises."""
    if process.is_stopped:
        return ModelRunner(process=process, health=RunnerHealth.SILENT)
    url = f"http://127.0.0.1:{process.port}"
    http = HttpClient(url, api_key=None, connect_s=_ANSWER_S, metadata_s=_ANSWER_S)
    # It has few threads, and each waits on a connection that is kept.
    http.keep_alive = False
    try:
        # The page that tells most is asked first: a runner that works takes a moment for each.
        try:
            slots = slots_of(await http.get_json("/slots"))
            return ModelRunner(process=process, health=RunnerHealth.OK, slots=slots)
        except CallError as error:
            if error.status is None:
                return ModelRunner(process=process, health=_failed(error), error=error.text)
        try:
            health, progress = _health(await http.get_json("/health"))
        except CallError as error:
            return ModelRunner(process=process, health=_failed(error), error=error.text)
        return ModelRunner(process=process, health=health, progress=progress)
    finally:
        await http.aclose()


async def read_again(runners: NodeRunners, weights: str | None) -> NodeRunners:
    """Read the runner of one model once more, alone: that is soon done, and disturbs no other."""
    own = runners.of(weights)
    process = None if own is None else read_process(own.process.pid)
    if own is None or process is None:
        return replace(runners, runners=())
    return replace(runners, runners=(await read_runner(replace(own.process, process=process)),))


def _health(body: Any) -> tuple[RunnerHealth, float | None]:
    """Read `/health`: `{"status": "ok"}` of a llama-server; a number and a progress of an `ollama runner`."""
    if not isinstance(body, Mapping):
        return RunnerHealth.OK, None
    status, progress = body.get("status"), body.get("progress")
    known = float(progress) if isinstance(progress, int | float) else None
    if status in ("ok", 0, "llm server ready"):
        return RunnerHealth.OK, None
    if status in (2, "loading model", "llm server loading model"):
        return RunnerHealth.LOADING, known
    return RunnerHealth.ERROR, known


def _failed(error: CallError) -> RunnerHealth:
    if error.status == 503:
        return RunnerHealth.LOADING
    if error.status is not None:
        # An MLX-engine runner has no such page, and serves all the same.
        return RunnerHealth.OK if error.status == 404 else RunnerHealth.ERROR
    return RunnerHealth.SILENT if error.cause is CallCause.TIMEOUT else RunnerHealth.UNREACHABLE
