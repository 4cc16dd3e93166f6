"""What opskit's own log says that it left is taken from the failures that a server logs."""

import pytest

from opskit.checks.state import NodeState
from opskit.doctor.areas.failures import judge_failures
from opskit.facts.model_requests import LeftQuestion, ModelRequests
from opskit.facts.server_log import LoggedFailure, ServerLog
from opskit.llm.faults import FaultKind
from opskit.logs.calls import ModelCall
from tests.unit.doctor.evidence import OLLAMA, probe

AT = 1_800_000_000.0
LEFT = ModelRequests("opskit", left=(LeftQuestion("ollama", OLLAMA.url, AT, 2.1),))
GIVEN_UP = ModelRequests(
    "opskit",
    calls=(
        ModelCall(1, "ollama", "m", AT - 2, "fault", AT, 2.1, fault="first_token_timeout", url=OLLAMA.url),
    ),
)


def logged(requests: ModelRequests, kind: FaultKind, at: float, seconds: float | None) -> bool:
    """Whether a failure of the server's log counts, beside what opskit's own log tells."""
    failure = LoggedFailure(at=at, kind=kind, text="", source="serve.out", seconds=seconds)
    log = ServerLog(node="ollama", failures=(failure,))
    failing = judge_failures([probe(state=NodeState.WEDGED)], [requests], [log], []).failing
    return "the log of ollama" in str([requests.signs for requests in failing])


@pytest.mark.parametrize("requests", [LEFT, GIVEN_UP], ids=["probe", "run"])
@pytest.mark.parametrize(
    ("kind", "at", "seconds", "counts"),
    [
        (FaultKind.SERVER_ERROR, AT - 0.9, 2.2, False),
        (FaultKind.SERVER_ERROR, AT + 1.0, None, False),
        (FaultKind.SERVER_ERROR, AT - 20.0, 2.1, True),
        (FaultKind.SERVER_ERROR, AT, 32.0, True),
        (FaultKind.OUT_OF_MEMORY, AT, 2.1, True),
    ],
    ids=["same", "no length", "another time", "another length", "a reason"],
)
def test_only_the_line_of_the_question_itself_is_taken_out(
    requests: ModelRequests, kind: FaultKind, at: float, seconds: float | None, counts: bool
):
    """It ended in the same second, took as long and names no reason; each other line is somebody else's."""
    assert logged(requests, kind, at, seconds) is counts
