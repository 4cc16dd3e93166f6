"""What a status page tells of a queue by any writer and what it means."""

from typing import Any

import pytest

from opskit.checks.state import NodeState, judge_queue
from opskit.providers.agent import queue_of


@pytest.mark.parametrize(
    ("page", "state"),
    [
        ({"queue": {"queued": 0, "running": 0}}, None),
        ({"queue": {"queued": 9, "running": 0}}, None),
        ({"queue": {"queued": 9, "running": 0, "oldest_queued_s": 12.0}}, None),
        ({"queue": {"queued": 9, "running": 1, "oldest_queued_s": 900.0}}, None),
        ({"queue": {"queued": 1, "running": 0, "oldest_queued_s": 31.0}}, NodeState.WEDGED),
        (
            {"queue": {"queued": 1, "running": 0, "oldest_queued_s": 31.0}, "status": "draining"},
            NodeState.BUSY,
        ),
    ],
)
def test_a_queue_stands_still_only_where_runs_wait_long_and_none_is_under_way(
    page: dict[str, Any], state: NodeState | None
):
    """A full queue, a short wait, one without a time and a server that drains are none."""
    queue = queue_of(page)
    assert queue is not None
    assert judge_queue(queue)[0] is state


@pytest.mark.parametrize(
    "page",
    [
        *(None, [], {}, {"queue": 3}, {"queue": []}, {"queue": {"queued": 1}}),
        {"queue": {"queued": "3", "running": 0}},
        {"queue": {"queued": True, "running": 0}},
        {"queue": {"queued": -1, "running": 0}},
    ],
)
def test_the_page_of_another_victoria_tells_no_queue(page: Any):
    """What is not a pair of counts is left alone."""
    assert queue_of(page) is None


def test_runs_that_wait_for_a_person_are_told_with_the_command():
    """The field is optional."""
    queue = queue_of({"queue": {"queued": 0, "running": 0, "needs_approval": 2}})
    assert queue is not None
    assert "2 waiting for approval (`opskit approvals`)" in judge_queue(queue)[1]
