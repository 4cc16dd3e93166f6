"""What is known of a kind of server before one is asked."""

from typing import get_args

import pytest

from opskit.config.schema import RouterConfig, Source
from opskit.providers.kinds import LLAMACPP, LMSTUDIO, MLX_LM, OLLAMA, OPENAI, expected_kind

SOURCES = get_args(Source)
KINDS = (OLLAMA, MLX_LM, LLAMACPP, LMSTUDIO, OPENAI)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_a_kind_and_has_its_place_in_the_order(source):
    """Whatever a node may be configured as is known, and ordered."""
    assert expected_kind(source) in KINDS
    assert source in RouterConfig().order


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_hints_are_whole_commands(kind):
    """No hint shows a place that was to be filled in."""
    hints = (
        kind.start_hint("http://box:1234"),
        kind.pull_hint("m"),
        kind.unload_hint("m"),
        kind.unload_hint("m", "http://box:1"),
        kind.fill,
    )
    assert not [hint for hint in hints if "{" in hint]
    assert kind.slots >= 1


def test_a_start_hint_names_the_port_of_the_address():
    """Where there is no command, the address itself is named."""
    assert MLX_LM.start_hint("http://localhost:11435") == "`mlx_lm.server --model DIR --port 11435`"
    assert LLAMACPP.start_hint("https://box") == "`llama-server --model FILE.gguf --port 443`"
    assert OPENAI.start_hint("http://box:1") == "the server at http://box:1"


def test_an_unload_hint_reaches_a_server_at_another_port():
    """At the usual port nothing has to be said."""
    assert OLLAMA.unload_hint("m", "http://localhost:11434") == "`ollama stop m`"
    assert OLLAMA.unload_hint("m", "http://box:1") == "`OLLAMA_HOST=box:1 ollama stop m`"
    assert MLX_LM.unload_hint("m", "http://box:1") == ""
