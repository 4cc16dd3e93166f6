"""`opskit models` as a process of its own, against simulated and real servers."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from opskit.sandbox.faults import parse_fault
from opskit.sandbox.ollama import SimModel
from opskit.sandbox.stage import MLX_DEFAULT, OLLAMA_MODELS, Stage
from tests.parts.command import NOBODY, Result, environment, opskit, started
from tests.parts.loopback import until

CODER = "qwen2.5-coder:7b"
OTHER_MLX = "mlx-community/Qwen2.5-Coder-32B-Instruct-4bit"
HUGE = SimModel("huge:405b", 900_000_000_000)
HALF = SimModel("half:7b", 4_000_000_000, resident=True, size_vram=1_000_000_000)
PHI = SimModel("phi3.5:3.8b", resident=True)


@contextlib.asynccontextmanager
async def staged(*faults: str, models: tuple[SimModel, ...] = OLLAMA_MODELS) -> AsyncIterator[Stage]:
    async with Stage([parse_fault(fault) for fault in faults], ollama_models=models) as stage:
        yield stage


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


async def models(stage: Stage | None, home: Path, *arguments: str, **env: str) -> Result:
    """Run `opskit models ARGUMENTS` on a stage."""
    urls = stage.environment() if stage is not None else {}
    return await asyncio.to_thread(opskit, "models", *arguments, home=home, env={**urls, **env})


def row(result: Result, model: str) -> dict:
    return next(one for one in result.document["models"] if one["model"] == model)


class TestList:
    async def test_every_model_has_its_row(self, home):
        """Node, size, parameters, quantisation, loaded, fit and context of each model."""
        async with staged(models=(*OLLAMA_MODELS, HUGE)) as stage:
            result = await models(stage, home, "list", "--json")
            table = await models(stage, home, "list")
        assert result.status == 0, result
        assert {key: result.document[key] for key in ("schema_version", "command", "ok", "status")} == {
            "schema_version": 1,
            "command": "models list",
            "ok": True,
            "status": "pass",
        }
        coder = row(result, CODER)
        assert (coder["node"], coder["size_bytes"], coder["parameters"]) == ("ollama", 4_700_000_000, 7.6e9)
        assert (coder["quantization"], coder["context_length"], coder["loaded"]) == ("Q4_K_M", 32_768, False)
        assert row(result, "phi3.5:3.8b")["loaded"] is True
        assert row(result, "default_model")["loaded"] is True
        assert row(result, "huge:405b")["fits"] is False
        assert "no: needs about 964.4 GiB" in table.out
        assert "7.6B" in table.out
        assert table.err == ""

    async def test_it_loads_nothing(self, home):
        """Reading the lists leaves memory alone, for `list`, `loaded` and `route` alike."""
        async with staged() as stage:
            for command in ("list", "loaded", "route"):
                assert (await models(stage, home, command)).status == 0
            assert (stage.ollama.memory.loads, stage.mlx.swaps) == ([], [])

    async def test_a_node_that_is_down_is_told(self, home):
        """The others are listed; who is missing and what to do about it stands on stderr."""
        async with staged() as stage:
            result = await models(stage, home, "list", MLX_API_URL=NOBODY)
            finding = (await models(stage, home, "list", "--json", MLX_API_URL=NOBODY)).finding("mlx")
        assert result.status == 0
        assert CODER in result.out
        assert "mlx (refused)" in result.err
        assert "mlx_lm.server --model" in result.err
        assert (finding["status"], finding["state"], finding["code"]) == ("warn", "refused", "COMM_001")

    async def test_a_failing_server_is_looked_after_as_it_is_kept(self, home):
        """Its log and its restart are those of the process that runs, as `probe` names them."""
        async with staged("ollama=garbage-tags") as stage:
            listed = await models(stage, home, "list", "--json")
            environ = stage.environment()
            probed = await asyncio.to_thread(opskit, "probe", "--json", home=home, env=environ)
        assert listed.finding("ollama")["remedy"] == probed.finding("ollama")["remedy"]
        assert "`systemctl restart ollama`" not in listed.finding("ollama")["remedy"]

    async def test_a_silent_node_costs_its_deadline_once(self, home, tmp_path):
        """It is inconclusive, not down, and the others do not wait for it longer than `metadata_s`."""
        config = tmp_path / "quick.yaml"
        config.write_text("budgets: {metadata_s: 0.4}\n")
        async with staged("ollama=silence", "mlx=silence") as stage:
            stage.mlx.faults.clear()
            result = await models(stage, home, "list", "--json", "--config", str(config))
        finding = result.finding("ollama")
        assert (result.status, finding["status"], finding["state"]) == (3, "inconclusive", "silent")
        assert 0.3 < finding["seconds"] < 2
        assert row(result, "default_model")["node"] == "mlx"

    async def test_when_nobody_answers_it_fails(self, home):
        """MODEL_001 and exit 1: there is no list to show."""
        result = await models(None, home, "list", "--json")
        assert (result.status, result.document["models"]) == (1, [])
        assert result.finding("models", "catalog")["code"] == "MODEL_001"

    async def test_one_node_may_be_picked(self, home):
        """`--node` reads that node alone; an unknown one is a usage error that names the known."""
        async with staged() as stage:
            result = await models(stage, home, "list", "--node", "mlx", "--json")
            wrong = await models(stage, home, "list", "--node", "olama")
            assert stage.ollama.requests == []
        assert {one["node"] for one in result.document["models"]} == {"mlx"}
        assert wrong.status == 2
        assert "use one of: mlx, ollama" in wrong.err or "use one of: ollama, mlx" in wrong.err

    async def test_foreign_names_are_only_text(self, home):
        """A model whose name looks like markup is shown as it is."""
        async with staged(models=(SimModel("[red]x[/red]:1b", resident=True),)) as stage:
            result = await models(stage, home, "list")
        assert "[red]x[/red]:1b" in result.out

    async def test_sandbox_needs_no_server(self, home):
        """`--sandbox` shows the simulated stack and nothing of the configured one."""
        result = await models(None, home, "list", "--sandbox", "--json")
        assert result.status == 0
        assert row(result, CODER)["loaded"] is False


class TestLoaded:
    async def test_what_is_resident_is_shown(self, home):
        """Memory, the part on the GPU, context and time left."""
        async with staged() as stage:
            result = await models(stage, home, "loaded", "--json")
            table = await models(stage, home, "loaded")
        phi = row(result, "phi3.5:3.8b")
        assert (phi["size_bytes"], phi["gpu_share"], phi["context_length"]) == (2_200_000_000, 1.0, 4096)
        assert 86_000 < phi["expires_in_s"] <= 86_400
        assert result.status == 0
        assert "24 h" in table.out
        assert row(result, "default_model")["node"] == "mlx"

    async def test_a_split_model_is_a_warning(self, home):
        """Partly on the CPU: a finding with its share and a remedy, exit 0."""
        async with staged(models=(HALF,)) as stage:
            result = await models(stage, home, "loaded", "--json")
        finding = result.finding("ollama/half:7b")
        assert (result.status, finding["status"], finding["state"]) == (0, "warn", "partly on the CPU")
        assert "25%" in finding["detail"]
        assert "ollama stop half:7b" in finding["remedy"]

    async def test_a_silent_list_is_not_an_empty_one(self, home, tmp_path):
        """While /api/ps is held and no process shows why, nothing is claimed: inconclusive, not empty."""
        config = tmp_path / "quick.yaml"
        config.write_text("budgets: {metadata_s: 0.4}\n")
        async with staged("ollama=ps-blocks") as stage:
            result = await models(stage, home, "loaded", "--json", "--config", str(config))
        finding = result.finding("ollama")
        assert (result.status, finding["status"], finding["state"]) == (3, "inconclusive", "busy")

    async def test_an_empty_memory_is_well(self, home):
        """No model loaded is a fact, not a failure."""
        async with staged(models=(SimModel("a:1b"),)) as stage:
            result = await models(stage, home, "loaded", "--node", "ollama")
        assert (result.status, result.out.strip()) == (0, "no model is known to be loaded")

    def test_the_name_of_a_real_default_is_read_from_its_process(self, real_mlx, home):
        """A local mlx_lm.server does not tell its model, its command line does."""
        result = opskit("models", "loaded", "--json", home=home, env={"MLX_API_URL": real_mlx.url})
        assert row(result, "default_model")["name"] == f"{real_mlx.model} (default)"


class TestTest:
    async def test_by_default_nothing_is_loaded(self, home):
        """Only resident models are tested, the rest are counted, exit 0."""
        async with staged() as stage:
            result = await models(stage, home, "test", "--json")
            assert (stage.ollama.memory.loads, stage.mlx.swaps) == ([], [])
        assert result.status == 0, result
        assert [one["model"] for one in result.document["models"]] == ["phi3.5:3.8b", "default_model"]
        assert "2 models that are not loaded; `--all` loads what fits" in result.err

    async def test_all_loads_what_fits_and_says_so_first(self, home):
        """Each load is announced with size and budget, each omission with its reason; loads are timed."""
        async with staged(models=(*OLLAMA_MODELS, HUGE)) as stage:
            result = await models(stage, home, "test", "--all", "--json")
            assert sorted(stage.ollama.memory.loads) == [CODER, "tinyllama:1.1b-chat"]
            assert stage.mlx.swaps == []
        assert result.status == 0, result
        assert f"this loads {CODER} on ollama (4.4 GiB), budget 147 s" in result.err
        assert "huge:405b on ollama: it does not fit: needs about 964.4 GiB" in result.err
        assert f"{OTHER_MLX} on mlx: it would replace the resident model" in result.err
        assert result.err.index("this loads") < result.err.index("[1/4]")
        coder = row(result, CODER)
        assert coder["load_s"] >= 0.19
        assert (coder["works"], coder["state"]) == (True, "ok")
        assert coder["total_s"] >= coder["first_token_s"] > 0
        assert coder["tokens"] > 0
        assert coder["tokens_per_s"] > 0
        assert result.finding("ollama/huge:405b")["status"] == "skip"

    @pytest.mark.parametrize(
        ("fault", "state", "status"),
        [("crash", "runner_crashed", "fail"), ("echo", "echo", "warn"), ("empty", "empty", "warn")],
    )
    async def test_a_model_that_does_not_work_fails(self, home, fault, state, status):
        """Exit 1, and it is neither among the working nor the fastest nor recommended."""
        async with staged(f"ollama:phi3.5:3.8b={fault}") as stage:
            result = await models(stage, home, "test", "--json")
        finding = result.finding("ollama/phi3.5:3.8b")
        assert (result.status, finding["status"], finding["state"]) == (1, status, state)
        assert finding["remedy"]
        assert [one["model"] for one in result.document["working"]] == ["default_model"]
        assert {one["model"] for one in result.document["recommendations"]} == {"default_model"}
        assert result.document["fastest"]["total_s"]["model"] == "default_model"

    async def test_when_nothing_is_loaded_it_is_inconclusive(self, home):
        """Exit 3 with the hint `--all`."""
        async with staged(models=(SimModel("a:1b"),)) as stage:
            result = await models(stage, home, "test", "--node", "ollama")
        assert result.status == 3
        assert "--all" in result.err
        assert "no model is loaded" in result.err

    async def test_named_models_are_tested_and_unknown_ones_fail(self, home):
        """`--model` may be repeated; what no node lists is MODEL_001 and exit 1."""
        async with staged() as stage:
            result = await models(stage, home, "test", "--model", CODER, "--model", "nope", "--json")
        assert result.status == 1
        assert [one["model"] for one in result.document["models"]] == [CODER]
        assert result.finding("nope")["code"] == "MODEL_001"

    async def test_a_model_that_does_not_fit_is_never_loaded(self, home):
        """Asked for by name it is MODEL_003 with the numbers."""
        async with staged(models=(HUGE,)) as stage:
            result = await models(stage, home, "test", "--model", HUGE.name, "--json")
            assert stage.ollama.memory.loads == []
        assert result.status == 1
        assert result.finding(f"ollama/{HUGE.name}")["code"] == "MODEL_003"

    async def test_a_category_narrows_test_and_advice(self, home):
        """Only the models that suit it are tested, only that kind of work gets advice."""
        async with staged() as stage:
            result = await models(
                stage, home, "test", "--all", "--category", "coding", "--node", "ollama", "--json"
            )
        assert [one["model"] for one in result.document["models"]] == [CODER]
        assert [(one["category"], one["model"]) for one in result.document["recommendations"]] == [
            ("coding", CODER)
        ]

    async def test_a_slow_model_is_not_recommended_for_fast_work(self, home):
        """What the router would take first was measured as slow: another one is named, and why."""
        home.mkdir()
        (home / "opskit.yaml").write_text("probe: {slow_first_token_s: 0.5}")
        async with staged("ollama:phi3.5:3.8b=slow-token,seconds=1.5") as stage:
            ask = ("test", "--node", "ollama", "--all", "--category", "fast", "--json")
            result = await models(stage, home, *ask)
        assert row(result, "phi3.5:3.8b")["state"] == "slow"
        [advice] = result.document["recommendations"]
        assert advice["model"] not in ("phi3.5:3.8b", None)
        assert "phi3.5:3.8b on ollama is slower (first token in 1.5" in advice["why"]

    async def test_a_node_in_the_dark_is_told_and_fails_nothing(self, home):
        """Every tested model works: exit 0, with the missing node as a warning."""
        async with staged() as stage:
            result = await models(stage, home, "test", "--json", OLLAMA_API_URL=NOBODY)
        assert (result.status, result.finding("ollama")["status"]) == (0, "warn")

    async def test_the_summary_is_for_people(self, home):
        """Working, fastest, and one recommendation for each kind of work, on stdout."""
        async with staged() as stage:
            result = await models(stage, home, "test")
        assert "working: 2 of 2" in result.out
        for kind in ("reasoning", "coding", "fast", "default"):
            assert (
                f"for {kind}: default_model on mlx (it is the model this server was started with"
                in result.out
            )

    def test_a_real_server_is_measured(self, real_mlx, home):
        """A real mlx_lm.server: tokens are counted, and its own name means the model it holds."""
        result = opskit(
            "models",
            "test",
            "--model",
            real_mlx.model,
            "--json",
            home=home,
            env={"MLX_API_URL": real_mlx.url},
        )
        assert result.status == 0, result
        [measured] = result.document["models"]
        assert measured["name"] == f"{real_mlx.model} (default)"
        assert measured["load_s"] is None
        assert measured["tokens"] > 5
        assert measured["tokens_per_s"] > 1


class TestReport:
    async def test_markdown_is_written(self, home, tmp_path):
        """The file holds table, working models, recommendations and failures with remedies."""
        file = tmp_path / "report.md"
        async with staged("ollama:phi3.5:3.8b=crash") as stage:
            result = await models(stage, home, "test", "--markdown", str(file), "--json")
        assert result.status == 1
        text = file.read_text()
        assert "1 of 2 tested models work." in text
        assert "| ollama | phi3.5:3.8b | runner\\_crashed |" in text
        assert "## Recommendations" in text
        assert "tells why" in text
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.md"]
        assert json.loads(result.out)["status"] == "fail"

    async def test_an_unwritable_file_is_refused_before_anything_is_asked(self, home, tmp_path):
        """Exit 2, and no server has seen a request."""
        async with staged() as stage:
            result = await models(stage, home, "test", "--markdown", str(tmp_path / "missing" / "r.md"))
            assert (stage.ollama.requests, stage.mlx.requests) == ([], [])
        assert result.status == 2
        assert "No such file or directory" in result.err

    async def test_all_and_a_name_exclude_each_other(self, home):
        """Exit 2 with one line."""
        result = await models(None, home, "test", "--all", "--model", "a")
        assert (result.status, result.err.count("\n")) == (2, 1)


class TestReplacing:
    async def test_without_a_terminal_it_is_refused(self, home):
        """A resident MLX model is not pushed out unasked: exit 2 names --yes, and nothing was asked for."""
        async with staged() as stage:
            result = await models(stage, home, "test", "--model", OTHER_MLX)
            assert stage.mlx.swaps == []
        assert result.status == 2
        assert "--yes" in result.err
        assert f"this replaces the resident model of mlx by {OTHER_MLX}" in result.err

    async def test_yes_replaces_and_times_the_load(self, home):
        """The swap hides in the first request; asked again the model is warm, and the load is the rest."""
        async with staged() as stage:
            result = await models(stage, home, "test", "--model", OTHER_MLX, "--yes", "--json")
            assert (stage.mlx.swaps, stage.mlx.resident) == ([OTHER_MLX], OTHER_MLX)
        assert result.status == 0, result
        assert row(result, OTHER_MLX)["load_s"] >= 0.15

    @pytest.mark.parametrize(
        ("answer", "status", "resident"), [("y\n", 0, OTHER_MLX), ("n\n", 3, MLX_DEFAULT)]
    )
    async def test_on_a_terminal_it_asks(self, home, answer, status, resident):
        """A yes replaces, a no leaves the server alone."""
        async with staged() as stage:
            ended, _ = await asyncio.to_thread(on_terminal, stage, home, answer)
            assert stage.mlx.resident == resident
        assert ended == status

    async def test_ctrl_c_at_the_question_ends_it(self, home):
        """At once, with 130, and nothing is replaced."""
        async with staged() as stage:
            ended, err = await asyncio.to_thread(on_terminal, stage, home, None)
            assert stage.mlx.swaps == []
        assert ended == 130
        assert "Traceback" not in err


class TestInterruption:
    async def test_ctrl_c_during_a_load_ends_it_cleanly(self, home):
        """Exit 130 without a traceback, and the server is told by the disconnect."""
        slow = SimModel("slow:70b", 40_000_000, load_s=3600)
        async with staged(models=(slow,)) as stage:
            env = {**stage.environment(), "MLX_API_URL": ""}
            process = started(["models", "test", "--all", "--json"], home=home, env=env)
            try:
                async with asyncio.timeout(30):
                    while stage.ollama.memory.loading != slow.name:
                        await asyncio.sleep(0.01)
                process.send_signal(signal.SIGINT)
                out, err = await asyncio.to_thread(process.communicate, timeout=20)
            finally:
                process.kill()
            await until(lambda: stage.ollama.memory.aborted_loads == [slow.name])
        assert (process.returncode, out) == (130, "")
        assert "Traceback" not in err


class TestRoute:
    async def test_the_order_is_explained(self, home):
        """Candidates in order with their reasons, and who follows after a failure."""
        async with staged() as stage:
            result = await models(stage, home, "route", "--category", "coding", "--json")
            text = await models(stage, home, "route", "--category", "coding")
        assert result.status == 0
        ranked = [(one["rank"], one["model"]) for one in result.document["models"]]
        assert ranked[:2] == [(1, "default_model"), (2, CODER)]
        assert "it suits coding" in result.document["models"][1]["why"]
        assert [one["rank"] for one in result.document["fallbacks"]] == [1, 2, 3]
        assert "category: coding" in text.out
        assert "after a failure: phi3.5:3.8b on ollama" in text.out

    async def test_the_goal_finds_the_category(self, home):
        """As `run` would find it."""
        async with staged() as stage:
            result = await models(stage, home, "route", "--goal", "напиши код сортировки", "--json")
        assert result.document["category"] == "coding"

    async def test_each_omission_has_its_reason(self, home):
        """What does not fit, with the numbers; a node that is down, with its remedy."""
        async with staged(models=(PHI, HUGE)) as stage:
            result = await models(stage, home, "route", "--json", MLX_API_URL=NOBODY)
        reasons = {(one["node"], one["model"]): one["why"] for one in result.document["skipped"]}
        assert "needs about 964.4 GiB" in reasons["ollama", HUGE.name]
        assert reasons["mlx", None].startswith("refused")
        assert (result.status, result.finding("mlx")["status"]) == (0, "warn")

    async def test_without_a_candidate_it_fails(self, home):
        """MODEL_001 and exit 1, for an unknown name as for an empty house."""
        async with staged() as stage:
            unknown = await models(stage, home, "route", "--model", "nope", "--json")
        nobody = await models(None, home, "route", "--json")
        for result in (unknown, nobody):
            assert result.status == 1
            assert result.finding("default", "route")["code"] == "MODEL_001"

    async def test_mlx_is_left_out_of_fallback_when_switched_off(self, home):
        """USE_MLX_FALLBACK=false shows in the explanation (SPEC A6)."""
        async with staged() as stage:
            result = await models(stage, home, "route", "--model", CODER, "--json", USE_MLX_FALLBACK="false")
        assert "mlx" not in [one["node"] for one in result.document["fallbacks"]]

    async def test_the_configured_model_counts_as_in_a_run(self, home):
        """VICTORIA_MODEL is asked for by name, and that is said."""
        async with staged() as stage:
            result = await models(stage, home, "route", VICTORIA_MODEL=CODER)
        assert f"asks for {CODER} by name" in result.err
        assert result.out.splitlines()[2].split()[:3] == ["1", "ollama", CODER]


def on_terminal(stage: Stage, home: Path, answer: str | None) -> tuple[int, str]:
    """Test the other MLX model with a terminal as standard input; None presses Ctrl-C at the question."""
    home.mkdir(exist_ok=True)
    terminal, inside = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "opskit", "models", "test", "--model", OTHER_MLX],
        env=environment(home, {**stage.environment(), "OLLAMA_API_URL": ""}),
        stdin=inside,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home,
    )
    os.close(inside)
    assert process.stderr is not None
    seen = b""
    deadline = time.monotonic() + 30
    try:
        while b"Replace the resident model?" not in seen and time.monotonic() < deadline:
            seen += os.read(process.stderr.fileno(), 4096) or b"(it ended) Replace the resident model?"
        if answer is None:
            process.send_signal(signal.SIGINT)
        else:
            os.write(terminal, answer.encode())
        _, err = process.communicate(timeout=30)
        return process.returncode, (seen + err).decode()
    finally:
        process.kill()
        os.close(terminal)
