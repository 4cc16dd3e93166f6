"""Which findings of a node a restart can mend: pure."""

import pytest

from opskit.llm.faults import SERVER_IS_WELL
from opskit.recovery.steps.nodes import trouble
from opskit.result import Finding, Status


def failing(**evidence: object) -> Finding:
    return Finding("node", "ollama", Status.FAIL, "failing", "it fails", evidence=evidence)


@pytest.mark.parametrize("fault", sorted(SERVER_IS_WELL))
def test_a_fault_of_a_model_or_a_request_restarts_no_server(fault: str) -> None:
    """The server is well, and the file, the template or the request would be the same afterwards."""
    assert not trouble(failing(fault=fault, models=["a"]), 0.0).curable


def test_a_crash_is_still_repaired() -> None:
    """A runner that goes on crashing is brought back by a restart."""
    assert trouble(failing(models=["a"]), 0.0).curable
