"""What recovery remembers survives kills, damage, and other versions of itself."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opskit.errors import StateError
from opskit.records import replace
from opskit.recovery import memory
from opskit.recovery.budget import RepairRecord
from opskit.recovery.memory import FILE_NAME, History, Memory, load
from opskit.recovery.outcome import Outcome, RecoveryRun, RepairResult

FULL = RepairRecord((1.0, 2.5), 2, None, 3.0, 4.0, 5.0, 6.0)


def _run(*outcomes: Outcome, dry: bool = False) -> RecoveryRun:
    return RecoveryRun("r-1", "2026-11-21T09:30:00.000Z", 2.0, dry, outcomes)


def _full(folder: Path) -> Memory:
    return Memory(
        folder / FILE_NAME,
        {"ollama": FULL, "compose:база": RepairRecord()},
        {"docker": 12.0},
        {"services": ["a", "b"]},
        {"critical ollama": 7.0},
        {"run": "r-1"},
        {"ollama": History("+-", flapping=True)},
    )


def test_what_is_saved_is_loaded(tmp_path: Path):
    """Every part, names in any script."""
    _full(tmp_path).save()
    found, note = load(tmp_path)
    assert (found, note) == (_full(tmp_path), None)


def test_nothing_is_no_news(tmp_path: Path):
    """The first run begins empty and without a note."""
    assert load(tmp_path) == (Memory(tmp_path / FILE_NAME), None)


def _with(**changes: object) -> str:
    content = {
        "schema_version": 1, "targets": {}, "marks": {}, "facts": {}, "notices": {}, "last_run": None,
        "histories": {},
    }  # fmt: skip
    return json.dumps({**content, **changes})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '"text"',
        "{}",
        "[" * 100_000,
        _with()[: len(_with()) // 2],
        "\x00" * 500,
        _with(schema_version=2),
        _with(targets=[]),
        _with(targets={"a": 7}),
        _with(targets={"a": {"opened_at": math.nan}}),
        _with(targets={"a": {"opened_at": math.inf}}),
        _with(targets={"a": {"repairs": [10**400]}}),
        _with(targets={"a": {"repairs": 7}}),
        _with(targets={"a": {"repairs": ["7"]}}),
        _with(targets={"a": {"row": 10**400}}),
        _with(targets={"a": {"row": -1}}),
        _with(targets={"a": {"row": 1.5}}),
        _with(targets={"a": {"row": True}}),
        _with(marks={"a": "soon"}),
        _with(marks=None),
        _with(facts=[]),
        _with(notices={"a": None}),
        _with(last_run="yesterday"),
        _with(histories={"a": {"states": "?", "flapping": False}}),
        _with(histories={"a": 7}),
        " " * (4 * 1024 * 1024) + _with(),
    ],
    ids=lambda text: repr(text[:60]),
)
def test_a_damaged_file_is_set_aside_and_never_fatal(tmp_path: Path, content: str):
    """Recovery begins without memory, says so, and the old file is still there under another name."""
    (tmp_path / FILE_NAME).write_text(content)
    found, note = load(tmp_path)
    (kept,) = tmp_path.iterdir()
    assert found == Memory(tmp_path / FILE_NAME)
    assert note is not None
    assert kept.name in note
    assert kept.read_text() == content
    found.save()
    assert load(tmp_path) == (found, None)


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_no_bytes_are_fatal(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    """Whatever a broken disk gives back."""
    folder = tmp_path_factory.mktemp("state")
    (folder / FILE_NAME).write_bytes(content)
    found, note = load(folder)
    assert found.targets == {}
    assert note is not None


def test_a_look_leaves_a_damaged_file_where_it_is(tmp_path: Path):
    """Who only reads changes nothing."""
    (tmp_path / FILE_NAME).write_text("{")
    _, note = load(tmp_path, keep=True)
    assert note is not None
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_what_is_not_a_file_is_set_aside_too(tmp_path: Path):
    """Else nothing could ever be remembered, and every run would repair as if for the first time."""
    (tmp_path / FILE_NAME).mkdir()
    found, note = load(tmp_path)
    assert note is not None
    found.save()
    assert load(tmp_path) == (found, None)


def test_unknown_fields_of_a_record_are_passed_over(tmp_path: Path):
    """A newer opskit may have written more."""
    (tmp_path / FILE_NAME).write_text(_with(targets={"a": {"repairs": [2, 1], "row": 2, "mood": "good"}}))
    assert load(tmp_path)[0].of("a") == RepairRecord((1.0, 2.0), 2)


def test_a_file_without_histories_is_understood(tmp_path: Path):
    """One written before there were any."""
    content = json.loads(_with())
    del content["histories"]
    (tmp_path / FILE_NAME).write_text(json.dumps(content))
    assert load(tmp_path)[1] is None


def test_a_name_that_is_no_text_is_written_all_the_same(tmp_path: Path):
    """A path of the machine may hold bytes that are no UTF-8."""
    found = Memory(tmp_path / FILE_NAME, facts={"path": os.fsdecode(b"/srv/\xff")})
    found.save()
    assert load(tmp_path)[0].facts == found.facts


def test_a_folder_that_is_gone_is_an_expected_failure(tmp_path: Path):
    """One line, not a traceback."""
    with pytest.raises(StateError, match="No such file"):
        Memory(tmp_path / "gone" / FILE_NAME).save()


def test_a_run_is_remembered_with_how_each_target_was():
    """What had to be mended was broken; what could not be judged says nothing."""
    kept = Memory(Path("unused"))
    for result in (
        RepairResult.OK,
        RepairResult.REPAIRED,
        RepairResult.OK,
        RepairResult.INCONCLUSIVE,
        RepairResult.PAUSED,
        RepairResult.GAVE_UP,
    ):
        kept.remember(_run(Outcome("nodes", "ollama", result)))
    assert kept.histories["ollama"].states == "+-+-"
    assert kept.last_run is not None
    assert kept.last_run["targets"][0]["result"] == "gave_up"


def test_a_target_of_two_steps_was_well_only_if_both_say_so():
    """One run is one state."""
    kept = Memory(Path("unused"))
    kept.remember(_run(Outcome("a", "x", RepairResult.FAILED), Outcome("b", "x", RepairResult.OK)))
    assert kept.histories["x"].states == "-"


def test_a_dry_run_is_forgotten():
    """It mended nothing, and may not say that recovery ran."""
    kept = Memory(Path("unused"))
    kept.remember(_run(Outcome("a", "x", RepairResult.OK), dry=True))
    assert (kept.last_run, kept.histories) == (None, {})


def test_targets_that_come_and_go_do_not_fill_the_file():
    """Idle records of targets that are gone are dropped, and histories are bounded; the rest stays."""
    kept = Memory(Path("unused"), {"old": replace(FULL, opened_at=None)})
    for number in range(700):
        kept.targets[f"c-{number}"] = RepairRecord(healthy_since=1.0)
        kept.remember(_run(Outcome("a", f"c-{number}", RepairResult.OK)))
    assert set(kept.targets) == {"old", "c-699"}
    assert len(kept.histories) == 500
    assert "c-699" in kept.histories


_WRITER = """
import sys
from pathlib import Path
from opskit.recovery.budget import RepairRecord
from opskit.recovery.memory import Memory
kept = Memory(Path(sys.argv[1]) / "recovery.json")
number = 0
while True:
    number += 1
    kept.targets = {f"t{one}": RepairRecord((float(number),), number) for one in range(200)}
    kept.save()
    if number == 3:
        print("writing", flush=True)
"""


@pytest.mark.parametrize("attempt", range(5))
def test_a_kill_in_the_middle_of_writing_leaves_a_whole_file(tmp_path: Path, attempt: int):
    """kill -9 while it writes again and again: what is read is one state or the next, never a mixture."""
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        for _ in range(20 * attempt):
            found, note = load(tmp_path, keep=True)
            assert note is None
        process.send_signal(signal.SIGKILL)
    found, note = load(tmp_path)
    assert note is None
    assert len({record.row for record in found.targets.values()}) == 1
    assert len(found.targets) == 200
    found.save()


def test_what_a_killed_process_left_is_not_in_the_way(tmp_path: Path):
    """Its unfinished file bears a process id that comes again."""
    (tmp_path / f".{FILE_NAME}.{os.getpid()}.tmp").write_text("half")
    Memory(tmp_path / FILE_NAME).save()
    assert memory.load(tmp_path)[1] is None


def test_a_mark_that_nobody_renews_is_forgotten_after_a_year():
    """Services and projects that are no more must not fill the file."""
    now_s = time.time()
    kept = Memory(
        Path("unused"), marks={"had compose:old/web": now_s - 400 * 86_400, "seen compose:app": now_s}
    )
    kept.remember(_run())
    assert list(kept.marks) == ["seen compose:app"]
