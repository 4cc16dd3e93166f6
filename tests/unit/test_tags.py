"""The tag grammar of SPEC A1."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opskit.tags import Tag, TaggedLine, TagLog, correlated, correlation_id, format_line, parse, preview

AT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)

keys = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=("Cs",)))
nasty = st.sampled_from(
    [
        "",
        " ",
        '"',
        "\\",
        "\n",
        "\r\n",
        "a=b",
        "true",
        "null",
        "12",
        "-1.5e3",
        "inf",
        "nan",
        "\u2028",
        "\x85",
        "ё",
    ]
)
values = st.one_of(
    texts,
    nasty,
    st.integers(),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    texts.map("key=".__add__),
)


class TestRoundTrip:
    @given(fields=st.dictionaries(keys, values, max_size=6))
    @example(fields={"a": "x\u2029y\x1cz\x0b", "b": float("inf"), "c": float("-inf"), "d": "-inf"})
    def test_parsing_gives_back_what_was_formatted(self, fields):
        """Whatever text, number or boolean goes into a line comes out of it with its type."""
        parsed = parse(format_line("LLM_CALL", fields, AT))
        assert parsed == TaggedLine("LLM_CALL", fields, AT)
        assert {key: type(value) for key, value in parsed.fields.items()} == {
            key: type(value) for key, value in fields.items()
        }

    @given(fields=st.dictionaries(keys, values, max_size=6))
    def test_a_line_is_one_physical_line(self, fields):
        """No value can break a line in two, for any reader's idea of a line end."""
        line = format_line("REQUEST", fields, AT)
        assert "\n" not in line
        assert len(line.splitlines()) == 1
        assert len(line.encode().decode().splitlines()) == 1

    def test_not_a_number_stays_one(self):
        """A NaN, which equals nothing, comes back as a NaN."""
        value = parse(format_line("X", {"a": float("nan")})).fields["a"]
        assert isinstance(value, float)
        assert value != value  # noqa: PLR0124 - that is what a NaN is

    def test_lone_surrogates_survive(self):
        """Text out of broken UTF-16 neither breaks the writer nor gets lost."""
        line = format_line("X", {"a": "x\ud800y"})
        assert line.isascii()
        assert parse(line).fields == {"a": "x\ud800y"}

    def test_the_time_is_written_in_utc(self):
        """A line from another time zone sorts with the others."""
        line = format_line("X", {}, datetime(2026, 3, 1, 15, 0, tzinfo=timezone(timedelta(hours=3))))
        assert line == "2026-03-01T12:00:00.000Z [X]"

    @pytest.mark.parametrize("text", ["phi3.5:3.8b", "http://localhost:11434/api", "qwen2.5-coder"])
    def test_plain_words_stay_unquoted(self, text):
        """What people grep for stands in the line as they would type it."""
        assert format_line("LLM_CALL", {"model": text}) == f"[LLM_CALL] model={text}"


class TestForeignLines:
    @pytest.mark.parametrize(
        "line, tag, rest",
        [
            ("[LLM_CALL] Model: qwq:32b", "LLM_CALL", "Model: qwq:32b"),
            ("[REQUEST] ========== POST /run ==========", "REQUEST", "========== POST /run =========="),
            ("[LLM_RESPONSE] ✅ Success!", "LLM_RESPONSE", "✅ Success!"),
            ("[LLM_CALL] Is retry/fallback: False", "LLM_CALL", "Is retry/fallback: False"),
            ("[REQUEST] Goal: Создай простой polling бот", "REQUEST", "Goal: Создай простой polling бот"),
            ("[FALLBACK]", "FALLBACK", ""),
        ],
    )
    def test_lines_of_other_writers_are_tag_and_rest(self, line, tag, rest):
        """Lines of the real stack are read, although they follow no grammar."""
        assert parse(line) == TaggedLine(tag, {}, None, rest)

    def test_fields_before_prose_are_read_and_the_prose_kept(self):
        """A line that is half ours loses nothing."""
        assert parse("[LLM_ERROR] status=500 model crashed") == TaggedLine(
            "LLM_ERROR", {"status": 500}, None, "model crashed"
        )

    @pytest.mark.parametrize("line", ["", "plain", "2026-03-01 12:00 [X] a", "[lower] a", "say [X]", "[]"])
    def test_a_line_without_a_tag_at_its_head_is_none(self, line):
        """Prose that mentions a tag is not taken for a tagged line."""
        assert parse(line) is None

    @given(st.one_of(st.text(), st.text().map("[X] ".__add__), st.text('0123456789T:.Z+-[X] ="\\')))
    @example("2026-99-99T10:00:00Z [X] a=1")
    @example("[X] a=" + "9" * 5000)
    @example('[X] a="\\u12')
    @example('[X] a="\\ud800"')
    def test_parsing_never_raises(self, line):
        """A damaged log file cannot stop the reader."""
        parsed = parse(line)
        assert parsed is None or parsed.tag

    def test_a_time_that_does_not_exist_is_not_believed(self):
        """The tag and its fields count even where the time is nonsense."""
        assert parse("2026-99-99T10:00:00Z [X] a=1") == TaggedLine("X", {"a": 1}, None, "")


class TestCorrelation:
    def test_a_new_identifier_is_a_uuid_and_ends_with_its_block(self):
        """SPEC A1: the correlation id is a UUID, and it does not leak into the next request."""
        with correlated() as identifier:
            assert correlation_id.get() == str(uuid.UUID(identifier))
        assert correlation_id.get() is None

    async def test_every_task_of_a_request_carries_its_identifier(self):
        """Two requests at once never mix their lines, also in tasks they start."""
        lines: list[str] = []
        log = TagLog(lines.append)

        async def inner(name: str) -> None:
            await asyncio.sleep(0)
            log.write(Tag.LLM_CALL, model=name)

        async def request(name: str) -> None:
            with correlated(name):
                log.write(Tag.REQUEST, model=name)
                await asyncio.gather(inner(name), asyncio.create_task(inner(name)))

        await asyncio.gather(*(request(f"r{number}") for number in range(5)))
        parsed = [parse(line) for line in lines]
        assert len(parsed) == 15
        assert all(line.correlation_id == line.fields["model"] for line in parsed)

    def test_a_line_outside_any_request_says_so(self):
        """No identifier is made up where there is no request."""
        lines: list[str] = []
        TagLog(lines.append, now=lambda: AT).write(Tag.EXECUTOR_INIT)
        assert lines == ["2026-03-01T12:30:15.250Z [EXECUTOR_INIT] correlation_id=null"]
        assert parse(lines[0]).correlation_id is None


class TestSecrets:
    @pytest.mark.parametrize("secret", ["sk-123", 'q"uo\\te', "tab\there", "с пробелом"])
    def test_a_secret_never_reaches_a_sink(self, secret):
        """A secret is masked whatever characters it is made of, also inside a longer text."""
        lines: list[str] = []
        TagLog(lines.append, secrets=(secret,)).write(
            Tag.LLM_ERROR, detail=f"key {secret} refused", key=secret
        )
        fields = parse(lines[0]).fields
        assert fields["detail"] == "key *** refused"
        assert fields["key"] == "***"

    def test_the_longer_of_two_secrets_is_masked_whole(self):
        """A secret that begins with another one leaves no tail behind."""
        lines: list[str] = []
        TagLog(lines.append, secrets=("abc", "abc-def")).write(Tag.LLM_ERROR, detail="abc-def")
        assert "def" not in lines[0]

    def test_a_preview_cuts_no_secret_in_half(self):
        """A secret at the edge of a preview is masked before the text is cut."""
        log = TagLog(secrets=("sk-1234567890",), preview_chars=20)
        assert "sk-" not in log.preview("the key is now sk-1234567890, keep it")

    def test_an_empty_secret_masks_nothing(self):
        """An unset key does not turn every line into stars."""
        lines: list[str] = []
        TagLog(lines.append, secrets=("",)).write(Tag.LLM_ERROR, detail="fine")
        assert parse(lines[0]).fields["detail"] == "fine"


class TestPreview:
    @given(texts, st.integers(1, 200))
    def test_a_preview_is_short_and_on_one_line(self, text, limit):
        """A preview never exceeds its limit and folds every white space."""
        short = preview(text, limit)
        assert len(short) <= limit
        assert short == " ".join(short.split()) or short.endswith("…")

    def test_a_short_text_is_its_own_preview(self):
        """Nothing is cut where nothing needs to be."""
        assert preview("Hello,\n  world", 40) == "Hello, world"

    def test_a_cut_text_says_so(self):
        """An ellipsis tells a cut text from a short one, also when most of it was white space."""
        assert preview("abcdef", 4) == "abc…"
        assert preview("ab" + " " * 50 + "cd", 4).endswith("…")
