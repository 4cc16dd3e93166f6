"""One configuration becomes one App, opened and closed once."""

from pathlib import Path

import pytest

from opskit.app import App
from opskit.config.schema import AgentConfig, Config, NodeConfig
from opskit.errors import StateError
from opskit.system.logfile import LOG_NAME
from opskit.tags import TagLog


def configuration(folder: Path) -> Config:
    nodes = (NodeConfig("ollama", "http://127.0.0.1:9", "ollama"),)
    return Config(str(folder / "state"), nodes, (AgentConfig("victoria", "http://127.0.0.1:9"),))


async def test_a_part_is_made_on_its_first_use(tmp_path: Path):
    """Who only looks at nodes leaves no log behind."""
    async with App(configuration(tmp_path)) as app:
        assert [node.name for node in app.nodes] == ["ollama"]
        assert list(app.agents) == ["victoria"]
        assert not (tmp_path / "state").exists()
        assert app.router.catalog is app.engine.router.catalog
        assert (tmp_path / "state" / LOG_NAME).exists()


async def test_a_part_is_made_once(tmp_path: Path):
    """The router and the commands ask over the same connections."""
    async with App(configuration(tmp_path)) as app:
        assert app.nodes is app.nodes
        assert app.engine.agents is app.agents


async def test_a_log_of_its_own_writes_no_file(tmp_path: Path):
    """A command that must leave no trace brings its log along."""
    async with App(configuration(tmp_path), log=TagLog()) as app:
        assert app.engine.log is app.log
    assert not (tmp_path / "state").exists()


async def test_a_state_folder_that_cannot_be_is_an_expected_failure(tmp_path: Path):
    """It is told when it is needed, not before."""
    (tmp_path / "state").write_text("")
    async with App(configuration(tmp_path)) as app:
        assert app.nodes
        with pytest.raises(StateError):
            _ = app.log


async def test_what_was_made_is_closed(tmp_path: Path):
    """Nothing is left running, and nothing can be asked afterwards."""
    app = App(configuration(tmp_path))
    async with app:
        (node,) = app.nodes
        _ = app.engine
    with pytest.raises(RuntimeError, match="closed"):
        await node.provider()
