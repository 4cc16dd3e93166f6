"""How a table fits a terminal of 80 columns."""

import re
import sys
from collections.abc import Callable, Sequence

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
Drawn = Callable[[Sequence[str], Sequence[Sequence[str]]], list[str]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Drawn:
    def lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        render.table(columns, rows)
        monkeypatch.undo()
        text = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
        return [line for line in text.splitlines() if line.strip()]

    return lines


def test_a_wide_table_of_short_cells_stands_on_its_side(drawn: Drawn):
    """No word of it is broken."""
    lines = drawn(COLUMNS, [ROW])
    assert [line.split()[0] for line in lines] == [name.split()[0] for name in COLUMNS]
    assert lines[0].split() == ["model", "default_model"]


@pytest.mark.parametrize("rows", [[ROW] * 9, [(*ROW[:-1], WHY)]])
def test_a_table_that_fits_neither_way_keeps_its_rows(drawn: Drawn, rows: list[tuple[str, ...]]):
    """Its cells are folded."""
    heads = [line.split()[0] for line in drawn(COLUMNS, rows) if line[0] != " "]
    assert heads[0].startswith("mod")
    assert sum(head.startswith("de") for head in heads) == len(rows)


def test_a_table_that_fits_is_left_as_it_is(drawn: Drawn):
    """Names stand on top."""
    assert drawn(COLUMNS[:4], [ROW[:4]])[0].split() == list(COLUMNS[:4])
