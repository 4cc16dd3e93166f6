"""`verify smoke` is built from the configuration, and says of each node and agent what `probe` says."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.parts.command import NOBODY, Result, opskit, sandbox
from tests.parts.examining import QUIET
from tests.parts.fixtures import StartMlx
from tests.parts.real_llamacpp import RealLlamaCpp

OFF = {"OLLAMA_API_URL": "", "MLX_API_URL": ""}


def configured(home: Path, **config: Any) -> Path:
    home.mkdir(exist_ok=True)
    patient = {"probe": {"first_token_s": 20, "http_s": 10}}
    (home / "opskit.yaml").write_text(json.dumps({**QUIET, **patient, **config}))  # JSON is YAML
    return home


def judged(result: Result, targets: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Status and state of each of these targets."""
    findings = {finding["target"]: finding for finding in result.document["findings"]}
    return {target: (findings[target]["status"], findings[target]["state"]) for target in targets}


def test_what_is_switched_off_is_not_asked(tmp_path: Path):
    """Without a node and an agent the machine is looked at, and no port that nobody uses."""
    result = opskit("verify", "smoke", "--json", home=configured(tmp_path), env=OFF)
    names = {finding["check"]: finding["status"] for finding in result.document["findings"]}
    assert names.pop("the stack's containers are well") in ("pass", "skip")
    assert names == {"a request is answered": "skip", "this machine has room": "pass"}
    assert result.status == 0


def test_every_configured_node_is_checked(tmp_path: Path, real_llamacpp: RealLlamaCpp):
    """A real llama.cpp under a name of its own is asked, and one where nothing listens fails as in probe."""
    nodes = {
        "cpp": {"url": real_llamacpp.url, "source": "llamacpp"},
        "gone": {"url": NOBODY, "source": "llamacpp", "required": True},
    }
    home = configured(tmp_path, nodes=nodes)
    smoke = opskit("verify", "smoke", "--json", home=home, env=OFF)
    probe = opskit("probe", "--json", home=home, env=OFF)
    said = judged(smoke, ("cpp", "gone", "chain"))
    assert said == judged(probe, ("cpp", "gone", "chain"))
    assert said == {"cpp": ("pass", "ok"), "gone": ("fail", "refused"), "chain": ("pass", "ok")}
    assert (smoke.status, probe.status) == (1, 1)


def test_a_real_mlx_server_without_a_cache_is_well(tmp_path: Path, own_real_mlx: StartMlx):
    """Its list of models is 200 with an empty body; it answers, and smoke says so as probe does."""
    server = own_real_mlx()
    shutil.rmtree(server.hub_cache)
    env = {**OFF, "MLX_API_URL": server.url}
    home = configured(tmp_path)
    smoke = opskit("verify", "smoke", "--json", home=home, env=env)
    probe = opskit("probe", "--json", home=home, env=env)
    assert judged(smoke, ("mlx", "chain")) == judged(probe, ("mlx", "chain"))
    assert judged(smoke, ("mlx", "chain")) == {"mlx": ("pass", "ok"), "chain": ("pass", "ok")}


@pytest.mark.parametrize("faults", [("mlx=zombie", "ollama=crash"), ("mlx=refuse", "ollama=fast-503")])
def test_smoke_and_probe_agree(tmp_path: Path, faults: tuple[str, ...]):
    """Wedged, failing, gone and busy servers are told alike, and the exit statuses are the same."""
    home = configured(tmp_path, probe={"first_token_s": 2, "http_s": 2})
    with sandbox(tmp_path, *faults) as env:
        smoke = opskit("verify", "smoke", "--json", home=home, env=env)
        probe = opskit("probe", "--json", home=home, env=env)
    targets = ("ollama", "mlx", "victoria", "veronica", "chain")
    assert judged(smoke, targets) == judged(probe, targets)
    assert smoke.status == probe.status


def test_a_database_of_the_environment_is_read(tmp_path: Path):
    """DATABASE_URL is looked at where it is set."""
    env = {**OFF, "DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}
    result = opskit("verify", "smoke", "--json", home=configured(tmp_path), env=env)
    assert "the database answers" in [
        f["check"] for f in result.document["findings"] if f["status"] == "fail"
    ]


def test_repeat_for_repeats_a_check(tmp_path: Path):
    """A list of one's own is repeated over the nodes; an unknown word is told with its line."""
    home = configured(tmp_path, nodes={name: {"url": NOBODY, "source": "openai"} for name in "ab"})
    entry = '- {name: "${each} answers", kind: probe, repeat_for: %s, with: {node: "${each}"}}'
    for word in ("nodes", "noddes"):
        (home / f"{word}.yaml").write_text("checks:\n  " + entry % word)
    (home / "down.yaml").write_text(
        "checks: [{name: a, kind: probe, with: {node: a}, expect: {state: refused}}]"
    )
    down = opskit("verify", "down.yaml", "--json", home=home, env=OFF)
    assert (down.status, down.finding("a")["status"]) == (0, "pass")
    listed = opskit("verify", "nodes.yaml", "--list", "--json", home=home, env=OFF)
    assert [check["check"] for check in listed.document["checks"]] == ["a answers", "b answers"]
    wrong = opskit("verify", "noddes.yaml", home=home, env=OFF)
    assert wrong.status == 78
    assert "repeat_for" in wrong.err
    assert "noddes.yaml:2" in wrong.err
