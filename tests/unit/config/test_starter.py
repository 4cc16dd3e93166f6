"""The starter file says the truth and never overwrites by accident."""

import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from opskit.config import starter
from opskit.errors import UsageError


def uncommented() -> str:
    return re.sub(r"(?m)^# ", "", starter.text())


def test_the_starter_changes_nothing(configured):
    """As it is written, every line is a comment."""
    assert configured(starter.text()).config == configured("").config


def test_the_starter_shows_the_defaults(configured):
    """With every setting uncommented the configuration is that of an empty file, so it cannot drift."""
    empty, full = configured("").config, configured(uncommented()).config
    assert replace(
        full,
        nodes=tuple(replace(node, explicit=False) for node in full.nodes),
        agents=tuple(replace(agent, explicit=False) for agent in full.agents),
    ) == replace(empty, path=full.path)


def test_the_starter_names_every_setting(configured):
    """Uncommented, every key of every section comes from the file."""
    origins = configured(uncommented()).origins
    left = [key for key, origin in origins.items() if origin.kind != "file" and key.split(".")[0] != "nodes"]
    assert [key for key in left if not re.match(r"agents\.|state_dir|victoria_model", key)] == []


def test_the_file_is_for_its_owner_and_not_overwritten(tmp_path: Path):
    """Mode 0600; an existing file stays unless it is forced; nothing unfinished is left."""
    path = tmp_path / "opskit.yaml"
    starter.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        starter.write(path)
    assert path.read_text() == "mine"
    starter.write(path, force=True)
    assert path.read_text() == starter.text()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/opskit.yaml", "folder", "a\0b"])
def test_a_place_that_cannot_be_written_is_a_usage_error(tmp_path: Path, name: str):
    """One line, and nothing unfinished is left."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError):
        starter.write(tmp_path / name, force=True)
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]
