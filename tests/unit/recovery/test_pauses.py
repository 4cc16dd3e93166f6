"""What a person paused is left alone, whoever else speaks at the same time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import OpskitError, StateError
from opskit.recovery import pauses
from opskit.recovery.pauses import ALL, FILE_NAME, Pause, covering, read, same, write
from opskit.system.lock import try_lock, wait_lock


def test_what_is_written_is_read(tmp_path: Path):
    """With its reason, in any script, and without an end."""
    held = {"ollama": Pause("ollama", 1.0, 100.0, "обновление"), ALL: Pause(ALL, 2.0)}
    write(tmp_path, held)
    assert read(tmp_path, 50.0) == held


def test_a_pause_ends_by_itself(tmp_path: Path):
    """At its time, not after it."""
    write(tmp_path, {"a": Pause("a", 1.0, 100.0)})
    assert "a" in read(tmp_path, 99.9)
    assert read(tmp_path, 100.0) == {}


def test_no_file_is_no_pause(tmp_path: Path):
    """Nobody has paused anything yet."""
    assert read(tmp_path, 1.0) == {}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"a": 7}',
        '{"a": {}}',
        '{"a": {"since": 1}}',
        '{"a": {"since": 1, "until": NaN}}',
        '{"a": {"since": 1, "until": Infinity}}',
        '{"a": {"since": true, "until": null}}',
        '{"a": {"since": "1", "until": null}}',
        json.dumps({"a": {"since": 10**400, "until": None}}),
        "[" * 100_000,
    ],
    ids=lambda text: repr(text[:50]),
)
def test_a_damaged_file_stops_recovery(tmp_path: Path, content: str):
    """To heal against a person's word would be worse than not to heal; the remedy names the file."""
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(StateError, match="damaged") as raised:
        read(tmp_path, 1.0)
    assert FILE_NAME in raised.value.remedy


def test_a_file_that_cannot_be_read_stops_recovery(tmp_path: Path):
    """A folder in its place."""
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StateError):
        read(tmp_path, 1.0)


@pytest.mark.parametrize(
    ("paused", "names", "covered"),
    [
        (ALL, ["anything"], True),
        ("ollama", ["ollama"], True),
        ("ollama", ["mlx"], False),
        ("victoria-agent", ["container:victoria-agent"], True),
        ("container:victoria-agent", ["victoria", "victoria-agent"], True),
        ("container:web", ["compose:web"], False),
        ("knowledge-os", ["container:db", "compose:knowledge-os"], True),
        ("compose", ["compose:knowledge-os"], False),
    ],
)
def test_a_pause_covers_every_name_of_a_target(paused: str, names: list[str], covered: bool):
    """With and without the kind before the colon; two kinds are two things."""
    assert (covering({paused: Pause(paused, 0.0)}, *names) is not None) is covered


_NAMES = st.sampled_from(["a", "b", "c:a", "d:a", "c:b", "c", ":a", "a:", ""])


@given(_NAMES, _NAMES)
def test_meaning_the_same_goes_both_ways(one: str, other: str):
    """And every name means itself."""
    assert same(one, other) == same(other, one)
    assert same(one, one)


def test_a_change_that_changes_nothing_writes_nothing(tmp_path: Path):
    """To resume what is not paused leaves no file."""
    with pauses.changing(tmp_path, 1.0) as held:
        held.pop("a", None)
    assert not (tmp_path / FILE_NAME).exists()


def test_an_error_in_a_change_leaves_the_old_pauses(tmp_path: Path):
    """All or nothing."""
    write(tmp_path, {"a": Pause("a", 1.0)})
    with pytest.raises(ZeroDivisionError), pauses.changing(tmp_path, 2.0) as held:
        held.clear()
        _ = 1 / 0
    assert set(read(tmp_path, 2.0)) == {"a"}


def test_a_reason_that_is_no_text_is_kept(tmp_path: Path):
    """An argument may hold bytes that are no UTF-8."""
    held = {"a": Pause("a", 1.0, None, os.fsdecode(b"\xff"))}
    write(tmp_path, held)
    assert read(tmp_path, 2.0) == held


_PAUSER = """
import sys
from pathlib import Path
from opskit.recovery import pauses
folder, name = Path(sys.argv[1]), sys.argv[2]
sys.stdin.readline()
for number in range(25):
    with pauses.changing(folder, 1.0) as held:
        held[f"{name}-{number}"] = pauses.Pause(f"{name}-{number}", 1.0)
"""


def test_two_who_pause_at_once_do_not_lose_one_anothers_word(tmp_path: Path):
    """Fifty pauses of two processes are fifty pauses."""
    processes = [
        subprocess.Popen([sys.executable, "-c", _PAUSER, str(tmp_path), name], stdin=subprocess.PIPE)
        for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    assert [process.wait(60) for process in processes] == [0, 0]
    for process in processes:
        process.stdin.close()
    assert len(read(tmp_path, 1.0)) == 50


def test_who_never_lets_go_is_told_of(tmp_path: Path):
    """A stopped process must not make the next one wait for ever."""
    with try_lock(tmp_path / "pauses.lock"), wait_lock(tmp_path / "pauses.lock", 0.0) as mine:
        assert mine is False
    with (
        try_lock(tmp_path / "pauses.lock"),
        pytest.raises(OpskitError, match="does not end"),
        pauses.changing(tmp_path, 1.0, patience_s=0.0),
    ):
        raise AssertionError("another holds the lock")
