"""What the agent adds to the time of its model: with a model in memory, and as a whole command."""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from opskit.agent.run_state import RunLimits
from opskit.agent.victoria import Victoria
from opskit.app import App
from opskit.config.schema import Config, NodeConfig, VictoriaConfig
from opskit.engine.goal import Goal
from opskit.providers.node import Node
from tests.bench.measure import Figure, process
from tests.parts.command import environment
from tests.parts.model_server import model_server
from tests.parts.scripted import Script, Scripted, says

RUNS = 60
STEPS = 6
STARTS = 9
#: A quick small model takes as long for a step.
MODEL_MS = 50
TEXT = "A fair answer that says something of its own about the matter at hand."


def looks() -> list[Script]:
    """Return a run of STEPS looks and an answer; each path is another, so that no look is left out."""
    steps = [("list_directory", {"path": str(number)}) for number in range(STEPS)]
    steps.append(("finish", {"answer": "Each folder has a.txt."}))
    return [says(json.dumps({"thought": "look", "tool": tool, "args": args})) for tool, args in steps]


async def figures() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        return [*await _in_process(Path(folder)), *_first_call(Path(folder))]


async def _in_process(folder: Path) -> list[Figure]:
    for number in range(STEPS):
        (folder / "work" / str(number)).mkdir(parents=True)
        (folder / "work" / str(number) / "a.txt").write_text("text")
    simple = Goal("Tell me about the matter.", where="local", method="simple")
    simple_ms = await _ms(folder, simple, [says(TEXT)])
    goal = Goal("Which files are in the folder?", where="local", method="react")
    react_ms, bare_ms = await _ms(folder, goal, looks()), await _ms(folder, goal, looks(), traces=False)
    added_ms, whole_ms = react_ms - bare_ms, bare_ms + (STEPS + 1) * MODEL_MS
    many = f"{STEPS} looks and an answer"
    return [
        Figure("agent, added per simple run", simple_ms, "ms", "<= 15", "model in memory"),
        Figure(
            "agent, added per ReAct step",
            react_ms / (STEPS + 1),
            "ms",
            "<= 5",
            f"{many} in {react_ms:.1f} ms, model in memory",
        ),
        Figure(
            "trace, added to a run",
            added_ms / whole_ms * 100,
            "%",
            "<= 2",
            f"{added_ms:.2f} ms in {many} by a model that takes {MODEL_MS} ms",
        ),
    ]


async def _ms(folder: Path, goal: Goal, scripts: Sequence[Script], *, traces: bool = True) -> float:
    """Return the median milliseconds of a whole run of the engine."""
    config = Config(
        state_dir=str(folder / "state"),
        nodes=(NodeConfig("ollama", "http://127.0.0.1:9", "ollama"),),
        agents=(),
        agent=VictoriaConfig(workspace=str(folder / "work")),
    )
    provider = Scripted({"m:7b": [*scripts] * (RUNS + 1)})
    took: list[float] = []
    async with App(config) as app:
        app.nodes = tuple(Node(node, config.budgets, provider=provider) for node in config.nodes)
        if not traces:
            app.engine._traces = None
        app.engine.solver = Victoria(app, limits=RunLimits(steps=STEPS + 1))
        for _ in range(RUNS):
            began = time.perf_counter()
            result = await app.engine.run(goal)
            took.append(time.perf_counter() - began)
            assert len(result.steps) in (0, STEPS), result
    return statistics.median(took) * 1000


def _first_call(folder: Path) -> list[Figure]:
    """Return how soon a whole command asks a model for an answer, beside the time of `opskit --version`."""
    ratios, firsts, versions = [], [], []
    with model_server(lambda _: [TEXT]) as server:
        env = environment(folder, {"MLX_API_URL": server.url, "OLLAMA_API_URL": ""})
        opskit = [sys.executable, "-m", "opskit"]
        run = [*opskit, "run", "Tell me about the matter."]
        for number in range(STARTS + 1):
            server.first_chat_at = None
            began = time.monotonic()
            process(run, env)
            assert server.first_chat_at is not None
            first_s, version_s = server.first_chat_at - began, process([*opskit, "--version"], env).wall_s
            if number:
                firsts.append(first_s)
                versions.append(version_s)
                ratios.append(first_s / version_s)
    first_ms, version_ms = statistics.median(firsts) * 1000, statistics.median(versions) * 1000
    note = f"{first_ms:.0f} ms against {version_ms:.0f} ms"
    return [
        Figure("opskit run to its first model call / --version", statistics.median(ratios), "x", "<= 2", note)
    ]
