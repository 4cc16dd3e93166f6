"""The healer on steps that are real files and real programs."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from opskit.config.schema import LogConfig, RecoveryConfig
from opskit.errors import Exit, OpskitError
from opskit.records import replace
from opskit.recovery import pauses
from opskit.recovery.audit import Audit, last
from opskit.recovery.budget import RepairRecord
from opskit.recovery.command_runner import CommandRunner
from opskit.recovery.executor import Executor
from opskit.recovery.memory import Memory
from opskit.recovery.notice import Notice
from opskit.recovery.outcome import RecoveryRun, RepairResult
from opskit.recovery.reconciler import Reconciler, chosen
from opskit.recovery.step import Command, Condition, Repair, TargetFinding

TOUCH = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"


@dataclass
class FileStep:
    """Well when a file is there; mended by a program that makes it."""

    name: str
    path: Path
    requires: tuple[str, ...] = ()
    look_s: float = 45.0
    after: tuple[str, ...] = ()
    program: tuple[str, ...] = (sys.executable, "-c", TOUCH)
    condition: Condition = Condition.BROKEN
    possible: bool = True
    settle_s: float = 0.0
    looks: list[float] = field(default_factory=list)

    async def look(self) -> Sequence[TargetFinding]:
        self.looks.append(asyncio.get_running_loop().time())
        if self.path.exists():
            return [TargetFinding(self.name, Condition.HEALTHY)]
        return [self.broken()]

    def broken(self, repair: Repair | None = None) -> TargetFinding:
        return TargetFinding(
            self.name,
            self.condition,
            "missing",
            f"{self.path.name} is not there",
            remedy="make it",
            repair=repair,
            read_again=self.planned,
        )

    async def evidence(self) -> Mapping[str, Any]:
        return {"siblings": sorted(one.name for one in self.path.parent.iterdir())}

    async def planned(self) -> TargetFinding:
        if not self.possible:
            return self.broken()
        return self.broken(
            Repair(
                (Command((*self.program, str(self.path)), 5.0),),
                "it is missing",
                f"rm {self.path}",
                self.settle_s,
                evidence=self.evidence,
            )
        )


class World:
    """A state folder, a clock that stands still until it is moved, and the notices that were told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1_800_000_000.0
        self.memory = Memory(folder / "recovery.json")
        self.notices: list[Notice] = []
        self.runner = CommandRunner(folder, dict(os.environ))

    async def tell(self, notice: Notice) -> None:
        self.notices.append(notice)

    async def run(
        self, *steps: Any, dry: bool = False, only: Sequence[str] = (), budget_s: float = 60.0
    ) -> RecoveryRun:
        audit = None if dry else Audit(self.folder, LogConfig())
        executor = Executor(
            RecoveryConfig(),
            self.folder,
            self.memory,
            runner=self.runner,
            audit=audit,
            notify=self.tell,
            run_id="run-1",
            clock=lambda: self.now,
        )
        try:
            return await Reconciler(steps, executor, only=chosen(steps, only)).run(budget_s=budget_s)
        finally:
            if audit is not None:
                audit.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "state").mkdir()
    return World(tmp_path / "state")


def results(run: RecoveryRun) -> dict[str, RepairResult]:
    return {one.target: one.result for one in run.outcomes}


async def test_what_is_broken_is_mended_and_audited(world, tmp_path):
    """One repair, its command in the audit with cause and undo, and a healthy second look."""
    run = await world.run(FileStep("file", tmp_path / "a"))
    assert results(run) == {"file": RepairResult.REPAIRED}
    assert run.exit() is Exit.OK
    assert run.exit(detailed=True) is Exit.REPAIRED
    begins, ends = last(world.folder, 9)
    assert begins["event"] == "repair_begins"
    assert begins["cause"] == "a is not there"
    assert begins["evidence"]["siblings"] == ["state"]
    assert ends["result"] == "repaired"
    assert ends["ran"][0]["exit"] == 0
    assert ends["undo"] == f"rm {tmp_path / 'a'}"


async def test_a_second_run_changes_nothing(world, tmp_path):
    """After success no command is run at all."""
    step = FileStep("file", tmp_path / "a")
    await world.run(step)
    before = len(world.runner.ran)
    run = await world.run(step)
    assert results(run) == {"file": RepairResult.OK}
    assert len(world.runner.ran) == before == 1
    assert run.mutations == 0


async def test_a_dry_run_changes_remembers_and_tells_nothing(world, tmp_path):
    """It names the exact command; neither file, memory, audit nor notice comes of it."""
    run = await world.run(
        FileStep("file", tmp_path / "a"), FileStep("no", tmp_path / "b", possible=False), dry=True
    )
    assert results(run) == {"file": RepairResult.WOULD_REPAIR, "no": RepairResult.MANUAL}
    assert run.outcomes[0].planned[0].argv[-1] == str(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert list(world.folder.iterdir()) == []
    assert (world.runner.ran, world.notices, world.memory.targets) == ([], [], {})


async def test_ten_failures_in_a_row_follow_the_schedule(world, tmp_path):
    """Repairs after 0, 10, 30, 70 and 150 s, then one critical notice, reminders and one try each hour."""
    step = FileStep("file", tmp_path / "a", program=(sys.executable, "-c", ""))
    start, repaired_at = world.now, []
    for second in (*range(0, 200, 5), 3599 + 155, 3600 + 155, 2 * 3600 + 155):
        world.now = start + second
        if (await world.run(step)).mutations:
            repaired_at.append(second)
    assert repaired_at == [0, 10, 30, 70, 150, 3600 + 155, 2 * 3600 + 155]
    levels = [notice.level.value for notice in world.notices]
    assert levels.count("critical") == 1
    assert levels.count("reminder") == 2
    assert levels.count("escalation") == 0


async def test_giving_up_is_exit_5(world, tmp_path):
    """An open circuit is told by the exit status, with the time of the next try."""
    step = FileStep("file", tmp_path / "a", program=(sys.executable, "-c", ""))
    for second in (0, 10, 20, 40, 80, 1):
        world.now += second
        run = await world.run(step)
    assert results(run) == {"file": RepairResult.GAVE_UP}
    assert run.exit() is Exit.GAVE_UP
    assert "next one is tried in" in run.outcomes[0].cause


async def test_a_requirement_that_cannot_be_mended_blocks_those_above(world, tmp_path):
    """They are inconclusive because of it, and nothing of theirs is repaired."""
    below = FileStep("docker", tmp_path / "a", possible=False)
    above = FileStep("compose", tmp_path / "b", requires=("docker",))
    beside = FileStep("ollama", tmp_path / "c")
    run = await world.run(below, above, beside)
    assert results(run) == {
        "docker": RepairResult.MANUAL,
        "compose": RepairResult.INCONCLUSIVE,
        "ollama": RepairResult.REPAIRED,
    }
    assert "because of docker (docker: a is not there)" in run.outcomes[1].cause
    assert run.exit() is Exit.FAILED


async def test_a_step_is_looked_at_again_once_a_step_below_was_mended(world, tmp_path):
    """What was seen before the repair of a requirement is stale."""
    shared = tmp_path / "a"
    below = FileStep("docker", shared)
    above = FileStep("compose", shared, requires=("docker",))
    run = await world.run(below, above)
    assert results(run) == {"docker": RepairResult.REPAIRED, "compose": RepairResult.OK}
    assert len(above.looks) == 2


@pytest.mark.parametrize(
    ("condition", "result", "status"),
    [
        (Condition.WAITING, RepairResult.WAITING, Exit.OK),
        (Condition.LEFT, RepairResult.LEFT, Exit.OK),
        (Condition.ABSENT, RepairResult.ABSENT, Exit.OK),
        (Condition.UNKNOWN, RepairResult.INCONCLUSIVE, Exit.INCONCLUSIVE),
    ],
)
async def test_only_what_is_broken_is_repaired(world, tmp_path, condition, result, status):
    """Slow, loading, left alone, absent and unknown targets see no command."""
    run = await world.run(FileStep("file", tmp_path / "a", condition=condition))
    assert results(run) == {"file": result}
    assert run.exit() is status
    assert run.mutations == 0
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["all", "file"])
async def test_a_pause_wins(world, tmp_path, name):
    """What a person paused is not repaired, and the summary says until when."""
    pauses.write(world.folder, {name: pauses.Pause(name, world.now, world.now + 60, "I work on it")})
    step = FileStep("file", tmp_path / "a")
    run = await world.run(step)
    assert results(run) == {"file": RepairResult.PAUSED}
    assert "I work on it" in run.outcomes[0].cause
    world.now += 60
    assert results(await world.run(step)) == {"file": RepairResult.REPAIRED}


async def test_what_changes_by_itself_before_its_repair_is_not_repaired(world, tmp_path):
    """A target is read once more right before its repair: what is starting by then is waited for."""

    class Starting(FileStep):
        async def planned(self) -> TargetFinding:
            return TargetFinding("file", Condition.WAITING, "starting", "it was started 1 s ago")

    run = await world.run(Starting("file", tmp_path / "a"))
    assert results(run) == {"file": RepairResult.WAITING}
    assert (run.mutations, world.notices, world.memory.targets) == (0, [], {})


async def test_damaged_pauses_stop_everything(world, tmp_path):
    """Nothing is healed against a person's word that cannot be read."""
    (world.folder / "pauses.json").write_text("{")
    with pytest.raises(OpskitError, match="damaged"):
        await world.run(FileStep("file", tmp_path / "a"))
    assert not (tmp_path / "a").exists()


async def test_a_person_is_told_once_of_what_cannot_be_mended(world, tmp_path):
    """One escalation in 24 hours however often it is seen."""
    step = FileStep("internet", tmp_path / "a", possible=False)
    for _ in range(5):
        await world.run(step)
        world.now += 300
    assert [notice.level.value for notice in world.notices] == ["escalation"]


async def test_a_look_that_hangs_ends_with_the_budget(world, tmp_path):
    """The run ends, says so, and what could be judged is judged."""

    class Hanging(FileStep):
        async def look(self) -> Sequence[TargetFinding]:
            await asyncio.Event().wait()
            raise AssertionError

    (tmp_path / "b").touch()
    run = await world.run(Hanging("docker", tmp_path / "a"), FileStep("ollama", tmp_path / "b"), budget_s=0.3)
    assert results(run) == {"docker": RepairResult.INCONCLUSIVE, "ollama": RepairResult.OK}
    assert "budget of 0.3 s" in run.outcomes[0].cause


async def test_a_step_that_fails_itself_is_no_end_of_the_run(world, tmp_path):
    """A mistake of ours says nothing of the target, and the others go on."""

    class Wrong(FileStep):
        async def look(self) -> Sequence[TargetFinding]:
            raise ZeroDivisionError

    run = await world.run(Wrong("docker", tmp_path / "a"), FileStep("ollama", tmp_path / "b"))
    assert results(run) == {"docker": RepairResult.INCONCLUSIVE, "ollama": RepairResult.REPAIRED}
    assert run.outcomes[0].code == "BUG_001"


async def test_a_command_that_is_missing_is_a_failed_repair(world, tmp_path):
    """The outcome quotes the command and why it did not start."""
    run = await world.run(FileStep("file", tmp_path / "a", program=("no-such-program",)))
    assert results(run) == {"file": RepairResult.FAILED}
    assert "`no-such-program" in run.outcomes[0].cause


async def test_only_repairs_what_was_asked_for(world, tmp_path):
    """Its requirement is looked at and left as it is; other steps are not even looked at."""
    below, above = (
        FileStep("docker", tmp_path / "a"),
        FileStep("compose:x", tmp_path / "b", requires=("docker",)),
    )
    other = FileStep("ollama", tmp_path / "c")
    run = await world.run(below, above, other, only=["compose"])
    assert results(run) == {"docker": RepairResult.INCONCLUSIVE, "compose:x": RepairResult.INCONCLUSIVE}
    assert other.looks == []
    assert world.runner.ran == []


async def test_an_unknown_step_is_refused_with_a_near_name(world, tmp_path):
    """A typing mistake costs nothing."""
    with pytest.raises(OpskitError, match="did you mean ollama"):
        await world.run(FileStep("ollama", tmp_path / "a"), only=["olama"])


async def test_the_repair_is_counted_before_its_command_runs(world, tmp_path):
    """What is killed in the middle has been counted: the state file holds the repair already."""
    copy = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
    program = (sys.executable, "-c", copy, str(world.folder / "recovery.json"))
    run = await world.run(FileStep("file", tmp_path / "a", program=program))
    assert results(run) == {"file": RepairResult.REPAIRED}
    seen_by_command = json.loads((tmp_path / "a").read_text())
    assert len(seen_by_command["targets"]["file"]["repairs"]) == 1


async def test_what_nothing_depends_on_is_told_and_does_not_count(world, tmp_path):
    """Without the internet a stack that is well is well: a warning, one notice, exit 0."""

    class Internet(FileStep):
        async def look(self) -> Sequence[TargetFinding]:
            return [
                TargetFinding("internet", Condition.BROKEN, "offline", "nothing outside answers", minor=True)
            ]

    (tmp_path / "b").touch()
    run = await world.run(Internet("internet", tmp_path / "a", possible=False), FileStep("x", tmp_path / "b"))
    assert results(run) == {"internet": RepairResult.MANUAL, "x": RepairResult.OK}
    assert run.exit() is Exit.OK
    assert run.report.findings[0].status == "warn"
    assert [notice.target for notice in world.notices] == ["internet"]


async def test_a_circuit_that_an_older_version_opened_for_all_parts_binds_none(world, tmp_path):
    """The part is repaired and counted by itself, and the record of the whole is gone."""

    class Whole(FileStep):
        async def planned(self) -> TargetFinding:
            finding = await super().planned()
            assert finding.repair is not None
            return replace(finding, repair=replace(finding.repair, counted=("file/a",)))

    times = tuple(world.now - ago_s for ago_s in (50, 40, 30, 20, 10))
    world.memory.targets["file"] = RepairRecord(times, 5, opened_at=world.now - 5, tried_at=world.now - 5)
    run = await world.run(Whole("file", tmp_path / "a"))
    assert results(run) == {"file": RepairResult.REPAIRED}
    assert list(world.memory.targets) == ["file/a"]


async def test_a_look_that_fails_after_a_repair_is_no_success(world, tmp_path):
    """What could not be seen was not repaired."""

    class Blind(FileStep):
        async def look(self) -> Sequence[TargetFinding]:
            if self.looks:
                raise OpskitError("DOCKER_001", "no answer")
            (finding,) = await super().look()
            return [replace(finding, target="part of it")]

        async def planned(self) -> TargetFinding:
            return replace(await super().planned(), target="part of it")

    run = await world.run(Blind("file", tmp_path / "a"))
    assert results(run)["part of it"] is RepairResult.FAILED


async def test_what_cannot_be_seen_after_its_repair_still_tells_what_to_type(world, tmp_path):
    """Where the look after a repair has no end, the remedy is that of the look before."""

    class Hanging(FileStep):
        async def look(self) -> Sequence[TargetFinding]:
            if self.looks:
                await asyncio.Event().wait()
            return await super().look()

        async def planned(self) -> TargetFinding:
            self.look_s = 0.01
            return await super().planned()

    (outcome,) = (await world.run(Hanging("file", tmp_path / "a"))).outcomes
    assert (outcome.result, outcome.remedy) == (RepairResult.FAILED, "make it")
