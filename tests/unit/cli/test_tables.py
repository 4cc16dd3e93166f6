"""How a table fits the terminal."""

import sys

import pytest

from opskit.cli import render

COLUMNS = (
    "model",
    "calls",
    "failed",
    "crashes",
    "fallbacks",
    "fallback rate",
    "p50",
    "p95",
    "max",
    "tokens/s",
)
ROW = ("default_model", "6", "0", "0", "0", "0.0%", "0.01 s", "0.06 s", "0.07 s", "299.0")
WHY = "a long text that says why a model failed and what to type next"


@pytest.fixture
def terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> pytest.CaptureFixture[str]:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    return capsys


def test_a_wide_table_of_short_cells_stands_on_its_side(terminal: pytest.CaptureFixture[str]):
    """No word of it is broken."""
    render.table(COLUMNS, [ROW])
    lines = terminal.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [name.split()[0] for name in COLUMNS]
    assert lines[0].split() == ["model", "default_model"]


@pytest.mark.parametrize("rows", [[ROW] * 9, [(*ROW[:-1], WHY)]])
def test_a_table_that_fits_neither_way_keeps_its_rows(
    terminal: pytest.CaptureFixture[str], rows: list[tuple[str, ...]]
):
    """Its cells are folded."""
    render.table(COLUMNS, rows)
    heads = [line.split()[0] for line in terminal.readouterr().out.splitlines() if line[0] != " "]
    assert heads[0].startswith("mod")
    assert sum(head.startswith("def") for head in heads) == len(rows)


def test_a_table_that_fits_is_left_as_it_is(terminal: pytest.CaptureFixture[str]):
    """Names stand on top."""
    render.table(COLUMNS[:4], [ROW[:4]])
    assert terminal.readouterr().out.splitlines()[0].split() == list(COLUMNS[:4])
