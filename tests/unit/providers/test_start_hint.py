"""What to type to start a server at the address where it is expected."""

import pytest

from opskit.providers.kinds import OLLAMA


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("http://localhost:11434", "`ollama serve`"),
        ("http://127.0.0.1:11610", "`OLLAMA_HOST=127.0.0.1:11610 ollama serve`"),
        ("http://gpu-box:8000", "`OLLAMA_HOST=gpu-box:8000 ollama serve`"),
    ],
)
def test_a_server_is_started_at_its_own_address(url: str, command: str):
    """Without its variable Ollama would listen on its usual port, and the fault would stay."""
    assert OLLAMA.start_hint(url) == command
