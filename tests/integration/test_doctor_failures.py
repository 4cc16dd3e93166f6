"""What failed a moment ago is told by doctor, each by requests that a real server failed."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from opskit.tags import parse
from tests.parts.command import Result, opskit, sandbox
from tests.parts.examining import QUIET
from tests.parts.fixtures import StartLlamaCpp
from tests.parts.ollama_process import ollama_process


def doctor(home: Path, **env: str) -> Result:
    home.mkdir(exist_ok=True)
    # JSON is YAML.
    patient = {"probe": {"first_token_s": 20, "http_s": 10}}
    (home / "opskit.yaml").write_text(json.dumps({**QUIET, **patient}))
    return opskit("doctor", "--json", home=home, env={"MLX_API_URL": "", **env})


def causes(result: Result) -> dict[str, dict[str, object]]:
    return {cause["key"]: cause for cause in result.document["causes"]}


def requests_of(result: Result) -> str:
    return next(f["detail"] for f in result.document["findings"] if f["check"] == "requests")


def test_failures_a_moment_ago_are_named(tmp_path: Path):
    """A model that crashes at each request is told with its words, although another answers the probe."""
    with sandbox(tmp_path, "ollama:qwen2.5-coder:7b=crash") as env:
        address = {"OLLAMA_API_URL": env["OLLAMA_API_URL"], "MLX_API_URL": ""}
        ask = ("run", "--local", "--model", "qwen2.5-coder:7b", "Count to three.")
        for _ in range(2):
            opskit(*ask, home=tmp_path, env=address)
        result = doctor(tmp_path, **address)
    [cause] = causes(result).values()
    assert result.status == 1
    assert cause["key"] == "requests-failing:ollama/qwen2.5-coder:7b"
    assert "crashed" in str(cause["title"])
    assert "2 requests failed" in str(cause["evidence"])
    assert "unexpectedly stopped" in str(cause["evidence"])
    assert "opskit models test --node ollama --model qwen2.5-coder:7b" in str(cause["remedy"])
    assert cause["explains"] == ["requests"]


def own_log(home: Path, url: str, model: str, ago: timedelta, *, answered: bool = False) -> None:
    """Opskit's own log of a request that crashed so long ago, and of one that was answered after it."""
    lines = []
    for number, ended in enumerate(["[LLM_CRASH]"] + ["[LLM_RESPONSE]"] * answered):
        at = f"{datetime.now(UTC) - ago + timedelta(seconds=number):%Y-%m-%dT%H:%M:%S}.000Z"
        where = f"correlation_id=6d9d775b-2955-4c19-8efa-2e449e3fbf1{number} node=ollama model={model}"
        lines.append(f"{at} [LLM_CALL] {where} url={url}")
        lines.append(f"{at} {ended} {where} {'' if answered and number else 'fault=runner_crashed'}")
    path = home / "state/opskit/opskit.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("model", "ago", "answered", "note"),
    [
        ("tinyllama:1.1b-chat", timedelta(days=1), False, "no log tells of a request"),
        ("tinyllama:1.1b-chat", timedelta(minutes=9), True, "it has answered since"),
        ("phi3.5:3.8b", timedelta(minutes=9), False, "it has answered since"),
    ],
)
def test_what_is_over_is_no_cause(tmp_path: Path, model: str, ago: timedelta, answered: bool, note: str):
    """Failures of yesterday, or of a model that answered a request or the probe since, are at most a note."""
    with sandbox(tmp_path) as env:
        url = env["OLLAMA_API_URL"]
        own_log(tmp_path, url, model, ago, answered=answered)
        result = doctor(tmp_path, OLLAMA_API_URL=url)
    assert (causes(result), result.status) == ({}, 0)
    assert note in requests_of(result)


def test_a_prompt_longer_than_the_context_of_llamacpp(tmp_path: Path, own_real_llamacpp: StartLlamaCpp):
    """The log of a real llama.cpp, which it writes to its output, tells who exceeded what."""
    server = own_real_llamacpp("--context", "256")
    config = {"nodes": {"cpp": {"url": server.url, "source": "llamacpp"}, "ollama": {"url": ""}}}
    home = tmp_path / "home"
    home.mkdir()
    (home / "opskit.yaml").write_text(json.dumps({**QUIET, **config}))
    body = {"messages": [{"role": "user", "content": "word " * 300}], "max_tokens": 1}
    refused = httpx.post(f"{server.url}/v1/chat/completions", json=body, trust_env=False)
    assert refused.status_code == 400
    env = {"OLLAMA_API_URL": "", "MLX_API_URL": ""}
    result = opskit("doctor", "--json", home=home, env=env)
    cause = causes(result)["context-exceeded:cpp"]
    assert cause["status"] == "warn"
    assert str(server.log) in str(cause["evidence"])
    assert "(256 tokens)" in str(cause["evidence"])
    assert "llama-server -c N" in str(cause["remedy"])


def test_the_file_that_a_server_writes_its_output_to(tmp_path: Path):
    """GIN's 500 in the file that the process writes is evidence, with the reason of the line before it."""
    log = tmp_path / "anything.txt"
    now = datetime.now().astimezone() - timedelta(minutes=2)
    reason = "ggml_aligned_malloc: insufficient memory (attempted to allocate 222.51 MB)"
    log.write_text(
        f'time={now.isoformat(timespec="milliseconds")} level=ERROR source=sched.go:1 msg="{reason}"\n'
        + f'[GIN] {now:%Y/%m/%d - %H:%M:%S} | 500 |  1.2s |  127.0.0.1 | POST     "/api/chat"\n' * 4
    )
    script = (
        "import json, sys\n"
        "from opskit.sandbox.ollama import SimModel\n"
        "from opskit.sandbox.stage import Stage\n"
        "import asyncio\n"
        "async def main():\n"
        "    async with Stage(ollama_models=[SimModel('phi3.5:3.8b')]) as stage:\n"
        "        print(stage.ollama.url, flush=True, file=open(sys.argv[1], 'w'))\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    address = tmp_path / "address"
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-c", script, address], stdout=output, stderr=output)
    try:
        while not address.exists() or not (url := address.read_text().strip()):
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        result = doctor(tmp_path / "home", OLLAMA_API_URL=url)
    finally:
        process.kill()
        process.wait()
    cause = causes(result)["requests-failing:ollama"]
    assert "does not fit in memory" in str(cause["title"])
    assert "4 requests failed" in str(cause["evidence"])
    assert "anything.txt" in str(cause["evidence"])


def test_a_prompt_that_was_cut_within_the_hour(tmp_path: Path):
    """What `run` found cut is told by doctor, with both counts."""
    long_goal = b"Which of these long sentences matters most, and why does it matter? " * 1000
    with sandbox(tmp_path) as env:
        address = {"OLLAMA_API_URL": env["OLLAMA_API_URL"], "MLX_API_URL": ""}
        assert opskit("run", "-", "--local", home=tmp_path, env=address, stdin=long_goal).status == 0
        cause = causes(doctor(tmp_path, **address))["context-truncated:ollama"]
    assert "12000 tokens" in str(cause["evidence"])
    assert "num_ctx" in str(cause["remedy"])


def gin_500(ended: datetime, seconds: float) -> str:
    """The line of a request that Ollama ended with 500."""
    when = f"{ended.astimezone():%Y/%m/%d - %H:%M:%S}"
    return f'[GIN] {when} | 500 | {seconds:.9f}s |  127.0.0.1 | POST     "/api/chat"\n'


@dataclass
class HangingServer:
    """An Ollama whose scheduler hangs, in a shell, examined once: its probe left a question there."""

    log: Path
    url: str
    pid: int
    home: Path
    first: Result
    left: tuple[datetime, float]

    def examined(self) -> Result:
        return doctor(self.home, OLLAMA_API_URL=self.url)


@pytest.fixture(scope="module")
def hanging(tmp_path_factory: pytest.TempPathFactory, gguf_model: Path) -> Iterator[HangingServer]:
    folder = tmp_path_factory.mktemp("hanging")
    log, home = folder / "serve.out", folder / "home"
    env = {"OLLAMA_MODELS": "/srv/models", "OLLAMA_API_KEY": "sk-secret"}
    with ollama_process(folder, "ollama=slow-token,seconds=600", env=env, log=log) as server:
        server.start_runner(gguf_model)
        first = doctor(home, OLLAMA_API_URL=server.url)
        [line] = [
            tagged
            for text in (home / "state/opskit/opskit.log").read_text().splitlines()
            if (tagged := parse(text)) is not None and tagged.tag == "PROBE_LEFT"
        ]
        assert line.at is not None
        left = (line.at, float(str(line.fields["seconds"])))
        yield HangingServer(log, server.url, server.process.pid, home, first, left)


def test_a_question_that_opskit_left_is_no_failure_of_others(hanging: HangingServer):
    """Ollama ends a request whose client left with 500: that of opskit's own probe is no second cause."""
    hanging.log.write_text(gin_500(*hanging.left))
    assert list(causes(hanging.examined())) == ["scheduler-hangs:ollama"]


def test_a_failure_of_others_follows_from_what_silences_the_server(hanging: HangingServer):
    """A second 500 of that moment is somebody else's, and counts beneath the cause for which it failed."""
    hanging.log.write_text(gin_500(*hanging.left) * 2)
    named = causes(hanging.examined())
    assert list(named) == ["scheduler-hangs:ollama", "requests-failing:ollama"]
    assert named["requests-failing:ollama"]["follows_from"] == "scheduler-hangs:ollama"
    assert "1 request failed" in str(named["requests-failing:ollama"]["evidence"])


def test_the_remedy_names_what_keeps_a_server_that_a_person_started(hanging: HangingServer):
    """No unit owns it: it is ended by its id and started by its own command, without its secrets."""
    [cause] = causes(hanging.first).values()
    assert cause["key"] == "scheduler-hangs:ollama"
    remedy = str(cause["remedy"])
    assert f"`kill {hanging.pid}`, then `OLLAMA_MODELS=/srv/models " in remedy
    assert "/ollama" in remedy
    assert "systemctl" not in remedy
    assert "sk-secret" not in remedy


def test_the_log_of_a_server_that_a_person_started_is_the_file_it_writes(tmp_path: Path):
    """Requests that end without a reason: the remedy shows the very file that the process writes to."""
    log = tmp_path / "serve.out"
    log.write_text(gin_500(datetime.now(UTC) - timedelta(minutes=1), 1.5))
    with ollama_process(tmp_path, models=(), log=log) as server:
        cause = causes(doctor(tmp_path / "home", OLLAMA_API_URL=server.url))["requests-failing:ollama"]
    assert f"`tail -n 50 {log}` tells why" in str(cause["remedy"])
