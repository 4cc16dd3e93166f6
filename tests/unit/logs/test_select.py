"""What is wanted, and what is refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import UsageError
from opskit.logs.record import LogEntry
from opskit.logs.select import EntryFilter, checked_tags, compiled, moment
from opskit.logs.tag_search import STANDARD_TAGS
from opskit.tags import Tag

LINE = b"2026-11-20T08:00:00.5Z [LLM_ERROR] correlation_id=8979fe84-3a15-468c-96c9-758325391ded fault=reset"


def wanted(line: bytes, **conditions) -> bool:
    return EntryFilter(**conditions).accepts(LogEntry("s", line, 100.0))


class TestTags:
    @pytest.mark.parametrize("tag", ["LLM_ERROR", "LLM_*", "*", "*_ERROR"])
    def test_tags_and_wildcards(self, tag):
        """A tag is found by its name and by `*` for any part of it."""
        assert wanted(LINE, tags=(tag,))

    @pytest.mark.parametrize("tag", ["LLM_CALL", "ERROR", "LLM"])
    def test_a_tag_is_a_whole_name(self, tag):
        """Part of a name is not the tag."""
        assert not wanted(LINE, tags=(tag,))

    @pytest.mark.parametrize("tag", ["", "llm", "A|B", "[X]", "A B"])
    def test_what_is_no_tag_is_refused(self, tag):
        """Anything but capitals, digits, `_` and `*` is a usage error."""
        with pytest.raises(UsageError):
            checked_tags((tag,))

    def test_the_standard_ones_are_those_of_the_spec(self):
        """SPEC A1: those that are written are those that are shown."""
        assert tuple(tag.value for tag in Tag) == STANDARD_TAGS


class TestConditions:
    def test_all_must_hold(self):
        """grep, not, id and level are joined by and."""
        assert wanted(LINE, grep=("fault",), exclude=("timeout",), identifier="8979fe84", level="error")
        assert not wanted(LINE, grep=("fault", "absent"))
        assert not wanted(LINE, exclude=("reset",))
        assert not wanted(LINE, level="critical")

    def test_level_means_at_least(self):
        """`--level warning` shows errors as well."""
        assert wanted(b"ERROR it broke", level="warning")
        assert wanted(b'{"level":"fatal","message":"x"}', level="error")
        assert not wanted(b"INFO all is well", level="warning")

    def test_an_entry_without_any_time_is_inside_every_window(self):
        """What cannot be judged is shown rather than lost."""
        assert EntryFilter(since=1.0).accepts(LogEntry("s", b"x", None))
        assert EntryFilter(since=1.0, until=3.0).accepts(LogEntry("s", b"x", 2.0))
        assert not EntryFilter(until=2.0).accepts(LogEntry("s", b"x", 2.0))

    @given(
        line=st.binary(max_size=80).filter(lambda b: b"\n" not in b),
        conditions=st.sampled_from(
            [{"tags": ("LLM_*",)}, {"grep": ("a",)}, {"identifier": "8979"}, {"level": "error"}]
        ),
    )
    def test_the_finder_finds_whatever_is_wanted(self, line, conditions):
        """What is accepted is found by the fast search: it may find more, never less."""
        for text in (line, line + LINE, b"ERROR " + line):
            selection = EntryFilter(**conditions)
            if selection.accepts(LogEntry("s", text, 1.0)):
                assert selection.finder.search(text)

    def test_a_plain_selection_needs_no_second_look(self):
        """Only a single condition that the finder decides is plain."""
        assert EntryFilter(tags=("LLM_*",)).is_plain
        assert not EntryFilter(tags=("LLM_*",), exclude=("x",)).is_plain
        assert not EntryFilter(grep=("a", "b")).is_plain
        assert not EntryFilter(tags=("LLM_*",), since=1.0).is_plain


class TestPatterns:
    @pytest.mark.parametrize("pattern", ["(?=x)", r"(a)\1", "(", "[", "a{1001}"])
    def test_what_cannot_run_in_linear_time_is_refused(self, pattern):
        """Look-around, back references and broken patterns are usage errors with the engine's own words."""
        with pytest.raises(UsageError, match="cannot be used"):
            compiled(pattern)

    def test_a_catastrophic_pattern_is_harmless(self):
        """(a+)+$ on 100,000 letters ends: linear time, whatever the pattern."""
        assert compiled("(a+)+$").search(b"a" * 100_000 + b"!") is None

    def test_other_alphabets(self):
        """Patterns are UTF-8."""
        assert compiled("ошибк[аи]").search("всё: ошибка".encode())


class TestMoments:
    NOW = datetime(2026, 11, 20, 12, 0, tzinfo=timezone(timedelta(hours=3)))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("10m", NOW - timedelta(minutes=10)),
            ("2h30m", NOW - timedelta(hours=2, minutes=30)),
            ("1.5h", NOW - timedelta(minutes=90)),
            ("2026-11-19", datetime(2026, 11, 19, tzinfo=NOW.tzinfo)),
            ("2026-11-19T08:15", datetime(2026, 11, 19, 8, 15, tzinfo=NOW.tzinfo)),
            ("2026-11-19T08:15:00Z", datetime(2026, 11, 19, 8, 15, tzinfo=UTC)),
            ("2 hours ago", NOW - timedelta(hours=2)),
            ("1 min 30 sec", NOW - timedelta(seconds=90)),
            ("yesterday", datetime(2026, 11, 19, tzinfo=NOW.tzinfo)),
            ("today", datetime(2026, 11, 20, tzinfo=NOW.tzinfo)),
            ("now", NOW),
            (str(NOW.timestamp()), NOW),
            (f"{NOW.timestamp():.0f}000", NOW),
            ("08:15", datetime(2026, 11, 20, 8, 15, tzinfo=NOW.tzinfo)),
            ("23:00", datetime(2026, 11, 19, 23, 0, tzinfo=NOW.tzinfo)),
        ],
    )
    def test_what_people_type(self, text, expected):
        """Durations, dates, times of day; without a zone the time is local."""
        assert moment(text, self.NOW) == expected.timestamp()

    @pytest.mark.parametrize("text", ["", "soon", "10", "m10", "2026-13-01", "25:00"])
    def test_what_is_no_time_is_refused(self, text):
        """Refused with examples."""
        with pytest.raises(UsageError):
            moment(text, self.NOW)
