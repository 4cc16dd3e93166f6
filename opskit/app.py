"""The composition root: one configuration becomes one App, opened and closed once.

Its parts are made on first use, so that a command pays only for the parts that it uses.
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from opskit import __version__
from opskit.config.load import ensure_state_dir
from opskit.config.schema import Config
from opskit.errors import StateError

if TYPE_CHECKING:
    from opskit.checks.request_watch import RequestWatch
    from opskit.engine.engine import Engine
    from opskit.facts.survey import Survey
    from opskit.llm.profile import ModelProfile, ProfileStore
    from opskit.llm.router import Router
    from opskit.llm.waiting import WaitEvidence
    from opskit.providers.agent import AgentClient
    from opskit.providers.node import Node
    from opskit.tags import TagLog
    from opskit.trace.keeper import TraceKeeper


class App:
    """A configuration, wired; an async context manager that closes what was made of it.

    Tagged lines go to the log in the state folder and to `sinks`; with a `log` of its own nothing is written
    there, and no trace is kept. `clock` is monotonic seconds.
    `environ`, `cwd` and `config_path` come from the command, for what it surveys. `folder` is the state
    folder of a survey that does not need it: it is not made. `on_note` gets what a person should know and no
    command fails for.
    """

    def __init__(
        self,
        config: Config,
        *,
        sinks: Sequence[Callable[[str], None]] = (),
        log: "TagLog | None" = None,
        clock: Callable[[], float] = time.monotonic,
        environ: Mapping[str, str] = MappingProxyType({}),
        cwd: Path = Path(),
        config_path: str | None = None,
        folder: Path | None = None,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.config = config
        self.environ = environ
        self.cwd = cwd
        self.config_path = config_path
        self._folder = folder
        self._on_note = on_note
        self.clock = clock
        self._sinks = sinks
        self._log = log
        self._closing = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    @cached_property
    def folder(self) -> Path:
        """The state folder, made where it is missing. Raises StateError when it cannot be written."""
        return ensure_state_dir(self.config.state_dir)

    @cached_property
    def survey(self) -> "Survey":
        """What this command reads, each fact once."""
        from opskit.facts.survey import Survey

        folder = self._folder or self.folder

        def remembered() -> Mapping[str, Any]:
            from opskit.recovery.memory import load

            return load(folder, keep=True)[0].facts

        survey = Survey(
            self.config,
            self.environ,
            state_folder=folder,
            cwd=self.cwd,
            config_path=self.config_path,
            remembered=remembered,
        )
        survey.open()
        self._closing.push_async_callback(survey.aclose)
        return survey

    @cached_property
    def nodes(self) -> "tuple[Node, ...]":
        """The model servers, in the order of the configuration."""
        from opskit.providers.node import Node

        budgets = self.config.budgets
        nodes = tuple(Node(node, budgets) for node in self.config.nodes)
        for node in nodes:
            self._closing.push_async_callback(node.aclose)
        return nodes

    @cached_property
    def agents(self) -> "Mapping[str, AgentClient]":
        """The clients of the agents, by name."""
        from opskit.providers.agent import AgentClient

        agents = {agent.name: AgentClient(agent, self.config.budgets) for agent in self.config.agents}
        for agent in agents.values():
            self._closing.push_async_callback(agent.aclose)
        return agents

    @cached_property
    def log(self) -> "TagLog":
        """Where tagged lines go. Raises StateError when the log cannot be opened."""
        from opskit.system.logfile import LOG_NAME, RotatingLog
        from opskit.tags import Tag, TagLog

        if self._log is not None:
            return self._log
        config = self.config
        try:
            file = RotatingLog(
                self.folder / LOG_NAME, max_bytes=config.log.max_bytes, backups=config.log.backups
            )
        except OSError as exc:
            raise StateError.of(f"{self.folder}/{LOG_NAME}", exc) from exc
        self._closing.callback(file.close)
        keys = [node.api_key for node in config.nodes] + [agent.api_key for agent in config.agents]
        secrets = tuple(str(key) for key in keys if key is not None)
        log = TagLog(file, *self._sinks, secrets=secrets, preview_chars=config.log.preview_chars)
        urls = {f"{node.name}_url": node.url for node in config.nodes}
        log.write(Tag.EXECUTOR_INIT, **urls, model=config.victoria_model)
        return log

    @cached_property
    def router(self) -> "Router":
        """Chooses among the models of all nodes."""
        from opskit.llm.router import Router
        from opskit.system.host import available_memory_bytes

        config = self.config
        router = Router(
            self.nodes,
            router=config.router,
            budgets=config.budgets,
            circuit=config.circuit,
            log=self.log,
            memory=available_memory_bytes,
            watch=self._watch_request,
            profile_of=self._profile_of,
        )
        self._closing.push_async_callback(router.aclose)
        return router

    def _profile_of(self, node: str, model: str) -> "ModelProfile | None":
        return self.profiles.read(node, model)

    def _watch_request(self, node: "Node", model: str) -> "Callable[[], Awaitable[WaitEvidence | None]]":
        """Begin to watch a request that waits; what that needs is imported when the first look is due."""
        watch: RequestWatch | None = None

        async def look() -> "WaitEvidence | None":
            nonlocal watch
            if watch is None:
                from opskit.checks.request_watch import RequestWatch

                watch = RequestWatch(self.survey, node, model)
            return await watch.look()

        return look

    @cached_property
    def engine(self) -> "Engine":
        """Answers goals."""
        from opskit.engine.engine import Engine

        traces = None if self._log is not None else self.traces
        return Engine(self.config, self.log, self.agents, self.router, traces)

    @cached_property
    def profiles(self) -> "ProfileStore":
        """What models were found to be able to do."""
        from opskit.llm.profile import ProfileStore

        return ProfileStore(self.folder)

    @cached_property
    def traces(self) -> "TraceKeeper":
        """What keeps the traces of requests."""
        from opskit.trace.keeper import TraceKeeper

        keeper = TraceKeeper(self.folder, self.environ, version=__version__, on_problem=self._on_note)
        self._closing.push_async_callback(keeper.aclose)
        return keeper
