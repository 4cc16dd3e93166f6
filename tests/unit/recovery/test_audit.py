"""The audit can be read back whatever happened to its files."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config.schema import LogConfig
from opskit.errors import StateError
from opskit.recovery.audit import FILE_NAME, Audit, last

LIMITS = LogConfig()


def _write(folder: Path, *contents: dict[str, object], limits: LogConfig = LIMITS) -> None:
    audit = Audit(folder, limits)
    for content in contents:
        audit.write(**content)
    audit.close()


def test_the_last_lines_come_oldest_first(tmp_path: Path):
    """And no more than asked for."""
    _write(tmp_path, *({"number": number} for number in range(10)))
    assert [line["number"] for line in last(tmp_path, 3)] == [7, 8, 9]
    assert len(last(tmp_path, 100)) == 10
    assert last(tmp_path, 0) == []


def test_no_file_is_no_line(tmp_path: Path):
    """Nothing was ever repaired."""
    assert last(tmp_path, 5) == []


def test_what_is_no_object_is_left_out(tmp_path: Path):
    """A half-written line, other JSON, nonsense, deep nesting, bytes that are no text."""
    _write(tmp_path, {"number": 1})
    with (tmp_path / FILE_NAME).open("ab") as stream:
        stream.write(b"[1]\nnull\n\xff\xfe\n" + b"[" * 50_000 + b"\n\n")
    _write(tmp_path, {"number": 2})
    with (tmp_path / FILE_NAME).open("ab") as stream:
        stream.write(b'{"number": 3, "cau')
    assert [line["number"] for line in last(tmp_path, 5)] == [1, 2]


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_any_cause_stays_one_line(tmp_path_factory: pytest.TempPathFactory, causes: list[str]):
    """Line separators of any script do not tear it."""
    folder = tmp_path_factory.mktemp("audit")
    _write(folder, *({"cause": cause + "\u2028\x85\r\n"} for cause in causes))
    assert [line["cause"] for line in last(folder, 99)] == [cause + "\u2028\x85\r\n" for cause in causes]


def test_a_surrogate_is_kept(tmp_path: Path):
    """A path may hold bytes that are no UTF-8."""
    _write(tmp_path, {"path": os.fsdecode(b"\xff")})
    assert last(tmp_path, 1)[0]["path"] == os.fsdecode(b"\xff")


def test_lines_longer_than_a_block_are_read(tmp_path: Path):
    """Evidence may be long."""
    _write(tmp_path, {"a": "x" * 200_000}, {"a": "y" * 70_000}, {"a": "z"})
    assert [line["a"][0] for line in last(tmp_path, 3)] == ["x", "y", "z"]


def test_rotation_hides_nothing(tmp_path: Path):
    """What was written just before the file was rotated is shown too."""
    limits = LogConfig(max_bytes=100, backups=3)
    _write(tmp_path, *({"number": number, "pad": "x" * 30} for number in range(6)), limits=limits)
    assert (tmp_path / f"{FILE_NAME}.1").exists()
    assert [line["number"] for line in last(tmp_path, 4)] == [2, 3, 4, 5]


def test_no_repair_without_evidence(tmp_path: Path):
    """An audit that cannot be opened is an error before anything is done."""
    with pytest.raises(StateError):
        Audit(tmp_path / "gone", LIMITS)


def test_what_json_does_not_know_is_written_as_text(tmp_path: Path):
    """A path in the evidence does not end a repair."""
    _write(tmp_path, {"path": Path("/srv")})
    assert json.loads((tmp_path / FILE_NAME).read_text())["path"] == "/srv"
