"""The drill passes, with budgets short enough for a test."""

from pathlib import Path

import pytest

from opskit.sandbox.drill import all_scenarios
from tests.parts.command import opskit

QUICK = "budgets: {first_token_s: 3, idle_s: 1, metadata_s: 1, queue_s: 10}\ncircuit: {open_s: 0.5}\n"
DEMANDED = {
    "refused",
    "silence",
    "reset",
    "crash-once",
    "crash",
    "crash-old",
    "oom",
    "killed",
    "broken-file",
    "blob-missing",
    "broken-template",
    "unknown-architecture",
    "bad-option",
    "context-exceeded",
    "unparsable",
    "llama-context-exceeded",
    "llama-unparsable",
    "slow-load",
    "give-up-during-load",
    "fast-503",
    "rate-limited",
    "retry-after",
    "not-installed",
    "ps-blocks",
    "garbage",
    "empty",
    "echo",
    "loop",
    "done-false",
    "cut-before",
    "cut-after",
    "cut-before-streamed",
    "cut-after-streamed",
    "mlx-zombie",
    "mlx-404",
    "mlx-empty-reply",
    "mlx-unknown-name",
    "flapping",
    "both-dead",
}


def _config(tmp_path: Path, text: str = QUICK) -> str:
    file = tmp_path / "quick.yaml"
    file.write_text(text)
    return str(file)


def test_every_scenario_passes(tmp_path: Path) -> None:
    """Each fault ends in a right answer or an honest error, and the exit status is 0."""
    result = opskit("drill", "--json", "--config", _config(tmp_path), home=tmp_path / "home")
    failed = [f for f in result.document["findings"] if f["status"] != "pass"]
    assert failed == []
    assert result.status == 0
    assert {f["target"] for f in result.document["findings"]} >= DEMANDED


def test_the_user_s_own_configuration_is_drilled(tmp_path: Path) -> None:
    """With budgets that forbid waiting for a load the slow load is no longer answered: the drill says so."""
    config = _config(tmp_path, "budgets: {load_s: 0.2, load_s_per_gib: 0.01}\nrouter: {max_fallbacks: 0}\n")
    result = opskit("drill", "--json", "--only", "slow-load", "--config", config, home=tmp_path / "home")
    assert result.status == 1
    assert result.finding("slow-load")["status"] == "fail"


def test_the_mlx_leg_can_be_off(tmp_path: Path) -> None:
    """With USE_MLX_FALLBACK=false the spare is not MLX, and the drill still passes."""
    result = opskit(
        "drill",
        "--json",
        "--only",
        "crash",
        "--only",
        "echo",
        home=tmp_path / "home",
        env={"USE_MLX_FALLBACK": "false"},
    )
    assert result.status == 0, result
    attempts = result.finding("crash")["evidence"]["attempts"]
    assert [a["model"] for a in attempts] == ["big:32b", "small:3b"]


def test_an_unknown_scenario_is_a_usage_error(tmp_path: Path) -> None:
    """A misspelt name exits 2 and offers the near one."""
    result = opskit("drill", "--only", "crsh", home=tmp_path / "home")
    assert result.status == 2
    assert "crash" in result.err


@pytest.mark.parametrize("scenario", all_scenarios(), ids=lambda s: s.name)
def test_scenarios_are_explained(scenario) -> None:
    """Each scenario says what it injects."""
    assert scenario.injected
