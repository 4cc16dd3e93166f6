"""What a tally says, in every form."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import UsageError
from opskit.logs.stats import LogTally
from opskit.logs.stats_report import as_json, as_markdown, rows_by, sparkline, summary

LOG = """2026-03-01T12:00:00.000Z [REQUEST] correlation_id=ID method=RUN
2026-03-01T12:00:00.000Z [LLM_CALL] correlation_id=ID node=mlx model=m fallback=false a=1
2026-03-01T12:00:02.000Z [LLM_CRASH] correlation_id=ID node=mlx model=m seconds=2.0 fault=reset
2026-03-01T12:00:02.000Z [FALLBACK] correlation_id=ID from_node=mlx from_model=m why=reset
2026-03-01T12:00:02.000Z [LLM_CALL] correlation_id=ID node=ollama model=n fallback=true a=2
2026-03-01T12:01:02.000Z [LLM_RESPONSE] correlation_id=ID node=ollama model=n seconds=60 tokens=600 x=1
2026-03-01 12:05:00,000 WARNING pool is at 80 %
""".replace("=ID", "=25a0b2f7-6a3c-4e0a-9d0a-2f1b3c4d5e6f")


@pytest.fixture
def tally():
    counted = LogTally()
    counted.feed(LOG.encode(), "app.log")
    return counted


class TestJson:
    def test_the_keys_are_always_the_same(self, tally):
        """An empty log has every key of a full one."""
        assert as_json(LogTally()).keys() == as_json(tally).keys()
        json.dumps(as_json(tally), allow_nan=False)

    def test_everything_counted_is_told(self, tally):
        """Requests, calls, models, nodes, slow entries, the course of time."""
        told = as_json(tally)
        assert (told["lines"], told["errors"]["total"], told["warnings"]["total"]) == (7, 1, 2)
        assert (told["first"], told["last"]) == ("2026-03-01T12:00:00.000Z", "2026-03-01T12:05:00.000Z")
        assert told["calls"]["fallback_rate"] == 0.5
        assert [(m["model"], m["crashes"], m["tokens_per_s"]) for m in told["models"]] == [
            ("m", 1, None),
            ("n", 0, 10.0),
        ]
        assert told["requests"]["seconds"]["max_s"] == 62.0
        assert told["requests"]["slowest"][0]["correlation_id"].startswith("25a0")
        assert told["slow"]["top"][0]["seconds"] == 60.0
        assert [bucket["calls"] for bucket in told["timeline"]["buckets"]] == [2, 0, 0]

    def test_without_tags_durations_stand_for_requests(self):
        """An API that logs JSON has requests too (SPEC C7)."""
        counted = LogTally()
        counted.feed(b'{"duration": 6.5}\n{"duration": 0.5}\n')
        told = as_json(counted)["requests"]
        assert (told["told_by"], told["total"], told["slow"]) == ("durations", 2, 1)
        assert (told["seconds"]["avg_s"], told["seconds"]["min_s"]) == (3.5, 0.5)

    def test_names_out_of_broken_text_are_told(self):
        """Half a surrogate pair, which JSON can say and UTF-8 cannot."""
        counted = LogTally()
        counted.feed(b'[LLM_CALL] node="\\ud800x" model=m\n')
        assert [node["node"] for node in as_json(counted)["nodes"]] == ["x"]
        json.dumps(as_json(counted)).encode()


class TestTables:
    def test_the_summary_shows_what_there_is(self, tally):
        """Every table has rows, each row as many cells as there are columns."""
        tables = summary(tally)
        headings = [table.heading.partition(":")[0].partition(" (")[0] for table in tables]
        assert headings == [
            *("Log", "Errors", "Warnings", "Slow entries", "Requests", "Models", "Nodes", "Over time"),
        ]
        assert all(len(row) == len(table.columns) for table in tables for row in table.rows)

    def test_an_empty_log_has_an_overview_only(self):
        """No table without rows."""
        assert [table.heading for table in summary(LogTally())] == ["Log"]

    @pytest.mark.parametrize(
        ("key", "first"),
        [
            ("model", ["m", "1", "0", "1", "reset 1", "1", "1", "100.0%", "", "", "", ""]),
            (
                "node",
                ["mlx", "1", "0", "1", "reset 1", "1", "1", "100.0%", "", "", "", ""],
            ),
            ("tag", ["LLM_CALL", "2"]),
            ("minute", ["2026-03-01 12:00:00", "5", "1", "2"]),
        ],
    )
    def test_breakdowns_have_a_row_for_each(self, tally, key, first):
        """By model, node, tag or minute."""
        columns, rows = rows_by(tally, key)
        assert rows[0] == first
        assert len(columns) == len(first)
        assert columns[0] == key

    def test_another_breakdown_is_refused(self, tally):
        """With those that there are."""
        with pytest.raises(UsageError, match="'colour'") as refused:
            rows_by(tally, "colour")
        assert "minute" in refused.value.remedy


class TestMarkdown:
    def test_foreign_text_cannot_become_markup(self):
        """A message with a bar, a link and a line break stays text in its cell."""
        counted = LogTally()
        counted.feed(b"2026-03-01 12:00:00 ERROR a | b [x](y) <b>\r\x1b[31m\n")
        text = as_markdown(counted)
        assert "a \\| b \\[x\\]\\(y\\) \\<b\\>" in text
        assert "\x1b" not in text

    @given(st.binary(max_size=200))
    def test_any_log_makes_a_document(self, text):
        """Each row of a table has as many bars as its head."""
        counted = LogTally()
        counted.feed(b"ERROR " + text, "x|y")
        for line in as_markdown(counted).splitlines():
            assert all(char.isprintable() for char in line)


class TestSparkline:
    def test_the_highest_bar_is_the_greatest_value(self):
        """Nothing at all is a blank, the least that is something is the lowest bar."""
        assert sparkline([0, 1, 50, 100]) == " ▁▄█"

    def test_many_values_share_the_columns(self):
        """The width is that of the terminal, not of the log."""
        assert sparkline([1] * 1000, 20) == "█" * 20

    @given(st.lists(st.integers(0, 10**9), max_size=100), st.integers(1, 80))
    def test_it_is_never_wider_than_asked(self, values, columns):
        """And never fails."""
        assert len(sparkline(values, columns)) == min(len(values), columns)
