"""Tagged lines, ours and those of other writers, as statistics read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.logs.stats import LogTally
from opskit.logs.stats_counts import UNKNOWN
from opskit.logs.stats_report import as_json
from opskit.tags import format_line

ID = "25a0b2f7-6a3c-4e0a-9d0a-2f1b3c4d5e6f"
ENDED = "seconds=31.25 status=200 first_token_s=0.5 tokens=77 preview=x"
AT = "2026-03-01T12:00:00.000Z"
LONG = "y" * 200


def tally_of(*lines):
    counted = LogTally()
    counted.feed("".join(f"{line}\n" for line in lines).encode(), "agent")
    return counted


def only_place(counted):
    [(key, place)] = counted.places.pairs.items()
    return key, place


class TestForeign:
    def test_a_call_is_counted_by_the_model_it_names(self):
        """The other lines about the same call are none."""
        counted = tally_of("[LLM_CALL] Model: qwq:32b", "[LLM_CALL] Node: mlx", "[LLM_CALL] Temperature: 0.2")
        assert counted.places.pairs[UNKNOWN, "qwq:32b"].calls == 1
        assert counted.places.total().calls == 1

    def test_a_fallback_call_is_known_by_its_flag(self):
        """It is said on a line of its own."""
        assert tally_of("[LLM_CALL] Is retry/fallback: True").places.total().fallback_calls == 1
        assert tally_of("[LLM_CALL] Is retry/fallback: False").places.total().fallback_calls == 0

    @pytest.mark.parametrize(
        ("line", "ok", "seconds"),
        [
            ("[LLM_RESPONSE] ✅ Success!", 1, None),
            ("[LLM_RESPONSE] ✅ Success in 2.5s", 1, 2.5),
            ("[LLM_RESPONSE] Content: def main()", 0, None),
        ],
    )
    def test_an_answer_is_known_by_its_success(self, line, ok, seconds):
        """Other lines only describe it."""
        total = tally_of(line).places.total()
        assert (total.ok, total.seconds.mean) == (ok, seconds)

    @pytest.mark.parametrize(
        ("line", "fault", "crashes"),
        [
            ("[LLM_CRASH] model=qwq:32b model runner has unexpectedly stopped", "crash", 1),
            ("[LLM_ERROR] Model: qwq:32b: HTTP 500", "crash", 1),
            ("[LLM_ERROR] model qwq:32b, status: 404", "http_404", 0),
            ("[LLM_ERROR] Model: qwq:32b: CUDA out of memory", "crash", 1),
            ("[LLM_ERROR] Model: qwq:32b: connection reset by peer", "crash", 1),
            ("[LLM_ERROR] Model: qwq:32b: timeout", "error", 0),
        ],
    )
    def test_crashes_are_told_from_other_failures(self, line, fault, crashes):
        """HTTP 500, a stopped runner, no memory, a reset connection (SPEC A2)."""
        (node, model), place = only_place(tally_of(line))
        assert (node, model) == (UNKNOWN, "qwq:32b")
        assert (dict(place.faults), place.crashes) == ({fault: 1}, crashes)

    @pytest.mark.parametrize("arrow", ["→", "->"])
    def test_a_fallback_leaves_a_model(self, arrow):
        """From the one on the left."""
        (_, model), place = only_place(tally_of(f"[FALLBACK] qwq:32b {arrow} phi3.5:3.8b"))
        assert (model, place.fallbacks) == ("qwq:32b", 1)

    def test_a_request_on_several_lines_is_one(self):
        """Announced on one line, named on another, described on more; or announced only."""
        lines = [
            "[REQUEST] ========== POST /run ==========",
            f"[REQUEST] Correlation ID: {ID}",
            "[REQUEST] Goal: write a bot",
            "[REQUEST] Async mode: True",
        ]
        assert tally_of(*lines).requests.ended().total == 1
        assert tally_of(lines[0], *lines[2:]).requests.ended().total == 1
        assert tally_of(lines[1]).requests.ended().total == 1

    def test_reading_an_answer_is_no_failure(self):
        """`[LLM_PARSE]` without a verdict traces how an answer was read."""
        assert tally_of("[LLM_PARSE] 120 characters of JSON").places.total().failed == 0

    def test_tags_are_found_behind_a_logger_s_prefix_and_in_json(self):
        """As Python's logging and a JSON formatter write them."""
        lines = [
            f"{AT[:10]} 12:00:00,123 INFO agent: [LLM_CALL] model=m node=a",
            f"victoria-1  | {AT} [LLM_CALL] model=m node=a",
            f"{AT} [APP_WORKER] [LLM_CALL] model=m node=a",
            '{"time": "2026-03-01T12:00:00Z", "message": "[LLM_CALL] model=m node=a"}',
        ]
        counted = tally_of(*lines)
        assert counted.places.pairs["a", "m"].calls == 4
        assert sum(bucket[2] for bucket in counted.timeline.buckets.values()) == 4


class TestOurs:
    def test_a_failure_without_a_model_is_of_its_node(self):
        """That MLX is missing says nothing about any model."""
        counted = tally_of(f"{AT} [LLM_ERROR] correlation_id={ID} node=mlx fault=refused detail=x")
        assert counted.places.by_model() == {}
        assert counted.places.by_node()["mlx"].failed == 1

    def test_a_rejected_answer_is_a_failure_and_a_warning(self):
        """Its verdict is its fault."""
        counted = tally_of(f"{AT} [LLM_PARSE] correlation_id={ID} node=a model=m seconds=31.0 verdict=echo")
        _, place = only_place(counted)
        assert (dict(place.faults), place.slow, counted.slow_total) == ({"echo": 1}, 1, 1)
        assert (counted.warnings.total, counted.errors.total) == (1, 0)

    def test_an_info_line_may_tell_of_an_error(self):
        """A failure is one whatever level its writer chose; a fallback is what its writer says."""
        counted = tally_of("INFO [LLM_ERROR] model=m x", "INFO [FALLBACK] m -> n")
        assert (counted.errors.total, counted.warnings.total) == (1, 0)

    def test_a_request_that_nobody_answered(self):
        """Failed when something failed, else unfinished."""
        lines = [
            f"{AT} [REQUEST] correlation_id={ID} method=RUN",
            f"2026-03-01T12:00:07.500Z [LLM_ERROR] correlation_id={ID} node=a model=m fault=busy",
            f"{AT} [REQUEST] correlation_id={ID[:-1]}0 method=RUN",
        ]
        ended = tally_of(*lines).requests.ended()
        assert (ended.total, ended.answered, ended.failed, ended.slow) == (2, 0, 1, 1)
        assert ended.slowest == [(7.5, 1772366400.0, ID)]

    @pytest.mark.parametrize(
        ("outcome", "answered", "failed"), [("answered", 1, 0), ("failed", 0, 1), ("interrupted", 0, 0)]
    )
    def test_the_last_line_of_a_request_says_how_it_ended(self, outcome, answered, failed):
        """Also where no model was called; it is no slow entry beside the call."""
        counted = tally_of(
            f"{AT} [REQUEST] correlation_id={ID} method=RUN",
            f"{AT} [REQUEST_END] correlation_id={ID} outcome={outcome} seconds=31.5",
        )
        ended = counted.requests.ended()
        assert (ended.total, ended.answered, ended.failed, counted.slow_total) == (1, answered, failed, 0)

    def test_lines_without_an_id_are_no_request_of_their_own(self):
        """`correlation_id=null` is how our log says that there is none."""
        counted = tally_of(f"{AT} [LLM_CALL] correlation_id=null node=a model=m fallback=false attempt=1")
        assert (counted.requests.ended().total, counted.places.total().calls) == (0, 1)

    @given(
        node=st.text(min_size=1, max_size=8),
        model=st.text(min_size=1, max_size=8),
        seconds=st.floats(0, 100).map(lambda value: round(value, 3)),
        tokens=st.none() | st.integers(0, 999),
    )
    def test_whatever_the_names_they_come_back(self, node, model, seconds, tokens):
        """Blanks, quotes and line breaks in names survive the log."""
        fields = {"node": node, "model": model, "seconds": seconds, "status": 200}
        line = format_line(
            "LLM_RESPONSE", {**fields, "first_token_s": None, "tokens": tokens, "preview": "x"}
        )
        (seen_node, seen_model), place = only_place(tally_of(line))
        assert (seen_node, seen_model) == (node, model)
        assert (place.ok, place.seconds.greatest, place.tokens) == (1, seconds, tokens or 0)

    @pytest.mark.parametrize(
        "line",
        [
            f"[LLM_CALL] correlation_id={ID} node=a model=m fallback=true attempt=2",
            f"[LLM_RESPONSE] correlation_id={ID} node=a model=m {ENDED}",
            f"[REQUEST] correlation_id={ID} method=RUN goal=x",
            f"[FALLBACK] correlation_id={ID} from_node=a from_model=m to_node=b to_model=n why=refused",
            f"[LLM_ERROR] correlation_id={ID} node=a model=m seconds=31.5 fault=busy status=503 detail=full",
            f'[LLM_CRASH] correlation_id={ID} node=a model=m seconds=1 fault=reset status=9 detail="{LONG}"',
            f"[REQUEST_END] correlation_id={ID} outcome=answered node=a model=m seconds=31.5",
        ],
    )
    def test_the_fast_way_counts_like_the_slow_one(self, line):
        """The same line with a compose prefix, which the fast way leaves alone, changes nothing."""
        fast, slow = as_json(tally_of(f"{AT} {line}")), as_json(tally_of(f"a-1 | {AT} {line}"))
        assert fast.pop("bytes") + len("a-1 | ") == slow.pop("bytes")
        assert fast == slow


def test_memory_is_bounded_by_requests_and_places():
    """A log of a year has more requests and, when names are garbage, more models than fit."""
    counted = LogTally()
    lines = [
        f"2026-03-01T12:{n // 60 % 60:02d}:{n % 60:02d}.000Z [{tag}] correlation_id={n:08d}{ID[8:]} "
        f"node=a model=m{n // 10} seconds=1 status=200"
        for n in range(25_000)
        for tag in ("REQUEST", "LLM_RESPONSE")
    ]
    counted.feed("\n".join(lines).encode())
    assert len(counted.requests.open) <= 20_000
    assert (counted.requests.ended().total, counted.requests.ended().answered) == (25_000, 25_000)
    assert len(counted.places.pairs) <= 2001
    assert counted.places.total().ok == 25_000
