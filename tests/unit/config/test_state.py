"""The state folder and the look for Docker."""

import stat
from pathlib import Path

import pytest

from opskit.config.load import ensure_state_dir, running_in_docker
from opskit.config.origins import default_state_dir
from opskit.errors import Exit, StateError


def test_a_new_folder_belongs_to_its_owner_alone(tmp_path: Path):
    """It is created with mode 0700 and nothing is left in it."""
    folder = ensure_state_dir(tmp_path / "a" / "b")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == []
    assert ensure_state_dir(folder) == folder


def test_a_folder_that_exists_keeps_its_mode(tmp_path: Path):
    """A shared folder that somebody chose is not closed behind their back."""
    (tmp_path / "shared").mkdir(mode=0o755)
    assert stat.S_IMODE(ensure_state_dir(tmp_path / "shared").stat().st_mode) == 0o755


def test_a_file_in_the_way_is_said_so(tmp_path: Path):
    """A parent that is a file gives STATE_001, one line, exit status 78."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/opskit"), Path("a\0b")):
        with pytest.raises(StateError) as raised:
            ensure_state_dir(path)
        assert (raised.value.code, raised.value.exit) == ("STATE_001", Exit.CONFIG)
        assert "\n" not in raised.value.message


def test_loading_does_not_create_the_folder(configured, tmp_path: Path):
    """Only who needs the folder makes it."""
    assert configured().config.state_dir == str(tmp_path / "state" / "opskit")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("environ", [{}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}])
def test_without_a_usable_variable_the_system_decides(environ: dict[str, str], monkeypatch):
    """The system's folder is absolute and ends in opskit."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    folder = Path(default_state_dir(environ))
    assert folder.is_absolute()
    assert folder.name == "opskit"


@pytest.mark.parametrize(
    "name, content", [(".dockerenv", ""), ("run/.containerenv", ""), ("proc/1/cgroup", "1:x:/docker/0a\n")]
)
def test_a_container_is_recognised(tmp_path: Path, name: str, content: str):
    """A marker file or the first process's cgroup gives it away."""
    assert not running_in_docker(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    assert running_in_docker(tmp_path)


def test_an_ordinary_cgroup_is_no_container(tmp_path: Path):
    """The host's own cgroup is no sign."""
    (tmp_path / "proc" / "1").mkdir(parents=True)
    (tmp_path / "proc" / "1" / "cgroup").write_text("0::/init.scope\n")
    assert not running_in_docker(tmp_path)
