"""How an option is declared, and what commands print in tables."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from opskit.cli import render
from opskit.cli.options import SharedOptions, shares


@pytest.fixture
def group() -> typer.Typer:
    """A group with one command that shows what it was given."""
    app = typer.Typer(rich_markup_mode=None)

    @shares(of=app, name="look")
    def command(
        shared: SharedOptions,
        deep: Annotated[bool, "Look deep."] = False,
        duration: Annotated[str, "--for", "TIME", "So long."] = "5m",
        number: Annotated[int, "How many."] = 3,
    ) -> None:
        """Look at something."""
        render.line(f"{deep} {duration} {number} {shared.json} {shared.config}")

    @shares(of=app)
    def other(shared: SharedOptions) -> None:
        """Do something else."""

    return app


def test_a_type_and_a_text_are_an_option(group: typer.Typer) -> None:
    """Its name is that of the parameter, its value is called by its type, and a flag has no second form."""
    text = CliRunner().invoke(group, ["look", "--help"]).output
    assert "--number N" in text
    assert "Look deep." in text
    assert "--no-deep" not in text


def test_names_and_the_name_of_a_value_stand_in_front_of_the_help(group: typer.Typer) -> None:
    """What begins with a dash is a name, what does not is what the value is called."""
    text = CliRunner().invoke(group, ["look", "--help"]).output
    assert "--for TIME" in text
    assert "--duration" not in text


def test_options_reach_the_command(group: typer.Typer) -> None:
    """Its own by their parameters, the shared ones in one object."""
    arguments = ["look", "--deep", "--for", "9s", "--number", "4", "--json", "--config", "c.yaml"]
    assert CliRunner().invoke(group, arguments).output == "True 9s 4 True c.yaml\n"


def test_a_column_without_a_cell_takes_no_room(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither does the head of a table without rows."""
    render.table(("name", "empty", "why"), [("a", "", "x"), ("b", "", "")])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["name", "why"],
        ["a", "x"],
        ["b"],
    ]
    render.table(("name",), [])
    assert capsys.readouterr().out == ""
