"""What remains of a run of the agent that is killed: a real command, a real signal."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.parts.command import environment, opskit
from tests.parts.model_server import Chunks, model_server

STEP = json.dumps({"thought": "look", "tool": "list_directory", "args": {"path": "."}})


def test_a_run_that_is_killed_keeps_its_steps(tmp_path: Path):
    """Each is written before the next question: `kill -9` in the middle of one loses nothing."""
    asked_again, over = threading.Event(), threading.Event()

    def looks_then_hangs(body: dict[str, Any]) -> Chunks:
        if not any("Result of" in message["content"] for message in body["messages"]):
            return [STEP]
        asked_again.set()
        over.wait(60)
        return []

    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "alpha.txt").write_text("text")
    with model_server(looks_then_hangs) as server:
        config = tmp_path / "opskit.yaml"
        config.write_text(
            f"nodes: {{here: {{url: '{server.url}', source: openai}}}}\nagent: {{workspace: '{workspace}'}}\n"
        )
        command = [sys.executable, "-m", "opskit", "run", "Which files are in the folder?", "--local"]
        running = subprocess.Popen(
            [*command, "--config", str(config)], env=environment(tmp_path), stderr=subprocess.DEVNULL
        )
        try:
            assert asked_again.wait(60)
        finally:
            running.kill()
            running.wait()
            over.set()
    [kept] = (tmp_path / "state").rglob("trajectories/*.ndjson")
    shown = opskit("trace", "show", kept.stem, "--trajectory", "--json", home=tmp_path)
    lines = shown.document["lines"]
    assert [line["kind"] for line in lines] == ["goal", "step", "observation"]
    assert "alpha.txt" in lines[-1]["text"]
