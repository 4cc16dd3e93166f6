"""The hostile trial of recovery: its table, each row of which is a test, and a storm of runs and people."""

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DESELECTED
from tests.parts.command import started
from tests.parts.compose_stack import Stack, cleaned
from tests.parts.docker import Engine

ROOT = Path(__file__).parents[2]
#: Rows of the trial, by area. A change of these figures is a change of what recovery promises.
ROWS = {"heal": 45, "people": 13, "nodes": 14, "restore": 30, "full": 12}
RUNS, WAVES = 30, 6
BUDGET = 3


def table() -> dict[str, list[str]]:
    """The test of each row, by area, as `trial.txt` has them: [area], its modules, and their tests."""
    rows: dict[str, list[str]] = {}
    area = module = ""
    for line in Path(__file__).with_name("trial.txt").read_text().splitlines():
        if line.startswith("["):
            area = line.strip("[]")
        elif not line.startswith(" "):
            module = line if "/" in line else f"integration/{line}"
        else:
            rows.setdefault(area, []).append(f"tests/{module}.py::{line.strip()}")
    return rows


def collected(request: pytest.FixtureRequest, wanted: set[str]) -> set[str]:
    """What this run collects; of modules that it was not asked for, what a run of them would."""
    here = {item.nodeid for item in request.session.items} | request.config.stash[DESELECTED]
    modules = {test.partition("::")[0] for test in wanted - here}
    modules -= {test.partition("::")[0] for test in here}
    if not modules:
        return here
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        *sorted(modules),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return here | set(done.stdout.splitlines())


def test_the_trial_has_all_its_rows():
    """As many as the trial had, and none twice: one test proves one row."""
    rows = table()
    assert {area: len(tests) for area, tests in rows.items()} == ROWS
    assert [test for test, count in Counter(itertools.chain(*rows.values())).items() if count > 1] == []


def test_each_row_is_proved_by_a_test_of_this_run(request: pytest.FixtureRequest):
    """A row whose test is gone, renamed or deselected is not proved."""
    wanted = set(itertools.chain(*table().values()))
    assert wanted - collected(request, wanted) == set(), "these tests are gone"
    assert wanted & request.config.stash[DESELECTED] == set(), "these tests were deselected"


@pytest.fixture
def stack(box: Engine, tmp_path: Path) -> Iterator[Stack]:
    with cleaned(Stack(box, tmp_path / box.name("storm").replace("-", ""))) as made:
        yield made


def test_a_storm_of_runs_and_people(stack: Stack, tmp_path: Path):
    """30 runs by hand and by timer, while containers crash and a person stops one.

    Never two repairs at once, never one of what the person stopped, never more than the budget allows; what
    crashed within its budget runs again.
    """
    stack.write({name: {} for name in ("again", "once", "db")})
    stack.compose("up", "-d")
    home, names = tmp_path / "person", {name: stack.container(name).name for name in ("again", "once", "db")}
    home.mkdir()
    rules = {"max_repairs": BUDGET, "backoff_s": 0.001, "backoff_max_s": 0.001, "startup_grace_s": 0.001}
    content = {"stack": {"compose": {"app": [str(stack.file)]}, "docker_network": None}, "recovery": rules}
    (home / "opskit.yaml").write_text(json.dumps(content))
    stopped_at = ""
    exits: Counter[int] = Counter()
    for wave in range(WAVES):
        stack.docker("kill", names["again"]) if stack.container("again").status == "running" else None
        if wave == 1:
            stack.docker("stop", "--time", "0", names["db"])
            stopped_at = stack.container("db").attrs["State"]["StartedAt"]
        if wave == WAVES - 1:
            stack.docker("kill", names["once"])
        by_timer = ["--quiet-lock"] * (wave % 2)
        runs = [
            started(
                ["recover", "--json", "--only", "compose", *by_timer], home=home, env=stack.box.environment
            )
            for _ in range(RUNS // WAVES)
        ]
        for run in runs:
            out, err = run.communicate(timeout=60)
            assert run.returncode in (0, 1, 4, 5, 75), (run.returncode, out, err)
            exits[run.returncode] += 1
    lines = (home / "state/opskit/audit.jsonl").read_text().splitlines()
    events = [event for line in lines if (event := json.loads(line))["event"].startswith("repair_")]
    begun = [event for event in events if event["event"] == "repair_begins"]
    # Whatever its target, a repair ends before another begins.
    for before, after in itertools.pairwise(events):
        assert (before["event"] == "repair_begins") != (after["event"] == "repair_begins"), events
    repairs = Counter(
        service
        for event in begun
        for service in ("again", "once", "db")
        if any(service in command.split() for command in event["commands"])
    )
    assert repairs == {"again": BUDGET, "once": 1}, (repairs, exits)
    db = stack.container("db")
    assert (db.status, db.attrs["State"]["StartedAt"]) == ("exited", stopped_at)
    assert stack.container("once").status == "running"
    assert sum(exits.values()) == RUNS
