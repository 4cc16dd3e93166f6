"""The story of one request across sources."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import UsageError
from opskit.logs.files import FileSource
from opskit.logs.record import LogEntry
from opskit.logs.request import story
from opskit.logs.select import EntryFilter
from opskit.logs.show import once
from opskit.logs.source import Window
from opskit.tags import format_line

ID = "25a0b2f7-6a3c-4e0a-9d0a-2f1b3c4d5e6f"
OTHER = "25a0ffff-6a3c-4e0a-9d0a-2f1b3c4d5e6f"
BEGIN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()


def tagged(tag, after_s, identifier=ID, source="opskit", **fields):
    at = datetime.fromtimestamp(BEGIN + after_s, UTC)
    return LogEntry(source, format_line(tag, {"correlation_id": identifier, **fields}, at).encode())


def line(text, source="agent", at=None):
    return LogEntry(source, text.encode(), at)


WHOLE = [
    tagged("REQUEST", 0, method="RUN", goal="write a bot", task_type="coding"),
    tagged("LLM_CALL", 0.1, node="mlx", model="phi3.5:3.8b", fallback=False),
    tagged("LLM_CRASH", 1.1, node="mlx", model="phi3.5:3.8b", seconds=1.0, fault="runner_crashed"),
    tagged("FALLBACK", 1.2, from_node="mlx", to_node="ollama", why="runner_crashed"),
    tagged("LLM_CALL", 1.3, node="ollama", model="qwen2.5-coder:32b", fallback=True),
    tagged(
        "LLM_RESPONSE",
        9.3,
        node="ollama",
        model="qwen2.5-coder:32b",
        seconds=8.0,
        status=200,
        first_token_s=2.5,
        tokens=120,
        preview="def main()",
    ),
]


async def story_of_file(folder, lines):
    """The story that one file tells, read as `opskit logs request` reads it."""
    path = folder / "app.log"
    path.write_text("\n".join(lines) + "\n")
    entries = [entry async for entry in once([FileSource(path)], EntryFilter(identifier=ID), Window())]
    return story(entries, ID)


class TestAttempts:
    def test_each_call_is_told_with_its_end(self):
        """Model, node, outcome and seconds of every attempt, in their order."""
        first, second = story(WHOLE, ID).attempts
        assert (first.number, first.node, first.model, first.outcome) == (1, "mlx", "phi3.5:3.8b", "fault")
        assert (first.fault, first.seconds, first.fallback) == ("runner_crashed", 1.0, False)
        assert (second.outcome, second.seconds, second.fallback) == ("ok", 8.0, True)
        assert (second.first_token_s, second.tokens) == (2.5, 120)

    def test_a_call_without_an_end_is_unfinished(self):
        """The log ends in the middle: so does the attempt."""
        request = story(WHOLE[:2], ID)
        assert [attempt.outcome for attempt in request.attempts] == ["unfinished"]
        assert not request.answered

    def test_seconds_that_no_line_says_are_those_between_the_lines(self):
        """The engine's own failure lines name no seconds."""
        lines = [
            tagged("LLM_CALL", 0, node="victoria", model="agent", fallback=False),
            tagged("LLM_ERROR", 4, node="victoria", fault="total_timeout", detail="120 s are over"),
        ]
        [attempt] = story(lines, ID).attempts
        assert (attempt.model, attempt.fault, attempt.seconds) == ("agent", "total_timeout", 4.0)

    def test_calls_at_the_same_time_end_apart(self):
        """Two models asked at once: each end belongs to the call that it names."""
        lines = [
            tagged("LLM_CALL", 0, node="a", model="x"),
            tagged("LLM_CALL", 0.1, node="b", model="y"),
            tagged("LLM_RESPONSE", 1, node="a", model="x", seconds=1.0, status=200),
            tagged("LLM_PARSE", 2, node="b", model="y", seconds=1.9, verdict="echo"),
        ]
        assert [(a.model, a.outcome, a.fault) for a in story(lines, ID).attempts] == [
            ("x", "ok", None),
            ("y", "rejected", "echo"),
        ]

    def test_a_missing_node_is_no_attempt(self):
        """The warning that MLX is not there asks nobody for an answer."""
        lines = [WHOLE[0], tagged("LLM_ERROR", 0.05, node="mlx", fault="refused"), *WHOLE[1:]]
        assert len(story(lines, ID).attempts) == 2

    def test_another_writer_s_lines_make_attempts_too(self):
        """Prose instead of fields: the model is known, an answer is an answer."""
        lines = [
            line(f"2026-03-01 12:00:00 [REQUEST] Correlation ID: {ID}"),
            line(f"2026-03-01 12:00:01 [LLM_CALL] Model: qwq:32b ({ID})"),
            line(f"2026-03-01 12:00:02 [LLM_CALL] Is retry/fallback: False ({ID})"),
            line(f"2026-03-01 12:00:05 [LLM_RESPONSE] ✅ Success! ({ID})"),
        ]
        [attempt] = story(lines, ID).attempts
        assert (attempt.model, attempt.outcome, attempt.seconds) == ("qwq:32b", "ok", 4.0)


class TestLines:
    def test_sources_are_told_in_the_order_of_time(self):
        """What an agent in a container wrote stands where it happened."""
        agent = line(
            f'{{"time": "2026-03-01T12:00:01.250Z", "level": "info", "msg": "m", "request_id": "{ID}"}}'
        )
        request = story([*WHOLE, agent], ID)
        assert [entry.source for entry in request.lines] == ["opskit"] * 4 + ["agent"] + ["opskit"] * 2
        assert request.sources == ("opskit", "agent")
        assert (request.total_s, request.goal, request.started) == (pytest.approx(9.3), "write a bot", BEGIN)

    def test_long_silences_are_marked(self):
        """Eight seconds without a line are a gap, a tenth of a second is none."""
        request = story(WHOLE, ID)
        assert [entry.gap for entry in request.lines] == [False] * 5 + [True]
        assert request.lines[-1].since_s == pytest.approx(8.0)
        assert not any(entry.gap for entry in story(WHOLE, ID, gap_s=8.5).lines)

    async def test_lines_in_between_are_left_out_but_continuations_belong(self, tmp_path):
        """A traceback names no id; the line of another request between them does not belong."""
        lines = [
            f"2026-03-01 12:00:00 ERROR request {ID} failed",
            "Traceback (most recent call last):",
            '  File "/srv/x.py", line 1, in f',
            "ValueError: no",
            "2026-03-01 12:00:00 INFO unrelated",
            "  indented, but of the unrelated",
        ]
        [event] = (await story_of_file(tmp_path, lines)).lines
        assert event.raw.endswith(b"in f\nValueError: no")
        assert event.level == "error"

    async def test_compose_prefixes_keep_services_apart(self, tmp_path):
        """In one file with the lines of two services a traceback stays with its own."""
        lines = [
            f"web-1  | 2026-03-01 12:00:00 ERROR request {ID} failed",
            "db-1   | 2026-03-01 12:00:00 LOG: checkpoint",
            "web-1  | Traceback (most recent call last):",
            "db-1   |   of 12 buffers",
        ]
        [event] = (await story_of_file(tmp_path, lines)).lines
        assert event.raw.count(b"\n") == 1

    def test_a_line_without_a_time_stays_behind_the_one_before_it(self):
        """Its place in its source is all that is known of it."""
        lines = [
            line(f"2026-03-01 12:00:01 INFO a {ID}"),
            line(f"INFO b {ID}"),
            line(f"2026-03-01 12:00:02 INFO c {ID}"),
            line(f"2026-03-01 12:00:00 INFO d {ID}", source="z"),
        ]
        assert [entry.text.split()[0] for entry in story(lines, ID).lines][1:] == ["a", "b", "c"]

    def test_the_text_of_a_tagged_line_leaves_out_the_id(self):
        """Every line carries it."""
        assert story(WHOLE, ID).lines[0].text == "method=RUN goal=write a bot task_type=coding"


class TestIdentifier:
    def test_a_unique_prefix_is_enough(self):
        """Nobody types a whole UUID; case does not matter."""
        assert story([*WHOLE, tagged("REQUEST", 3, OTHER)], "25A0B2").correlation_id == ID

    def test_an_ambiguous_prefix_lists_the_candidates(self):
        """The reader sees which ids there are."""
        with pytest.raises(UsageError, match=f"{ID}, {OTHER}"):
            story([*WHOLE, tagged("REQUEST", 3, OTHER)], "25a0")

    def test_a_whole_id_wins_over_longer_ones(self):
        """An id that is the beginning of another can still be asked for."""
        lines = [tagged("REQUEST", 0, "job-1"), tagged("REQUEST", 1, "job-12")]
        assert story(lines, "job-1").total_s == 0

    @pytest.mark.parametrize("identifier", ["ffffffff", ID[:-1] + "0"])
    def test_an_unknown_id_is_refused(self, identifier):
        """With the command that shows the known ones."""
        with pytest.raises(UsageError, match="no line carries") as refused:
            story(WHOLE, identifier)
        assert "--tag REQUEST" in refused.value.remedy

    @pytest.mark.parametrize("identifier", ["", "  ", "25a"])
    def test_too_short_a_prefix_is_refused(self, identifier):
        """It would find half of the log."""
        with pytest.raises(UsageError, match="too short"):
            story(WHOLE, identifier)

    def test_a_shortened_id_in_another_line_belongs(self):
        """Some logs write only the first block of a UUID."""
        request = story([*WHOLE, line("2026-03-01 12:00:01 INFO [25a0b2f7] sent")], "25a0b2f7")
        assert (request.correlation_id, len(request.lines)) == (ID, 7)

    def test_many_candidates_are_cut(self):
        """The message stays readable, and memory bounded."""
        lines = [tagged("REQUEST", n, f"25a0{n:04d}-6a3c-4e0a-9d0a-2f1b3c4d5e6f") for n in range(500)]
        with pytest.raises(UsageError) as refused:
            story(lines, "25a0")
        assert refused.value.message.count("25a0") == 21
        assert refused.value.message.endswith("...")


@given(
    order=st.permutations(range(len(WHOLE))), names=st.lists(st.sampled_from("abc"), min_size=6, max_size=6)
)
def test_the_story_does_not_depend_on_how_sources_are_mixed(order, names):
    """Whatever comes first from which source, the lines are told by their times."""
    entries = [LogEntry(name, entry.raw) for name, entry in zip(names, WHOLE, strict=True)]
    waiting = {name: [entry for entry in entries if entry.source == name] for name in names}
    request = story([waiting[names[index]].pop(0) for index in order], ID)
    assert [entry.raw for entry in request.lines] == [entry.raw for entry in WHOLE]
    assert [attempt.outcome for attempt in request.attempts] == ["fault", "ok"]


@given(raws=st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_in_a_line_of_the_request_are_told(raws):
    """Invalid UTF-8 and control characters neither raise nor reach the text."""
    request = story([LogEntry("x", ID.encode() + b" " + raw.replace(b"\n", b"")) for raw in [b"", *raws]], ID)
    assert all(entry.text.isprintable() for entry in request.lines)


def test_a_line_of_another_request_that_mentions_the_id_is_no_part_of_it():
    """The answer of another request quotes the id: it neither belongs here nor ends the call here."""
    quoting = tagged(
        "LLM_RESPONSE", 0.5, OTHER, node="mlx", model="phi3.5:3.8b", seconds=0.1, preview=f"about {ID}"
    )
    request = story([*WHOLE[:2], quoting], ID)
    assert len(request.lines) == 2
    assert [attempt.outcome for attempt in request.attempts] == ["unfinished"]


def test_a_clock_that_was_set_back_changes_no_order():
    """The lines of one source stay in their order; an end before its beginning took no known time."""
    place = {"node": "mlx", "model": "phi3.5:3.8b"}
    request = story(
        [tagged("REQUEST", 5), tagged("LLM_CALL", 5, **place), tagged("LLM_RESPONSE", 2, **place)], ID
    )
    assert [line.tag for line in request.lines] == ["REQUEST", "LLM_CALL", "LLM_RESPONSE"]
    assert [(attempt.outcome, attempt.seconds) for attempt in request.attempts] == [("ok", None)]
    assert (request.total_s, request.gaps) == (None, ())
