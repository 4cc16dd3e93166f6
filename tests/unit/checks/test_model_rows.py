"""What is read from nodes, where no server is needed to see it."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from opskit.checks.model_rows import loaded
from opskit.checks.node_assessment import assess_fault
from opskit.config.schema import NodeConfig
from opskit.facts.node import NodeFacts
from opskit.llm.catalog import model_in_command
from opskit.llm.faults import Fault, FaultKind
from opskit.providers.base import ModelInfo, Resident
from opskit.providers.kinds import expected_kind
from opskit.result import Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1024**3


def facts(*resident, source="ollama"):
    """A node as it was read, with these models in memory."""
    node = NodeConfig(source, "http://127.0.0.1:1", source)
    models = tuple(ModelInfo(one.name) for one in resident)
    return NodeFacts(
        config=node,
        kind=expected_kind(source),
        version="1",
        models=models,
        resident=resident,
        residency_known=True,
        http_s=0.1,
    )


@pytest.mark.parametrize(
    ("command", "model"),
    [
        (["/venv/bin/python", "/venv/bin/mlx_lm.server", "--model", "org/phi", "--port", "1"], "org/phi"),
        (["python", "-m", "mlx_lm", "server", "--port", "1", "--model=/m/phi 3"], "/m/phi 3"),
        (["python", "/lib/mlx_lm/server.py", "--model", "a"], "a"),
        (["python", "-m", "mlx_lm.server"], None),
        (["python", "-m", "mlx_lm.server", "--model"], None),
        (["python", "-m", "opskit", "models", "test", "--model", "phi3.5:3.8b"], None),
        (["vllm", "serve", "--model", "a"], None),
        ([], None),
    ],
)
def test_the_default_model_is_read_from_mlx_command_lines_only(command, model):
    """Another process with a `--model` of its own, opskit itself included, says nothing."""
    assert model_in_command(command) == model


@pytest.mark.parametrize(
    ("left", "share", "shown"),
    [
        (timedelta(seconds=59), 100, "59 s"),
        (timedelta(minutes=5), 100, "5 min"),
        (timedelta(hours=24), 100, "24 h"),
        (timedelta(days=3), 100, "3 d"),
        (timedelta(days=100_000), 100, "never"),
        (timedelta(seconds=-5), 100, "0 s"),
        (None, 100, "?"),
    ],
)
def test_the_time_left_is_told_in_one_unit(left, share, shown):
    """From seconds to never; a moment ago counts as now."""
    expires = None if left is None else NOW + left
    [row], _ = loaded([facts(Resident("a", 100, share, 4096, expires))], NOW)
    assert row.cells()[-1] == shown


@pytest.mark.parametrize(
    ("vram", "status", "share"),
    [(10, Status.PASS, "100%"), (4, Status.WARN, "40%"), (0, Status.PASS, "0%"), (None, Status.PASS, "?")],
)
def test_only_a_split_model_is_a_warning(vram, status, share):
    """All on the GPU and all on the CPU are as somebody chose; a part on each is slow by accident."""
    size = None if vram is None else vram * GIB
    [row], report = loaded([facts(Resident("a", 10 * GIB, size))], NOW)
    finding = report.findings[-1]
    assert (finding.target, finding.status, row.cells()[3]) == ("ollama/a", status, share)
    assert bool(finding.remedy) == (status is Status.WARN)


def test_a_model_that_stays_is_not_infinite_in_json():
    """JSON has no infinity: `stays` says it."""
    [row], _ = loaded([facts(Resident("a", 1, 1, None, NOW + timedelta(days=100_000)))], NOW)
    assert row.expires_in_s == math.inf
    assert (row.as_json()["expires_in_s"], row.as_json()["stays"]) == (None, True)


@pytest.mark.parametrize(
    ("kind", "given", "status", "state"),
    [
        (FaultKind.REFUSED, {}, Status.WARN, "refused"),
        (FaultKind.REFUSED, {"explicit": False}, Status.SKIP, "refused"),
        (FaultKind.REFUSED, {"required": True}, Status.FAIL, "refused"),
        (FaultKind.UNAUTHORISED, {}, Status.FAIL, "unauthorised"),
        (FaultKind.BUSY, {}, Status.INCONCLUSIVE, "busy"),
        (FaultKind.BAD_PAYLOAD, {}, Status.FAIL, "failing"),
        (FaultKind.FIRST_TOKEN_TIMEOUT, {}, Status.INCONCLUSIVE, "silent"),
    ],
)
def test_a_node_that_was_not_read_says_why(kind, given, status, state):
    """An absent default is no news, silence is not called wedged, and each has a next step."""
    node = NodeConfig("ollama", "http://127.0.0.1:1", "ollama", **{"explicit": True, **given})
    finding = assess_fault(node, Fault(kind, "as it came"), None, 0.1)
    assert (finding.status, finding.state) == (status, state)
    assert "as it came" in finding.detail
    assert finding.remedy
