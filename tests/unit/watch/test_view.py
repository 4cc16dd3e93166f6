"""What the exit status of a watch follows from, and what its screen shows."""

from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from opskit.checks.container_assessment import ContainerCondition
from opskit.checks.model_rows import LoadedModel
from opskit.cli.watch_view import LEAST, Line, columns, lines
from opskit.providers.base import Resident
from opskit.result import Finding, Status
from opskit.system.host import DiskGauge, Gauges, MemoryUser
from opskit.watch.containers import ContainersView, WatchedContainer
from opskit.watch.logs import LoggedError, LogsView
from opskit.watch.machine import MachineView, MachineWarning
from opskit.watch.requests import ModelRow, Summary
from opskit.watch.targets import TargetReply, TargetView
from opskit.watch.watching import View, exit_of

GIB = 1024**3


def sight(
    name: str = "ollama",
    state: str = "ok",
    status: Status = Status.PASS,
    *,
    required: bool = False,
    loaded: Sequence[LoadedModel] = (),
    late: bool = False,
    age_s: float = 0.1,
    detail: str = "1 model is loaded",
) -> TargetView:
    found = Finding("node", name, status, state, detail, remedy="start it: `ollama serve`", seconds=0.01)
    reply = TargetReply(found, 100.0 - age_s, tuple(loaded), 99.9)
    return TargetView(kind="node", name=name, required=required, answer=reply, late=late)


UNKNOWN = TargetView(kind="node", name="mlx", required=False, late=True)
REFUSED = sight("mlx", "refused", Status.SKIP)


@pytest.mark.parametrize(
    ("targets", "status"),
    [
        ([], 0),
        ([sight()], 0),
        ([sight(), REFUSED], 0),
        ([sight(), sight("mlx", "failing", Status.FAIL)], 0),
        ([sight(), sight("mlx", "failing", Status.FAIL, required=True)], 1),
        ([sight(), sight("mlx", "refused", Status.SKIP, required=True)], 1),
        ([sight(), sight("mlx", "silent", Status.INCONCLUSIVE, required=True)], 3),
        ([sight("mlx", "loading", Status.INCONCLUSIVE, required=True)], 0),
        ([REFUSED], 3),
        ([REFUSED, UNKNOWN], 3),
    ],
)
def test_the_exit_status_is_the_last_state(targets: list[TargetView], status: int) -> None:
    """A required target that is not well fails; only other ones are no failure; nothing seen is 3."""
    assert exit_of(targets) == status


LOGGED_ERROR = LoggedError(
    at=1.0,
    logged_at=None,
    source="opskit",
    level="error",
    tag="LLM_CRASH",
    correlation_id=None,
    text="\x1b[31mboom [bold]",
    shape="x",
    count=17,
)


def logs(*latest_errors: LoggedError) -> LogsView:
    return LogsView(latest_errors=deque(latest_errors), errors=17)


def view(**changes) -> View:
    model = LoadedModel("ollama", Resident("phi3.5:3.8b", 2 * GIB, 2 * GIB), "phi3.5:3.8b", 100.0)
    row = ModelRow(
        node="ollama",
        model="phi3.5:3.8b",
        running=1,
        done=12,
        failed=2,
        fallbacks=1,
        slow=1,
        median_s=0.8,
        max_s=12.0,
        last_fault="runner_crashed",
    )
    users = (MemoryUser(7, "ollama", 9 * GIB),)
    warning = MachineWarning("warning", "memory", 91.0, 80.0, users, "`ollama stop phi3.5:3.8b`")
    gauges = Gauges(91.0, 16 * GIB, GIB, 3.0, GIB, 12.0, 8, 0.5, (DiskGauge("/", 50.0, GIB),))
    web = WatchedContainer("web", "unhealthy", "its health check fails", 2, 90.0, ContainerCondition.SICK)
    whole = {
        "targets": (sight(loaded=[model]), sight("mlx", "refused", Status.WARN, late=True, age_s=7.0)),
        "machine": MachineView(gauges, 99.9, (warning,)),
        "requests": Summary(window_s=300.0, running=1, done=12, failed=2, fallbacks=1, slow=1, models=(row,)),
        "containers": ContainersView((web,), docker=True),
        "logs": logs(LOGGED_ERROR),
    }
    return View(at=100.0, now=100.0, number=3, skipped=0, every_s=1.0, **{**whole, **changes})


def shown(content: list[Line]) -> str:
    return "\n".join("".join(text for text, _ in line) for line in content)


def test_everything_is_on_a_screen_of_80_by_24() -> None:
    """Nodes, models, machine with its warning and command, requests, containers, errors."""
    text = shown(lines(view(), 80, 24))
    for word in (
        "phi3.5:3.8b  2.0 GiB",
        "expires in 100 s",
        "refused",
        "7 s ago, asking",
        "memory 91 %",
        "! memory is at 91 %, over 80 %: ollama 7 9.0 GiB",
        "Next: `ollama stop phi3.5:3.8b`",
        "1 running, 12 done, 2 failed",
        "web  unhealthy  2 restarts",
        "x17",
        "LLM_CRASH",
    ):
        assert word in text, f"{word!r} is not on\n{text}"


@pytest.mark.parametrize(("width", "height"), [(80, 12), (60, 14), (41, 24), LEAST])
def test_a_small_screen_loses_no_section(width: int, height: int) -> None:
    """Rows and columns go, what there is at all and the states stay."""
    text = shown(lines(view(), width, height))
    for word in ("nodes and agents", "refused", "machine", "requests", "containers", "errors"):
        assert word in text, text
    assert " lines)" in text or height > 20


def test_what_requests_met_stands_beside_a_green_page() -> None:
    """A node whose pages answer while its calls fail is not shown as if all were well."""
    row = ModelRow(node="ollama", model="big:32b", failed=1, last_fault="wedged", ails=True)
    text = shown(lines(view(requests=Summary(window_s=300.0, failed=1, models=(row,))), 120, 30))
    assert "ok       0.010 s" in text
    assert "the last call of big:32b: wedged; 1 model is loaded" in text


def test_a_screen_that_is_too_small_says_so() -> None:
    """And still how to quit."""
    (line,) = lines(view(), 39, 24)
    assert "too small" in line[0][0]
    assert "q quits" in line[0][0]


@given(st.integers(1, 250), st.integers(1, 80), st.integers(0, 30), st.integers(0, 40))
def test_never_more_lines_than_there_are(width: int, height: int, nodes: int, errors: int) -> None:
    """Whatever there is to show, and whatever the size."""
    whole = view()
    many = view(targets=whole.targets * nodes, logs=logs(*[LOGGED_ERROR] * errors))
    assert 1 <= len(lines(many, width, height)) <= height


@given(st.lists(st.lists(st.text(max_size=12), min_size=4, max_size=4), min_size=1, max_size=6))
def test_cells_stand_under_one_another(rows: list[list[str]]) -> None:
    """Every line of a table is as wide as the others up to its last cell, wide characters included."""
    drawn = columns([[(text, "") for text in row] for row in rows], 400, drop=())
    assert len({sum(cell_len(text) for text, _ in line[:-1]) for line in drawn}) == 1


def test_narrow_tables_lose_columns_in_order() -> None:
    """The first of `drop` goes first; the first column stays."""
    row = [("name", ""), ("state", ""), ("0.010 s", ""), ("a detail that is rather long", "")]
    wide, narrow = columns([row], 80, drop=(2, 1)), columns([row], 24, drop=(2, 1))
    assert [text.strip() for text, _ in wide[0]] == ["name", "state", "0.010 s", row[3][0]]
    assert [text.strip() for text, _ in narrow[0]] == ["name", row[3][0]]
