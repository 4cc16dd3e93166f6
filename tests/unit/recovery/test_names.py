"""A name to pause is one that recovery knows, or a typing error that is answered."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config.schema import AgentConfig, Config, NodeConfig, StackConfig
from opskit.errors import OpskitError, UsageError
from opskit.recovery.budget import RepairRecord
from opskit.recovery.memory import Memory
from opskit.recovery.pauses import chosen, known_names

CONFIG = Config(
    "/state",
    (NodeConfig("ollama", "http://localhost:11434", "ollama"),),
    (AgentConfig("victoria", "http://localhost:8010"),),
    stack=StackConfig(compose={"knowledge-os": ("a.yml",)}, containers={"victoria": ("victoria-agent",)}),
)
MEMORY = Memory(
    Path("unused"),
    {"container:db": RepairRecord()},
    last_run={"targets": [{"step": "nodes", "target": "mlx"}, 7, {"step": 1}]},
)
KNOWN = known_names(CONFIG, MEMORY)


@pytest.mark.parametrize(
    "name",
    ["wifi", "docker", "ollama", "victoria", "victoria-agent", "container:victoria-agent", "knowledge-os",
     "compose:knowledge-os", "db", "mlx", "nodes", "all"],
)  # fmt: skip
def test_what_recovery_knows_can_be_paused(name: str):
    """Steps, nodes, agents, containers, projects, and what it has met, with and without their kind."""
    assert chosen(name, KNOWN) == name


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("olama", "ollama"),
        ("Victoria", "victoria"),
        ("knowlege-os", "compose:knowledge-os"),
        ("dbb", "container:db"),
    ],
)
def test_a_typing_error_is_answered_with_near_names(typed: str, meant: str):
    """And with the command to type."""
    with pytest.raises(OpskitError, match=meant) as raised:
        chosen(typed, KNOWN)
    assert raised.value.code == "RECOVER_002"
    assert f"opskit pause {meant}" in raised.value.remedy


def test_a_name_that_is_near_nothing_lists_them():
    """Nobody has to guess."""
    with pytest.raises(OpskitError, match="known: wifi, internet, docker, network"):
        chosen("xyzzy", KNOWN)


def test_force_takes_a_name_that_is_not_known_yet():
    """A container that will be made tomorrow."""
    assert chosen("container:new", KNOWN, force=True) == "container:new"


@given(st.text(max_size=300), st.booleans())
def test_no_text_breaks_it(text: str, force: bool):
    """Any name is taken or refused, and what is taken can be shown on one line."""
    try:
        found = chosen(text, KNOWN, force=force)
    except OpskitError:
        return
    assert found.isprintable()
    assert found.strip() == found != ""


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[2J", "x" * 201])
def test_what_cannot_be_a_name_is_refused_even_by_force(name: str):
    """A terminal obeys control characters."""
    with pytest.raises(UsageError):
        chosen(name, KNOWN, force=True)
