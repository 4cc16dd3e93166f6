"""`opskit chat` on a real terminal and from a pipe: goals, commands, interruption, a server that restarts."""

import asyncio
from pathlib import Path

from opskit.sandbox.faults import parse_fault
from opskit.sandbox.stage import Stage
from tests.parts.command import opskit
from tests.parts.terminal import OnTerminal
from tests.parts.victoria_server import VictoriaServer

GOAL = "What is 6 times 7?"
CTRL_C, CTRL_D = "\x03", "\x04"


def piped(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_lines_of_a_pipe_are_goals_and_commands(tmp_path: Path):
    """Answers go to stdout, who gave them to stderr."""
    lines = piped(GOAL, "/model tinyllama", "/history", "/trace", "/nonsense", "/quit", "never asked")
    result = opskit("chat", "--sandbox", "--local", home=tmp_path, stdin=lines)
    assert result.status == 0
    assert result.out.startswith("42\n")
    assert "the model to ask first: tinyllama" in result.out
    assert "assistant: 42" in result.out
    assert "chat default_model" in result.out
    assert "there is no command /nonsense" in result.out
    assert "/quit" in result.out
    assert "[simple · default_model on mlx · " in result.err
    assert "never asked" not in result.out


async def test_the_next_goal_knows_the_lines_before_it(tmp_path: Path):
    """A follow-up reaches the model with its conversation."""
    async with Stage() as stage:
        lines = piped(GOAL, "And 6 times 8?")
        await asyncio.to_thread(
            opskit, "chat", "--local", home=tmp_path, env=stage.environment(), stdin=lines
        )
        bodies = [r.body for r in stage.mlx.requests if r.body and "messages" in r.body]
    assert [m["content"] for m in bodies[-1]["messages"]] == [GOAL, "42", "And 6 times 8?"]


def test_a_goal_that_fails_leaves_the_chat_open(tmp_path: Path):
    """The error says what to type; the next line is read."""
    result = opskit("chat", "--local", home=tmp_path, stdin=piped(GOAL, "/history", "/help"))
    assert result.status == 0
    assert "MODEL_001" in result.err
    assert "/history" in result.out


def test_what_cannot_be_a_goal_leaves_the_chat_open(tmp_path: Path):
    """Bytes that are no text and a bad model name are errors; the next line is answered."""
    stdin = b"\xff\xfe bad\n/model \x07\n" + piped(GOAL)
    result = opskit("chat", "--sandbox", "--local", home=tmp_path, stdin=stdin)
    assert (result.status, result.out) == (0, "42\n")
    assert "VAL_002: the goal is not UTF-8 text" in result.err
    assert "VAL_002: that is no model name" in result.err


def test_a_goal_may_begin_with_a_path(tmp_path: Path):
    """It is no command that is not known."""
    result = opskit("chat", "--local", home=tmp_path, stdin=piped("/srv/app.log says what?"))
    assert "[react" in result.err or "opskit: " in result.err
    assert "/quit" not in result.out


async def test_a_terminal_edits_keeps_history_and_interrupts(tmp_path: Path):
    """Ctrl-C ends a slow answer and not the chat; Ctrl-D leaves; the history file is private."""
    faults = [parse_fault(f"{node}=slow-token,seconds=30,times=1") for node in ("mlx", "ollama")]
    async with Stage(faults) as stage:
        env = {**stage.environment(), "PROMPT_TOOLKIT_NO_CPR": "1"}
        with OnTerminal("chat", "--local", home=tmp_path, env=env) as terminal:
            await asyncio.to_thread(terminal.read_until, "/help shows")
            terminal.press(f"{GOAL}\r")
            while not any("chat" in r.path for r in stage.mlx.requests + stage.ollama.requests):
                await asyncio.sleep(0.02)
            terminal.press(CTRL_C)
            await asyncio.to_thread(terminal.read_until, "interrupted")
            terminal.press("/trace\r")
            await asyncio.to_thread(terminal.read_until, f"goal: {GOAL}")
            terminal.press(f"{GOAL}\r")
            await asyncio.to_thread(terminal.read_until, " · ")
            await asyncio.to_thread(terminal.read_until, ">")
            terminal.press(CTRL_D)
            assert await asyncio.to_thread(terminal.ended) == 0
    history = next(tmp_path.rglob("chat_history"))
    assert GOAL in history.read_text("utf-8")
    assert history.stat().st_mode & 0o777 == 0o600


async def test_a_server_that_restarts_in_the_middle_is_waited_for(tmp_path: Path):
    """The run is kept: its end is told by the next server, and the chat goes on."""
    faults = [parse_fault(f"{node}=slow-token,seconds=3,times=1") for node in ("mlx", "ollama")]
    async with Stage(faults) as stage:
        server = VictoriaServer(tmp_path / "server", stage.environment())
        await asyncio.to_thread(server.start)
        chat = asyncio.create_task(
            asyncio.to_thread(
                opskit,
                "chat",
                home=tmp_path / "home",
                env={"VICTORIA_URL": server.url},
                stdin=piped(GOAL, GOAL),
            )
        )
        while not any("chat" in r.path for r in stage.mlx.requests + stage.ollama.requests):
            await asyncio.sleep(0.02)
        server.kill()
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.start)
        result = await chat
        server.kill()
    assert result.status == 0
    assert "interrupted" in result.err or "42" in result.out
    assert "on victoria" in result.err
    assert result.out.rstrip().endswith("42")
