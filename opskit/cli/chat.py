"""`opskit chat`: goal after goal, through Victoria when she answers, else here (SPEC D9, A6)."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.cli import context, render
from opskit.cli.inputs import checked_goal, name_of_model
from opskit.cli.options import LocalOption, ModelOption, SharedOptions, shares
from opskit.errors import OpskitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from opskit.app import App
    from opskit.engine.goal import Goal

_HISTORY_NAME = "chat_history"
_PAIRS = 30
#: A server that is restarted is waited for; its runs are kept meanwhile.
_PATIENCE_S = 60.0
_COMMANDS = {
    "/status": "the nodes and their models",
    "/model": "the model to ask first (`/model NAME`; `/model` alone: the default)",
    "/trace": "where the time of the last answer went",
    "/history": "the conversation so far",
    "/debug": "tagged log lines on or off",
    "/help": "these commands",
    "/quit": "leave (Ctrl-D too)",
}


@shares("sandbox", "verbose", json=False)
def chat(
    shared: SharedOptions,
    local: LocalOption = False,
    model: ModelOption = None,
) -> None:
    """Talk with Victoria, or with the models of this machine.

    Ctrl-C ends an answer, Ctrl-D the chat.
    """
    context.run(_chat(local, model, shared))


async def _chat(local: bool, model: str | None, shared: SharedOptions) -> None:
    from opskit.cli.run import local_victoria
    from opskit.engine.goal import Goal
    from opskit.tags import new_correlation_id

    async with shared.configured() as loaded:
        lines = _LogLines(shared.verbose or loaded.debug)
        async with shared.application(loaded, sink=lines) as app, contextlib.aclosing(_typed(app)) as texts:
            app.engine.solver = local_victoria(app)
            where, session_id = "local" if local else "auto", new_correlation_id()
            goal = Goal("", where, name_of_model(model), session_id=session_id, patience_s=_PATIENCE_S)
            conversation = _Conversation(app, goal, lines)
            async for text in texts:
                try:
                    # A goal may begin with a path.
                    if text.startswith("/") and "/" not in text.split()[0][1:]:
                        if not await conversation.command(text):
                            return
                    elif text:
                        await conversation.answer(text)
                except OpskitError as error:
                    render.error(error, as_json=False)


class _LogLines:
    """Tagged lines on stderr, while they are switched on."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown

    def __call__(self, line: str) -> None:
        if self.shown:
            render.note(line)


class _Conversation:
    """What was said, and what the next goal is asked with."""

    def __init__(self, app: "App", goal: "Goal", lines: _LogLines) -> None:
        from opskit.llm.answer import Session

        self._app = app
        self._goal = goal
        self._lines = lines
        self._session = Session()
        self._last_id: str | None = None

    async def answer(self, text: str) -> None:
        """Answer a goal; Ctrl-C ends the answer, not the chat. Raises OpskitError."""
        import asyncio
        import signal

        from opskit.cli.run import answer
        from opskit.providers.base import Message
        from opskit.records import replace
        from opskit.tags import correlated

        goal = replace(self._goal, text=checked_goal(text, self._app.config.limits.goal_bytes))
        with correlated() as self._last_id:
            work = asyncio.ensure_future(answer(self._app.engine, goal, stream=True, session=self._session))
        before = signal.getsignal(signal.SIGINT)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, work.cancel)
        try:
            result, is_shown = await work
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            render.note("interrupted")
            return
        finally:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, before)
        if not is_shown:
            render.line(result.output.strip("\n"))
        lines = (*goal.history, Message("user", goal.text), Message("assistant", result.output))
        self._goal = replace(self._goal, history=lines[-2 * _PAIRS :])
        for note in result.notes:
            render.note(f"note: {note}")
        render.note(f"[{result.method} · {result.model} on {result.node} · {result.seconds:.2f} s]")

    async def command(self, text: str) -> bool:
        """Do what a line with a slash says; False ends the chat."""
        name, _, argument = text.partition(" ")
        match name:
            case "/quit" | "/exit" | "/q":
                return False
            case "/model":
                from opskit.records import replace

                self._goal = replace(self._goal, model=name_of_model(argument.strip() or None))
                render.line(f"the model to ask first: {self._goal.model or 'chosen by the router'}")
            case "/history":
                for line in self._goal.history:
                    render.paragraph(f"{line.role}: ", line.content)
            case "/debug":
                self._lines.shown = not self._lines.shown
                render.line(f"log lines are {'on' if self._lines.shown else 'off'}")
            case "/status":
                from opskit.agent.evidence import ListModels, NoArguments

                render.line((await ListModels(self._app).run(NoArguments(), None)).text)
            case "/trace":
                self._trace()
            case _:
                if name != "/help":
                    render.line(f"there is no command {name}:")
                for command, meaning in _COMMANDS.items():
                    render.line(f"{command:<10} {meaning}")
        return True

    def _trace(self) -> None:
        from opskit.cli.trace import draw

        trace = None if self._last_id is None else self._app.traces.store.find(self._last_id)
        if trace is None:
            render.line("nothing was asked yet")
        else:
            draw(trace)


async def _typed(app: "App") -> "AsyncGenerator[str]":
    """Yield the lines of a person at a terminal, else of standard input."""
    if not sys.stdin.isatty():
        import asyncio

        while line := await asyncio.to_thread(sys.stdin.readline):
            yield line.strip()
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory

    path = Path(app.folder) / _HISTORY_NAME
    path.touch(mode=0o600)
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(path)),
        completer=WordCompleter(list(_COMMANDS), sentence=True),
        complete_while_typing=False,
    )
    render.note("Ctrl-D leaves, /help shows the commands")
    while True:
        try:
            line = await session.prompt_async("> ")
        except KeyboardInterrupt:
            continue  # Ctrl-C empties the line
        except EOFError:
            return
        yield line.strip()
