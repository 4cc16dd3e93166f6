"""Which findings of a node a restart can mend: pure."""

import pytest

from opskit.checks.probe_record import NodeProbe, ProbeOptions
from opskit.checks.state import NodeState
from opskit.config.schema import NodeConfig
from opskit.facts.node import NodeFacts
from opskit.llm.faults import SERVER_IS_WELL, FaultKind
from opskit.providers.base import ModelInfo
from opskit.recovery.steps.servers import node_problem

NODE = NodeConfig("ollama", "http://127.0.0.1:1", "ollama")


def failing(fault: FaultKind | None = None) -> NodeProbe:
    """The probe of a server that holds a model and fails."""
    return NodeProbe(
        config=NODE,
        options=ProbeOptions(),
        facts=NodeFacts(config=NODE, version="1", models=(ModelInfo("a"),)),
        state=NodeState.FAILING,
        detail="it fails",
        fault=fault,
    )


@pytest.mark.parametrize("fault", sorted(SERVER_IS_WELL))
def test_a_fault_of_a_model_or_a_request_restarts_no_server(fault: FaultKind) -> None:
    """The server is well, and the file, the template or the request would be the same afterwards."""
    assert not node_problem(failing(fault), 0.0).curable


def test_a_crash_is_still_repaired() -> None:
    """A runner that goes on crashing is brought back by a restart."""
    assert node_problem(failing(), 0.0).curable
