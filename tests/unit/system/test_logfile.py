"""The log file that several processes share."""

import subprocess
import sys
from pathlib import Path

from opskit.system.logfile import RotatingLog

_WRITER = """
import sys
from pathlib import Path
from opskit.system.logfile import RotatingLog
log = RotatingLog(Path(sys.argv[1]), max_bytes=20_000, backups=50)
for number in range(500):
    log(f"{sys.argv[2]} {number} " + "x" * 40)
assert log.lost == 0
log.close()
"""


def test_lines_are_appended(tmp_path: Path) -> None:
    """What is there stays; each call is one line, private to its owner."""
    path = tmp_path / "a.log"
    path.write_text("old\n")
    log = RotatingLog(tmp_path / "b.log", max_bytes=1000, backups=1)
    log("one")
    log("два \udcff")
    log.close()
    assert (tmp_path / "b.log").read_text() == "one\nдва \\udcff\n"
    assert (tmp_path / "b.log").stat().st_mode & 0o777 == 0o600


def test_it_rotates_and_keeps_as_many_as_asked(tmp_path: Path) -> None:
    """Above the limit the file moves to .1; the oldest goes."""
    path = tmp_path / "a.log"
    log = RotatingLog(path, max_bytes=100, backups=2)
    for number in range(40):
        log(f"line {number:02} {'x' * 20}")
    log.close()
    assert sorted(p.name for p in tmp_path.glob("a.log*")) == ["a.log", "a.log.1", "a.log.2"]
    assert all(p.stat().st_size <= 100 for p in tmp_path.glob("a.log*"))
    assert "line 39" in path.read_text()


def test_two_processes_lose_and_double_nothing(tmp_path: Path) -> None:
    """Two writers that rotate the same file at the same time: every line is there once."""
    path = tmp_path / "a.log"
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), name]) for name in ("left", "right")
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    lines = [
        line
        for file in tmp_path.glob("a.log*")
        if file.suffix != ".lock"
        for line in file.read_text().splitlines()
    ]
    expected = {f"{name} {number} {'x' * 40}" for name in ("left", "right") for number in range(500)}
    assert len(lines) == 1000
    assert set(lines) == expected


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    """Somebody else's rotation is noticed."""
    path = tmp_path / "a.log"
    log = RotatingLog(path, max_bytes=1000, backups=1)
    log("one")
    path.rename(tmp_path / "moved")
    log("two")
    log.close()
    assert path.read_text() == "two\n"


def test_a_full_disk_does_not_fail_the_request(tmp_path: Path) -> None:
    """Lines that cannot be written are counted, nothing is raised."""
    log = RotatingLog(Path("/dev/full"), max_bytes=1000, backups=0)
    log("one")
    assert log.lost == 1
    log.close()
