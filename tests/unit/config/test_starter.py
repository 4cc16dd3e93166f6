"""The starter file says the truth and never overwrites by accident."""

import re

from opskit.config import starter
from opskit.records import replace


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
        nodes=tuple(replace(node, explicit=False, address_from="") for node in full.nodes),
        agents=tuple(replace(agent, explicit=False, address_from="") for agent in full.agents),
    ) == replace(empty, path=full.path)


def test_the_starter_names_every_setting(configured):
    """Uncommented, every key of every section comes from the file."""
    origins = configured(uncommented()).origins
    left = [key for key, origin in origins.items() if origin.kind != "file" and key.split(".")[0] != "nodes"]
    assert [key for key in left if not re.match(r"agents\.|state_dir|victoria_model", key)] == []
