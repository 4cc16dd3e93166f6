"""A text file is written whole or not at all."""

import os
from pathlib import Path

import pytest

from opskit.system.textfile import check_writable, write_text


def test_a_new_file_is_written_and_nothing_else(tmp_path: Path):
    """No temporary file stays behind."""
    check_writable(tmp_path / "report.md")
    assert list(tmp_path.iterdir()) == []
    write_text(tmp_path / "report.md", "текст\n")
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == "текст\n"


def test_an_old_file_keeps_its_permissions(tmp_path: Path):
    """Its text is replaced, its mode is not."""
    file = tmp_path / "report.md"
    file.write_text("old")
    file.chmod(0o640)
    write_text(file, "new")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o640)


def test_a_link_stays_a_link(tmp_path: Path):
    """The file it points to is written."""
    (tmp_path / "real.md").write_text("old")
    (tmp_path / "link.md").symlink_to("real.md")
    write_text(tmp_path / "link.md", "new")
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "real.md").read_text() == "new"


@pytest.mark.parametrize("name", ["missing/report.md", "folder", "file/report.md", "loop", "pipe"])
def test_what_cannot_be_a_file_is_refused(tmp_path: Path, name: str):
    """A missing folder, a folder, a file used as a folder, a link to itself, a pipe."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for act in (check_writable, lambda path: write_text(path, "new")):
        with pytest.raises(OSError) as raised:
            act(tmp_path / name)
        assert raised.value.strerror


def test_a_device_is_never_replaced():
    """Not even by root."""
    with pytest.raises(OSError, match="not a regular file"):
        write_text(Path("/dev/null"), "text")
