"""The table of commands says what the commands say of themselves, on one line of a narrow terminal."""

import importlib
import inspect

import pytest

from opskit.cli.app import _MODULES, COMMANDS, GROUPS


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in GROUPS])
def test_the_line_of_a_command_is_that_of_its_docstring(name: str) -> None:
    """`opskit --help`, which imports no command, shows the first line of its docstring."""
    module = importlib.import_module(f"opskit.cli.{_MODULES.get(name, name)}")
    assert COMMANDS[name] == (inspect.getdoc(getattr(module, name)) or "").splitlines()[0]


@pytest.mark.parametrize("name", GROUPS)
def test_the_line_of_a_group_is_that_of_its_callback_where_it_has_one(name: str) -> None:
    """A group has its line from the table; one that does something itself says the same."""
    callback = importlib.import_module(f"opskit.cli.{name}").app.registered_callback
    if callback is not None:
        assert COMMANDS[name] == (inspect.getdoc(callback.callback) or "").splitlines()[0]


def test_every_line_fits_into_80_columns() -> None:
    """No line of the list is cut."""
    room = 80 - 4 - max(map(len, COMMANDS))
    assert [line for line in COMMANDS.values() if len(line) > room] == []
