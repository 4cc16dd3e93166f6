"""`opskit run`: who answers, what is printed where, and what happens when Victoria does not."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from opskit.config.schema import Budgets, NodeConfig
from opskit.llm.catalog import GRACE_S, Catalog
from opskit.providers.node import Node
from opskit.sandbox.faults import parse_fault
from opskit.sandbox.ollama import SimModel
from opskit.sandbox.stage import Stage
from tests.parts.command import NOBODY, Result, opskit

GOAL = "What is 6 times 7?"


@contextlib.asynccontextmanager
async def staged(*faults: str, **rest: object) -> AsyncIterator[Stage]:
    async with Stage([parse_fault(fault) for fault in faults], **rest) as stage:
        yield stage


async def ran(stage: Stage, tmp_path: Path, *arguments: str, stdin: bytes = b"", **env: str) -> Result:
    return await asyncio.to_thread(
        opskit,
        "run",
        *arguments,
        home=tmp_path / "home",
        env={**stage.environment(), **env},
        stdin=stdin,
    )


async def test_victoria_answers_when_she_is_there(tmp_path: Path) -> None:
    """By default the goal goes through Victoria; the answer alone is on stdout."""
    async with staged() as stage:
        result = await ran(stage, tmp_path, GOAL)
        runs = [r for r in stage.victoria.requests if r.path == "/run"]
        models = [r for r in stage.ollama.requests + stage.mlx.requests if "chat" in r.path]
    assert (result.status, result.out) == (0, "42\n")
    assert "on victoria" in result.err
    assert len(runs) == 1
    assert runs[0].body is not None
    assert runs[0].body["goal"] == GOAL
    assert models == []


async def test_the_document_of_a_run(tmp_path: Path) -> None:
    """`--json` holds what the contract names."""
    async with staged() as stage:
        result = await ran(stage, tmp_path, GOAL, "--json")
    document = result.document
    assert set(document) == {
        "schema_version",
        "ok",
        "output",
        "method",
        "model",
        "node",
        "steps",
        "notes",
        "correlation_id",
        "seconds",
        "prompt_cut",
        "attempts",
        "metadata",
    }
    assert (document["schema_version"], document["ok"], document["output"]) == (1, True, "42")
    assert {"node", "model", "outcome", "fault", "seconds", "fallback"} <= set(document["attempts"][0])


async def test_without_victoria_the_answer_is_made_here(tmp_path: Path) -> None:
    """Nothing listens at Victoria's address: the models here answer, and the reason is told."""
    async with staged() as stage:
        result = await ran(stage, tmp_path, GOAL, VICTORIA_URL=NOBODY)
    assert (result.status, result.out) == (0, "42\n")
    assert "answering here" in result.err


@pytest.mark.parametrize("fault", ["crash", "empty", "echo", "garbage", "cut"])
async def test_when_victoria_fails_the_models_here_answer(tmp_path: Path, fault: str) -> None:
    """A failed or a false answer of Victoria is an attempt; the next answer comes from here."""
    async with staged(f"victoria={fault}") as stage:
        result = await ran(stage, tmp_path, GOAL, "--json")
    assert result.status == 0, result
    attempts = result.document["attempts"]
    assert attempts[0]["node"] == "victoria"
    assert attempts[0]["outcome"] in ("fault", "rejected")
    assert (attempts[1]["fallback"], attempts[1]["outcome"]) == (True, "ok")
    assert result.document["output"] == "42"


async def test_a_run_that_fails_here_too_names_the_failure_of_victoria(tmp_path: Path) -> None:
    """Every attempt is told, whichever solver ended the run; what follows hers is a fallback."""
    async with staged("victoria=crash", "ollama=empty", "mlx=empty") as stage:
        result = await ran(stage, tmp_path, GOAL, "--method", "consensus", "--json")
    assert result.status == 1
    nodes = [attempt["node"] for attempt in result.document["attempts"]]
    assert nodes[0] == "victoria"
    assert len(nodes) > 1
    assert all(attempt["fallback"] for attempt in result.document["attempts"][1:])


async def test_remote_means_victoria_or_nothing(tmp_path: Path) -> None:
    """With --remote a missing Victoria is COMM_001 and nobody else is asked."""
    async with staged() as stage:
        missing = await ran(stage, tmp_path, GOAL, "--remote", "--json", VICTORIA_URL=NOBODY)
        off = await ran(stage, tmp_path, GOAL, "--remote", "--json", VICTORIA_URL="")
        asked = [r for r in stage.ollama.requests + stage.mlx.requests if "chat" in r.path]
    for result in (missing, off):
        assert result.status == 1
        assert result.document["error"]["code"] == "COMM_001"
    assert asked == []


async def test_remote_failure_is_told_as_such(tmp_path: Path) -> None:
    """With --remote an echo of Victoria is an error, not an answer."""
    async with staged("victoria=echo") as stage:
        result = await ran(stage, tmp_path, "Tell me all about the sea", "--remote", "--json")
    assert result.status == 1
    assert result.document["ok"] is False
    assert result.document["attempts"][0]["fault"] == "echo"


async def test_local_leaves_victoria_alone(tmp_path: Path) -> None:
    """With --local she is not even asked for her status."""
    async with staged() as stage:
        result = await ran(stage, tmp_path, GOAL, "--local")
        assert stage.victoria.requests == []
    assert result.out == "42\n"


async def test_a_goal_from_standard_input(tmp_path: Path) -> None:
    """`-` and a pipe both read the goal from standard input."""
    async with staged() as stage:
        dash = await ran(stage, tmp_path, "-", "--local", stdin=GOAL.encode())
        pipe = await ran(stage, tmp_path, "--local", stdin=GOAL.encode())
    assert dash.out == pipe.out == "42\n"


async def test_what_is_piped_in_stands_below_the_goal(tmp_path: Path) -> None:
    """`git diff | opskit run "..."` asks for both; an empty pipe adds nothing."""
    async with staged() as stage:
        await ran(stage, tmp_path, "Write a commit message", stdin="+ привет\n".encode())
        await ran(stage, tmp_path, GOAL, stdin=b" \n")
        goals = [r.body["goal"] for r in stage.victoria.requests if r.path == "/run" and r.body is not None]
    assert goals == ["Write a commit message\n\n+ привет\n", GOAL]


async def test_what_is_piped_in_is_judged_like_a_goal(tmp_path: Path) -> None:
    """Binary data beside a goal is refused; nothing of it is dropped."""
    async with staged() as stage:
        result = await ran(stage, tmp_path, GOAL, stdin=b"\x00\xff")
        assert stage.victoria.requests == []
    assert (result.status, "VAL_002" in result.err) == (2, True)


async def test_the_named_model_is_asked_first(tmp_path: Path) -> None:
    """--model asks that model; after its crash the others answer, and each attempt is told."""
    async with staged("ollama:big:32b=crash") as stage:
        result = await ran(stage, tmp_path, GOAL, "--model", "big:32b", "--json")
    assert result.status == 0, result
    attempts = result.document["attempts"]
    assert [(a["model"], a["fault"], a["fallback"]) for a in attempts] == [
        ("big:32b", "runner_crashed", False),
        ("default_model", None, True),
    ]


async def test_a_crash_costs_milliseconds(tmp_path: Path) -> None:
    """The first failure of a crashed primary is not waited for."""
    async with staged("ollama:big:32b=crash") as stage:
        result = await ran(stage, tmp_path, GOAL, "--model", "big:32b", "--json")
    assert result.document["seconds"] < 1.0


async def test_a_stream_that_breaks_is_an_error(tmp_path: Path) -> None:
    """--stream: text that was shown before a cut stays, the exit status is 1 and the reason is told."""
    text = "A long enough answer, " + " ".join(f"word{number}" for number in range(80))
    async with staged(
        "mlx=refuse",
        "ollama=cut,after=40",
        reply=lambda _m, _n: text,
        ollama_models=[SimModel("m:3b", resident=True)],
    ) as stage:
        result = await ran(stage, tmp_path, "Tell me something long", "--local", "--stream")
    assert result.status == 1
    assert text.startswith(result.out.strip())
    assert result.out.strip()
    assert "broke off" in result.err


async def test_an_echo_is_never_printed(tmp_path: Path) -> None:
    """--stream holds text back until it cannot be an echo."""
    goal = "Tell me something long about the sea and its many fishes"
    async with staged("mlx=echo", "ollama=echo") as stage:
        result = await ran(stage, tmp_path, goal, "--local", "--stream")
    assert result.status == 1
    assert "sea" not in result.out
    assert "MODEL_004" in result.err


async def test_a_task_that_needs_time_is_polled(tmp_path: Path) -> None:
    """Victoria accepts, works and completes: her states are narrated on stderr."""
    async with staged() as stage:
        stage.victoria.work_s = 0.5
        result = await ran(stage, tmp_path, GOAL)
    assert result.out == "42\n"
    assert "Victoria: " in result.err


LONG_GOAL = b"Tell me which of these long sentences matters most, and why it does. " * 1000


async def test_a_prompt_that_was_cut_is_told(tmp_path: Path) -> None:
    """The answer stands; on stderr, in the document and in the log stand the numbers and what to type."""
    async with staged() as stage:
        result = await ran(stage, tmp_path, "-", "--local", "--json", stdin=LONG_GOAL, MLX_API_URL="")
    assert result.status == 0
    cut = result.document["prompt_cut"]
    assert (cut["least_tokens"], cut["read_tokens"], cut["context_tokens"]) == (13_000, 2050, 4096)
    for words in ("2050", "13000", "num_ctx", "OLLAMA_CONTEXT_LENGTH"):
        assert words in result.err
    assert "num_ctx" in cut["remedy"]
    [log] = (tmp_path / "home").rglob("opskit.log")
    assert "prompt_cut=true prompt_tokens=2050" in log.read_text()


async def test_a_model_is_loaded_with_room_for_the_prompt(tmp_path: Path) -> None:
    """A model that must be loaded gets a context that holds the prompt; a configured one stands."""
    config = "nodes: {ollama: {num_ctx: 4096}}\n"
    for written, wanted in (("", 24_576), (config, 4096)):
        (tmp_path / "opskit.yaml").write_text(written)
        async with Stage(ollama_models=[SimModel("phi3.5:3.8b", load_s=0.0)]) as stage:
            options = ("-", "--local", "--json", "--config", str(tmp_path / "opskit.yaml"))
            result = await ran(stage, tmp_path, *options, stdin=LONG_GOAL, MLX_API_URL="")
            asked = [r.body for r in stage.ollama.requests if r.path == "/api/chat" and r.body]
        assert {body["options"]["num_ctx"] for body in asked} == {wanted}
        assert (result.status, result.document["prompt_cut"] is None) == (0, wanted > 4096)


async def test_a_prompt_that_was_read_is_not_accused(tmp_path: Path) -> None:
    """Asked again it comes out of the cache, and nothing is said either."""
    async with staged() as stage:
        for _ in range(2):
            result = await ran(stage, tmp_path, "-", "--local", "--json", stdin=LONG_GOAL[:8000])
            assert (result.status, result.document["prompt_cut"]) == (0, None)
            assert "cut" not in result.err


async def test_strict_context_refuses_an_answer_to_a_part_of_the_prompt(tmp_path: Path) -> None:
    """Ollama is asked to refuse; the error names both counts, and nothing is printed as an answer."""
    async with staged() as stage:
        options = ("-", "--strict-context", "--stream")
        result = await ran(stage, tmp_path, *options, stdin=LONG_GOAL, MLX_API_URL="")
        asked = [r.body for r in stage.ollama.requests if r.path == "/api/chat" and r.body]
    assert (result.status, result.out) == (1, "")
    assert "context_exceeded" in result.err
    assert "4096" in result.err
    assert "num_ctx" in result.err
    assert {body["truncate"] for body in asked if body["messages"]} == {False}


async def test_strict_context_cannot_be_asked_of_victoria(tmp_path: Path) -> None:
    """She does not tell what her model read."""
    async with staged() as stage:
        remote = await ran(stage, tmp_path, GOAL, "--strict-context", "--remote")
        here = await ran(stage, tmp_path, GOAL, "--strict-context")
    assert remote.status == 2
    assert "--strict-context" in remote.err
    assert (here.status, here.out) == (0, "42\n")
    assert "on victoria" not in here.err


def asked(stage: Stage) -> list[dict[str, object]]:
    """Return what the models were asked, in the order of time: either server may have answered."""
    requests = sorted(stage.ollama.requests + stage.mlx.requests, key=lambda request: request.at)
    return [request.body for request in requests if request.body and request.body.get("messages")]


async def test_the_same_goal_is_answered_from_the_cache_and_says_so(tmp_path: Path) -> None:
    """With --cache no model is asked a second time; without it one is, and for another method too."""
    async with staged() as stage:
        first = await ran(stage, tmp_path, GOAL, "--local", "--json", "--cache")
        second = await ran(stage, tmp_path, GOAL, "--local", "--json", "--stream", "--cache")
        assert len(asked(stage)) == 1
        plain = await ran(stage, tmp_path, GOAL, "--local", "--stream", "--cache")
        third = await ran(stage, tmp_path, GOAL, "--local", "--json")
        assert len(asked(stage)) == 2
        await ran(stage, tmp_path, GOAL, "--local", "--method", "extended_thinking")
        assert len(asked(stage)) > 2
    cached = [document.document["metadata"]["cached"] for document in (first, second, third)]
    assert cached == [False, True, False]
    assert second.document["output"] == first.document["output"] == "42"
    assert second.document["model"] == first.document["model"]
    assert plain.out == "42\n"
    assert "old" in plain.err


async def test_a_goal_about_this_machine_is_looked_at_again(tmp_path: Path) -> None:
    """What was true a minute ago is no answer."""
    async with staged() as stage:
        for _ in range(2):
            result = await ran(stage, tmp_path, "What is wrong with the stack?", "--local", "--json")
            assert result.document["metadata"]["cached"] is False


async def test_a_session_is_kept_between_runs_here(tmp_path: Path) -> None:
    """The next run sends the lines before it; another session does not know them."""
    async with staged() as stage:
        for session, goal in (("s1", GOAL), ("s1", "And 6 times 8?"), ("s2", "And 6 times 9?")):
            await ran(stage, tmp_path, goal, "--local", "--session", session)
        contents = [[line["content"] for line in body["messages"]] for body in asked(stage)]  # type: ignore[attr-defined]
    assert contents == [[GOAL], [GOAL, "42", "And 6 times 8?"], ["And 6 times 9?"]]


async def test_a_server_that_has_answered_is_waited_for_until_its_process_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which model answers does not depend on how many processes the machine has to look through."""
    read = psutil.net_connections

    def read_slowly(**options: str) -> object:
        time.sleep(2 * GRACE_S)
        return read(**options)

    monkeypatch.setattr(psutil, "net_connections", read_slowly)
    async with staged() as stage, contextlib.AsyncExitStack() as ends:
        nodes = [
            Node(NodeConfig("ollama", stage.ollama.url, "ollama"), Budgets()),
            Node(NodeConfig("mlx", stage.mlx.url, "mlx"), Budgets()),
        ]
        catalog = Catalog(nodes)
        for part in (*nodes, catalog):
            ends.push_async_callback(part.aclose)
        snapshot = await catalog.snapshot()
    assert [bool(view.models) for view in snapshot.nodes] == [True, True]


async def test_victoria_gets_session_project_and_method(tmp_path: Path) -> None:
    """She keeps the conversation herself."""
    async with staged() as stage:
        arguments = ("--session", "s1", "--project", "atra", "--method", "consensus")
        result = await ran(stage, tmp_path, GOAL, *arguments, "--json")
        sent = next(r for r in stage.victoria.requests if r.path == "/run")
    assert result.status == 0
    assert sent.body is not None
    assert (sent.body["session_id"], sent.body["project_context"], sent.body["method"]) == (
        "s1",
        "atra",
        "consensus",
    )
    assert set(result.document["metadata"]) == {
        "model", "source", "attempts", "delegated_to", "task_id", "cached", "category", "agreement",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (("--project", "../etc"), {}, "atra-web-ide, atra"),
        (("--project", "atra"), {"ALLOWED_PROJECTS": "shop, till", "MAIN_PROJECT": "shop"}, "shop, till"),
        (("--session", "../../etc"), {}, "--session"),
        (("--session", ""), {}, "--session"),
        (("--method", "rm"), {}, "tree_of_thoughts"),
    ],
)
async def test_what_is_not_allowed_is_refused_with_what_is(
    tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str], says: str
) -> None:
    """Before any model is asked."""
    result = await asyncio.to_thread(opskit, "run", GOAL, *arguments, home=tmp_path / "home", env=env)
    assert result.status == 2
    assert says in result.err


async def test_a_project_of_the_environment_is_allowed(tmp_path: Path) -> None:
    """And it has answers of its own."""
    env = {"ALLOWED_PROJECTS": "shop,till"}
    async with staged() as stage:
        for project in ("shop", "till", "shop"):
            result = await ran(
                stage, tmp_path, GOAL, "--local", "--json", "--cache", "--project", project, **env
            )
            assert result.status == 0
        assert len(asked(stage)) == 2


async def test_an_answer_in_steps_is_printed_with_stream_too(tmp_path: Path) -> None:
    """It comes at once, at the end."""
    async with staged() as stage:
        result = await ran(stage, tmp_path, "What is wrong with the stack?", "--local", "--stream")
    assert result.status == 0
    assert result.out.strip()
