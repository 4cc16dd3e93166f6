"""A configuration in a folder of its own, away from the machine's."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from opskit.config.load import InvalidConfigError, LoadedConfig, Problem, load

Load = Callable[..., LoadedConfig]


@pytest.fixture
def configured(tmp_path: Path) -> Load:
    """Load `text` as `./opskit.yaml` (or no file) under `environ`, outside Docker unless said otherwise."""

    def load_text(
        text: str | bytes | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        in_docker: bool = False,
    ) -> LoadedConfig:
        if text is not None:
            content = text if isinstance(text, bytes) else text.encode()
            (tmp_path / "opskit.yaml").write_bytes(content)
        isolated = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "XDG_STATE_HOME": str(tmp_path / "state")}
        return load(None, environ=isolated | dict(environ or {}), cwd=tmp_path, in_docker=in_docker)

    return load_text


@pytest.fixture
def problems(configured: Load) -> Callable[..., list[Problem]]:
    """The problems that loading finds; there must be some."""

    def find(*args: object, **kwargs: object) -> list[Problem]:
        with pytest.raises(InvalidConfigError) as raised:
            configured(*args, **kwargs)
        return list(raised.value.problems)

    return find
