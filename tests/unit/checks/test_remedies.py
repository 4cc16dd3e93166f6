"""What a person is told to type about an address."""

from pathlib import Path

import pytest

from opskit.checks.remedies import address_setting
from opskit.config.load import load

URL = "http://127.0.0.1:11999"


@pytest.mark.parametrize(
    ("environ", "text", "setting"),
    [
        ({}, "", "OLLAMA_API_URL"),
        ({"OLLAMA_HOST": "127.0.0.1:11999"}, "", "OLLAMA_HOST"),
        ({"OLLAMA_BASE_URL": URL}, "", "OLLAMA_BASE_URL"),
        ({}, f"nodes:\n  ollama: {{url: '{URL}'}}\n", "`nodes.ollama.url` (opskit.yaml:2)"),
        ({"OLLAMA_API_URL": URL}, f"nodes:\n  ollama: {{url: '{URL}'}}\n", "OLLAMA_API_URL"),
    ],
)
def test_an_address_is_corrected_where_it_stands(
    tmp_path: Path, environ: dict[str, str], text: str, setting: str
):
    """The variable that was set, or the line of the file: another one would not be looked at."""
    (tmp_path / "opskit.yaml").write_text(text)
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "none")}
    config = load(environ={**home, **environ}, cwd=tmp_path, in_docker=False).config
    assert address_setting(config.node("ollama")) == setting
