"""Runs goals with the agent of this process, on a real model, over real files and real containers."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from opskit.agent.victoria import Victoria
from opskit.app import App
from opskit.config.load import load
from opskit.engine.goal import Goal, RunFailed, RunResult
from tests.acceptance.goals.judging import Truth, Verdict, judged
from tests.parts.docker import Engine

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class HeldGoal:
    """A goal with its true answer. `text` has the places of container names still open.

    `piped` is what stands on standard input.
    """

    kind: str
    text: str
    truth: Truth
    piped: str = ""


@dataclass(frozen=True)
class Ended:
    """How a goal ended: its verdict, its answer or the reason that there is none, and what it cost."""

    goal: HeldGoal
    verdict: Verdict
    text: str
    method: str
    seconds: float
    calls: int


@dataclass(frozen=True)
class World:
    """A workspace with its files, and containers by the names that goals call them."""

    workspace: Path
    containers: Mapping[str, str]
    docker: str
    shown: str


def goals(name: str = "goals.yaml") -> list[HeldGoal]:
    """Return the goals of a file of this folder."""
    document = yaml.safe_load((FOLDER / name).read_text())
    files = yaml.safe_load((FOLDER / "world.yaml").read_text())["files"]
    return [
        HeldGoal(
            kind,
            entry["goal"],
            Truth(
                entry["states"], entry.get("never", ()), files[entry["source"]] if "source" in entry else ""
            ),
            entry.get("piped", ""),
        )
        for kind, entries in document.items()
        for entry in entries
    ]


@contextlib.contextmanager
def world(folder: Path, engine: Engine) -> Iterator[World]:
    """Lay out the files, and start the containers until each is in its state."""
    document: dict[str, Any] = yaml.safe_load((FOLDER / "world.yaml").read_text())
    workspace = folder / "workspace"
    for path, text in document["files"].items():
        file = workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    names = {}
    for name, entry in document["containers"].items():
        container = engine.run(entry["script"], name=engine.name(name), start=True)
        names[name] = str(container.name)
        if "kill" in entry:
            container.kill(entry["kill"])
            container.wait()
        elif entry.get("pause"):
            container.pause()
        elif "sleep" not in entry["script"]:
            container.wait()
    try:
        yield World(workspace, names, engine.host, str(document))
    finally:
        for name in names.values():
            engine.client.containers.get(name).remove(force=True)


async def run_goals(
    chosen: Sequence[HeldGoal],
    world: World,
    url: str,
    home: Path,
    *,
    seed: int | None = None,
    on_ended: Callable[[Ended], None] = lambda _: None,
) -> list[Ended]:
    """Run goals one after another; with a seed the model is asked at a temperature of 0.7."""
    home.mkdir(exist_ok=True)
    config = home / "opskit.yaml"
    sampling = "" if seed is None else f"router: {{temperature: 0.7, seed: {seed}}}\n"
    config.write_text(
        f"nodes: {{llama: {{url: '{url}', source: llamacpp}}}}\nagents: {{victoria: null, veronica: null}}\n"
        f"agent: {{workspace: '{world.workspace}'}}\n{sampling}"
    )
    environ = {
        "HOME": str(home), "PATH": "/usr/bin:/bin", "XDG_STATE_HOME": str(home / "state"),
        "OLLAMA_API_URL": "", "MLX_API_URL": "", "VICTORIA_URL": "", "VERONICA_URL": "",
        "DOCKER_HOST": world.docker,
    }  # fmt: skip
    loaded = load(str(config), environ=environ, cwd=home, in_docker=False).config
    ended = []
    for goal in chosen:
        async with App(loaded, environ=environ, cwd=home, config_path=str(config)) as app:
            app.engine.solver = Victoria(app)
            text = goal.text.format(**world.containers)
            if goal.piped:
                text += f"\n\n{goal.piped}"
            began = time.monotonic()
            result: RunResult | None = None
            try:
                result = await app.engine.run(Goal(text, where="local"))
                why, attempts, method = result.output, list(result.attempts), result.method
            except RunFailed as failed:
                why, attempts, method = f"({failed.message})", list(failed.attempts), "-"
            seconds = time.monotonic() - began
            seen = world.shown + text + "".join(world.containers.values())
            verdict = judged(result, goal.truth, seen)
            ended.append(Ended(goal, verdict, why, method, seconds, len(attempts)))
            on_ended(ended[-1])
    return ended


def share(ended: Sequence[Ended], verdict: Verdict) -> float:
    return sum(end.verdict is verdict for end in ended) / len(ended)


def line(end: Ended) -> str:
    """Return how one goal ended, with its answer."""
    head = f"{end.verdict.value:14} {end.method:7} {end.seconds:5.1f} s  {end.goal.text}"
    return "\n".join((head, *(f"{'':14} | {text}" for text in end.text.splitlines())))


def table(ended: Sequence[Ended]) -> str:
    """Return shares, seconds and model calls by kind of goal."""
    lines = []
    lines.append(
        f"{'kind':10} {'goals':>5} {'right':>6} {'honest':>7} {'false':>6} {'seconds':>8} {'calls':>6}"
    )
    for kind in [*dict.fromkeys(end.goal.kind for end in ended), "all"]:
        part = [end for end in ended if kind in (end.goal.kind, "all")]
        right, honest, false = (sum(end.verdict is verdict for end in part) for verdict in Verdict)
        seconds = sum(end.seconds for end in part) / len(part)
        calls = sum(end.calls for end in part) / len(part)
        lines.append(f"{kind:10} {len(part):5} {right:6} {honest:7} {false:6} {seconds:8.1f} {calls:6.1f}")
    return "\n".join(lines)
