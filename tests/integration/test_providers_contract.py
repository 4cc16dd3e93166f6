"""What every provider promises over a real connection: every protocol, on both transports.

The same broken servers must look the same to whoever asks, whatever library carries the bytes.
"""

import asyncio
import json
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opskit.llm.faults import FaultKind, classify
from opskit.providers.base import CallCause, CallError, ChatRequest, End, Message, Token
from opskit.providers.http import HttpClient
from tests.parts.dialects import LLAMACPP, OLLAMA, OPENAI, collect, said, sse
from tests.parts.raw_server import Reply, answer, free_port, reply_json, serving

pytestmark = [
    pytest.mark.parametrize("dialect", [OLLAMA, OPENAI, LLAMACPP], ids=lambda dialect: dialect.name),
]


@asynccontextmanager
async def connected(url: str, dialect, **options):
    http = HttpClient(url, **options)
    try:
        yield dialect.provider(http)
    finally:
        await http.aclose()


@asynccontextmanager
async def speaking(dialect, reply: Reply, **options):
    """A provider before a server that answers its chat with `reply`."""
    async with serving() as server:
        path, listing = dialect.listing
        server.replies |= {path: listing, dialect.path: reply}
        async with connected(server.url, dialect, **options) as provider:
            yield provider, server


async def failure(provider) -> CallError:
    with pytest.raises(CallError) as caught:
        await collect(provider)
    return caught.value


def judged(error: CallError) -> tuple[CallCause, str, FaultKind]:
    return error.cause, error.phase, classify(error).kind


class TestNoConnection:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    async def test_nothing_listens(self, dialect, host):
        """Refused, also by a name that stands for several addresses."""
        async with connected(f"http://{host}:{free_port()}", dialect) as provider:
            assert judged(await failure(provider)) == (CallCause.REFUSED, "connect", FaultKind.REFUSED)

    async def test_the_name_does_not_resolve(self, dialect):
        """A wrong name is not a refused connection."""
        async with connected("http://no-such-host.invalid:1", dialect, connect_s=20.0) as provider:
            assert judged(await failure(provider)) == (CallCause.NAME, "connect", FaultKind.UNREACHABLE)

    async def test_a_plain_server_behind_https(self, dialect):
        """A failed handshake is told as such."""
        async with (
            serving() as server,
            connected(server.url.replace("http:", "https:"), dialect) as provider,
        ):
            assert judged(await failure(provider)) == (CallCause.TLS, "connect", FaultKind.UNREACHABLE)

    async def test_a_silent_handshake(self, dialect):
        """A server that accepts and then says nothing costs no more than the time to connect."""
        async with serving() as server:
            server.replies[""] = Reply(end="silence")
            url = server.url.replace("http:", "https:")
            async with connected(url, dialect, connect_s=0.05) as provider:
                assert judged(await failure(provider)) == (
                    CallCause.TIMEOUT,
                    "connect",
                    FaultKind.CONNECT_TIMEOUT,
                )


class TestNoReply:
    async def test_a_reset_before_the_reply(self, dialect):
        """SPEC A2: a connection reset is a crash."""
        async with speaking(dialect, Reply(end="reset")) as (provider, _):
            assert judged(await failure(provider)) == (CallCause.RESET, "request", FaultKind.RESET)

    async def test_a_connection_closed_with_zero_bytes(self, dialect):
        """mlx_lm.server's answer to what it does not expect (wire facts B2): not a timeout, not a refusal."""
        async with speaking(dialect, Reply()) as (provider, _):
            assert judged(await failure(provider)) == (CallCause.CLOSED, "request", FaultKind.EMPTY_REPLY)

    async def test_headers_that_break_off(self, dialect):
        """A server that died while it wrote its headers gave no answer."""
        async with speaking(dialect, Reply([b"HTTP/1.1 200 OK\r\nContent-"])) as (provider, _):
            error = await failure(provider)
            assert (error.cause, error.phase) == (CallCause.CLOSED, "request")

    @pytest.mark.parametrize(
        "garbage", [b"\x16\x03\x01\x02\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"+PONG\r\n\r\n"]
    )
    async def test_something_that_is_not_http(self, dialect, garbage):
        """Another service took the port: said so, not called down."""
        async with speaking(dialect, Reply([garbage])) as (provider, _):
            error = await failure(provider)
            assert (error.cause, classify(error).kind) == (CallCause.PAYLOAD, FaultKind.BAD_PAYLOAD)

    async def test_silence_ends_when_the_caller_says(self, dialect):
        """No deadline of the library's own; a caller who leaves closes the connection."""
        async with speaking(dialect, Reply(end="silence")) as (provider, server):
            asking = asyncio.create_task(collect(provider))
            async with asyncio.timeout(30.0):
                # A caller who leaves before the server has read the question leaves no connection to close.
                while not server.bodies(dialect.path):
                    await asyncio.sleep(0.001)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asking, 0.05)
                await server.gone.wait()

    async def test_a_silent_list_has_a_deadline(self, dialect):
        """Metadata is cheap: a server that does not give it is not waited for."""
        async with speaking(dialect, Reply(), metadata_s=0.05) as (provider, server):
            server.replies[dialect.listing[0]] = Reply(end="silence")
            with pytest.raises(CallError) as caught:
                await provider.models()
            assert (caught.value.cause, caught.value.phase) == (CallCause.TIMEOUT, "request")


class TestBrokenOff:
    @pytest.mark.parametrize("framing", ["chunked", "length"])
    async def test_a_body_that_is_cut(self, dialect, framing):
        """What had come is passed on, then the break is told; never a clean end."""
        reply = answer(dialect.token("Hello"), framing=framing, end="cut")
        async with speaking(dialect, reply) as (provider, _):
            stream = provider.stream(ChatRequest((Message("user", "hi"),), "m"))
            assert await anext(stream) == Token("Hello")
            with pytest.raises(CallError) as caught:
                await anext(stream)
            assert judged(caught.value) == (CallCause.CLOSED, "stream", FaultKind.TRUNCATED)

    async def test_a_body_without_a_length_that_is_cut(self, dialect):
        """HTTP/1.0 shows no cut: only the missing end of the protocol tells (a killed mlx_lm.server)."""
        reply = answer(dialect.token("Hello"), framing="close", end="cut")
        async with speaking(dialect, reply) as (provider, _):
            assert judged(await failure(provider)) == (CallCause.ENDED, "stream", FaultKind.TRUNCATED)

    async def test_a_reset_in_the_middle(self, dialect):
        """SPEC A2: a reset is a crash, also within an answer."""
        reply = answer(dialect.token("Hello"), framing="chunked", end="reset")
        async with speaking(dialect, reply) as (provider, _):
            assert judged(await failure(provider)) == (CallCause.RESET, "stream", FaultKind.RESET)

    async def test_a_reader_who_leaves_closes_the_connection(self, dialect):
        """The server is told at once, and no task is left behind."""
        reply = answer(dialect.token("Hello"), framing="chunked", end="silence")
        async with speaking(dialect, reply) as (provider, server):
            before = asyncio.all_tasks()
            async with aclosing(provider.stream(ChatRequest((Message("user", "hi"),), "m"))) as events:
                assert await anext(events) == Token("Hello")
            assert {task for task in asyncio.all_tasks() - before if "aclose" in repr(task)} == set()
            async with asyncio.timeout(5.0):
                await server.gone.wait()


class TestStatus:
    async def test_an_error_brings_its_status_and_its_text(self, dialect):
        """Before the first byte an error is a proper one."""
        reply = reply_json(
            {"error": "model runner has unexpectedly stopped"}, status="500 Internal Server Error"
        )
        async with speaking(dialect, reply) as (provider, _):
            error = await failure(provider)
            assert (error.cause, error.status) == (CallCause.STATUS, 500)
            assert error.text == "model runner has unexpectedly stopped"
            assert classify(error).kind is FaultKind.RUNNER_CRASHED

    @pytest.mark.parametrize(
        "value, low, high",
        [
            ("7", 7.0, 7.0),
            ("1.5", 1.5, 1.5),
            ("-3", 0.0, 0.0),
            (None, 500.0, 600.0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0, 0.0),
        ],
        ids=["number", "fraction", "negative", "date", "past"],
    )
    async def test_retry_after_is_read_as_number_and_as_date(self, dialect, value, low, high):
        """Both forms of the header become seconds (the date is made when the test runs)."""
        if value is None:
            value = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
        reply = reply_json({"error": "slow down"}, status="429 Too Many Requests", Retry_After=value)
        async with speaking(dialect, reply) as (provider, _):
            assert low <= (await failure(provider)).retry_after_s <= high

    @pytest.mark.parametrize("value", ["soon", "nan", "inf", "999999999"])
    async def test_a_retry_after_that_makes_no_sense_is_ignored(self, dialect, value):
        """Nobody waits for ever because of a header."""
        reply = reply_json({"error": "slow down"}, status="429 Too Many Requests", Retry_After=value)
        async with speaking(dialect, reply) as (provider, _):
            assert (await failure(provider)).retry_after_s is None

    async def test_an_error_without_a_body_still_has_a_text(self, dialect):
        """There is always something to show."""
        async with speaking(dialect, answer(b"", status="502 Bad Gateway")) as (provider, _):
            error = await failure(provider)
            assert (error.status, error.text) == (502, "HTTP 502 without a reason")

    async def test_an_error_page_becomes_one_line(self, dialect):
        """A proxy's HTML fits into a log line."""
        page = b"<html>\n<body>" + b"Bad  Gateway\n" * 5000 + b"</body></html>"
        async with speaking(dialect, answer(page, status="502 Bad Gateway")) as (provider, _):
            error = await failure(provider)
            assert error.status == 502
            assert len(error.text) <= 500
            assert len(error.text.splitlines()) == 1

    async def test_a_redirect_is_not_followed(self, dialect):
        """A goal is sent to the configured address and nowhere else."""
        reply = answer(b"", status="307 Temporary Redirect", Location="http://127.0.0.1:9/elsewhere")
        async with speaking(dialect, reply) as (provider, _):
            assert (await failure(provider)).status == 307


class TestBodies:
    async def test_an_answer_in_one_piece_per_packet(self, dialect):
        """The plain case, with its end."""
        reply = answer(*dialect.body("Hello", " world"), framing="chunked")
        async with speaking(dialect, reply) as (provider, server):
            events = await collect(provider, max_tokens=5, temperature=0.5)
            assert said(events) == "Hello world"
            assert isinstance(events[-1], End)
            assert events[-1].reason == "stop"
            assert server.bodies(dialect.path)[0]["messages"] == [{"role": "user", "content": "hi"}]

    async def test_temperature_and_seed_are_sent_only_where_they_are_named(self, dialect):
        """Zero is a value; where nothing is named the server uses its own."""
        async with speaking(dialect, answer(*dialect.body("ok"))) as (provider, server):
            await collect(provider, temperature=0.0, seed=0)
            await collect(provider)
            named, unnamed = [body | body.get("options", {}) for body in server.bodies(dialect.path)]
        assert (named["temperature"], named["seed"]) == (0.0, 0)
        assert not {"temperature", "seed"} & unnamed.keys()

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    async def test_characters_split_over_packets_survive(self, dialect, size):
        """A packet may end inside a character."""
        raw = b"".join(dialect.body("Привет 👋", " ёж\u2028\u0085"))
        parts = [raw[start : start + size] for start in range(0, len(raw), size)]
        reply = Reply([part for one in [answer(*parts, framing="chunked").parts] for part in _bundled(one)])
        async with speaking(dialect, reply) as (provider, _):
            assert said(await collect(provider)) == "Привет 👋 ёж\u2028\u0085"

    async def test_a_text_that_is_no_valid_unicode_can_be_sent(self, dialect):
        """A goal from a shell with broken bytes is asked as well as it can be."""
        async with speaking(dialect, answer(*dialect.body("ok"))) as (provider, server):
            assert said(await collect(provider, text="caf\udce9")) == "ok"
            assert server.bodies(dialect.path)[0]["messages"][0]["content"].startswith("caf")

    @pytest.mark.parametrize(
        "page", [b"<html><body>Welcome to nginx!</body></html>", b"OK", b"[]", b"[" * 50_000, b'"text"']
    )
    async def test_a_page_instead_of_an_answer(self, dialect, page):
        """Something else answers there: a bad payload, not an empty answer."""
        async with speaking(dialect, answer(page, Content_Type="text/html")) as (provider, _):
            error = await failure(provider)
            assert (error.cause, classify(error).kind) == (CallCause.PAYLOAD, FaultKind.BAD_PAYLOAD)

    async def test_no_body_at_all_is_an_end_without_an_end(self, dialect):
        """A 200 with nothing behind it is no answer."""
        async with speaking(dialect, answer(b"")) as (provider, _):
            assert (await failure(provider)).cause is CallCause.ENDED

    async def test_a_key_is_sent_and_not_told(self, dialect):
        """The key travels in its header and appears in no error."""
        reply = reply_json({"error": "who are you"}, status="401 Unauthorized")
        async with speaking(dialect, reply, api_key="sk-secret") as (provider, server):
            error = await failure(provider)
            assert server.seen[-1].headers["authorization"] == "Bearer sk-secret"
            assert classify(error).kind is FaultKind.UNAUTHORISED
            assert "sk-secret" not in repr(error) + error.text

    @pytest.mark.parametrize("dead", [Reply(), Reply(end="reset")], ids=["closed", "reset"])
    async def test_a_kept_connection_that_is_dead_is_no_failure(self, dialect, dead):
        """A server may close an idle connection just as it is used again: the call is made once more.

        A provider that keeps no connection says so in each request, and has nothing to make good.
        """
        async with speaking(dialect, dead) as (provider, server):
            server.replies[dialect.listing[0]] = dialect.kept
            server.replies[dialect.path] = [dead, answer(*dialect.body("fine"))]
            await provider.models()
            if not dialect.keeps:
                assert {request.headers["connection"] for request in server.seen} == {"close"}
                return
            assert said(await collect(provider)) == "fine"
            assert len(server.bodies(dialect.path)) == 2

    async def test_a_fresh_connection_that_dies_is_one(self, dialect):
        """And nothing is sent twice that a server may have worked on."""
        async with speaking(dialect, Reply()) as (provider, server):
            assert (await failure(provider)).cause is CallCause.CLOSED
            assert len(server.bodies(dialect.path)) == 1

    async def test_several_calls_over_one_provider(self, dialect):
        """A failed call does not spoil the next one."""
        good = answer(*dialect.body("fine"))
        async with speaking(dialect, good) as (provider, server):
            server.replies[dialect.path] = [good, Reply(), Reply(end="reset"), good]
            assert said(await collect(provider)) == "fine"
            assert (await failure(provider)).cause is CallCause.CLOSED
            assert (await failure(provider)).cause is CallCause.RESET
            assert said(await collect(provider)) == "fine"


def _bundled(parts, size: int = 20):
    """The head alone, then the rest in bundles: packets end where they like, and the test stays quick."""
    head, *rest = parts
    yield head
    for start in range(0, len(rest), size):
        yield b"".join(rest[start : start + size])


ODD = [10**400, -1, 2**70, 1e308, float("nan"), "\u00b2", "9" * 5000, True, None, [], {}, "x"]
NUMBERS = st.sampled_from(ODD)
COMMENTS = [b": keepalive \xc2\xb2/2\n\n", b": keepalive " + b"9" * 5000 + b"/1\n\n"]
PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([*COMMENTS, b"data: [1]\n\n"]),
    st.builds(
        lambda n, m, c: sse({"choices": c, "usage": {"prompt_tokens": n, "completion_tokens": m}}),
        NUMBERS,
        NUMBERS,
        st.sampled_from([[], None, [None], [{"delta": None}], [{"delta": {"content": 7}}], {"a": 1}, "x"]),
    ),
    st.builds(
        lambda n, m: (
            json.dumps(
                {
                    "message": m,
                    "done": True,
                    "eval_count": n,
                    "eval_duration": n,
                    "load_duration": m,
                    "model": n,
                }
            ).encode()
            + b"\n"
        ),
        NUMBERS,
        NUMBERS,
    ),
    st.builds(lambda n: json.dumps({"error": n, "done": n}).encode() + b"\n", NUMBERS),
)


class TestForeignBytes:
    async def test_a_parser_raises_its_own_error_only(self, dialect):
        """Whatever a server sends is events, or a CallError; nothing else ever comes out of a provider."""
        tried: list[list[bytes]] = []

        @settings(max_examples=60, database=None)
        @given(st.lists(PIECES, max_size=4))
        def collected(parts: list[bytes]) -> None:
            tried.append(parts)

        collected()
        async with speaking(dialect, answer()) as (provider, server):
            for parts in tried:
                server.replies[dialect.path] = answer(*parts, framing="chunked")
                with suppress(CallError):
                    await collect(provider)
        assert len(tried) > 20

    async def test_a_document_over_many_lines_is_read_once(self, dialect):
        """A reply that does not stream, written over many lines, costs a time that grows with its length."""
        rows = b"{\n" + b'"a": 1,\n' * 300_000 + b'"error": "of many lines"}\n'
        async with asyncio.timeout(60), speaking(dialect, answer(rows)) as (provider, _):
            error = await failure(provider)
        assert (error.cause, error.text) == (CallCause.IN_BAND, "of many lines")


class TestLeaving:
    async def test_who_leaves_near_the_limit_reads_to_the_end(self, dialect):
        """The connection is closed after the end, not between the last token and the end."""
        reply = answer(*dialect.body("Hi"), framing="chunked", end="keep")
        async with speaking(dialect, reply) as (provider, server):
            request = ChatRequest((Message("user", "hi"),), "m", max_tokens=1)
            async with aclosing(provider.stream(request)) as events:
                async for event in events:
                    if isinstance(event, Token):
                        break
            assert not server.gone.is_set()

    @pytest.mark.parametrize("whole", [True, False])
    async def test_every_connection_is_given_back(self, dialect, whole):
        """More requests than a pool has connections, read whole or left, find one each time."""
        reply = answer(*dialect.body("Hi", "there"), framing="chunked", end="keep")
        async with asyncio.timeout(60), speaking(dialect, reply) as (provider, _):
            for _ in range(300):
                request = ChatRequest((Message("user", "hi"),), "m", max_tokens=3)
                async with aclosing(provider.stream(request)) as events:
                    async for _event in events:
                        if not whole:
                            break

    async def test_a_caller_who_is_cancelled_leaves_as_gently(self, dialect):
        """A deadline in the middle of a stream ends it within moments."""
        reply = answer(dialect.token("Hi"), framing="chunked", end="silence")
        async with speaking(dialect, reply) as (provider, server):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await collect(provider, max_tokens=1000)
            async with asyncio.timeout(30):
                await server.gone.wait()
