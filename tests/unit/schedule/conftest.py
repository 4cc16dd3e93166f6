"""A configuration with a stack, and no file unless named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opskit.config.load import load
from opskit.config.schema import Config

Configured = Callable[..., Config]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """The configuration of `text` in `tmp_path/etc`, or of nothing."""

    def made(text: str | None = None, **environ: Any) -> Config:
        folder = tmp_path / "etc"
        folder.mkdir(exist_ok=True)
        if text is not None:
            (folder / "opskit.yaml").write_text(text)
        isolated = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "XDG_STATE_HOME": str(tmp_path / "state")}
        return load(None, environ=isolated | environ, cwd=folder, in_docker=False).config

    return made
