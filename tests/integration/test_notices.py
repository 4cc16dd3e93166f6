"""Notices over HTTP to real servers that take them, fail, hang, close and redirect."""

import asyncio
import json
import os
import uuid
from pathlib import Path

import pytest

from opskit.config.schema import NoticeConfig, Secret
from opskit.recovery.budget import Level
from opskit.recovery.memory import Memory
from opskit.recovery.notice import Notice, recorded
from opskit.recovery.notifier import PING_BODY_BYTES, NoticesBeside, Notifier
from opskit.recovery.webhook import WebhookRequest, post
from tests.parts.loopback import until
from tests.parts.raw_server import Reply, answer, free_port, serving

TOKEN = "T0K3N-of-the-hook"
PATH = f"/hooks/{TOKEN}"
OK = answer(b"ok")
RUN = "0b5c5e0e-5a3c-4f0e-9f0f-2f4c3f7a1d11"


def _notice(level: Level = Level.CRITICAL, target: str = "mlx") -> Notice:
    return Notice(
        level, target, f"{target} is given up", "it is wedged", "2026-11-21T09:30:00.000Z", "mac", RUN
    )


class Desk:
    """A notifier with a clock that the test turns; `said` is what it narrates."""

    def __init__(self, url: str | None = None, ping: str | None = None, **config) -> None:
        self.now = 1_750_000_000.0
        self.memory = Memory(Path("unused"))
        self.said: list[str] = []
        config = {"desktop": False, "timeout_s": 20.0} | config
        settings = NoticeConfig(
            webhook=None if url is None else Secret(url),
            ping=None if ping is None else Secret(ping),
            **config,
        )
        self.tell = Notifier(settings, self.memory, {}, "linux", lambda: self.now, self.said.append)

    @property
    def why(self) -> str:
        (one,) = recorded(self.memory.facts)
        return one.why

    def everything_said(self) -> str:
        return json.dumps([self.memory.facts, self.memory.notices, self.said])


async def test_a_webhook_gets_the_notice_as_json():
    """One POST with the whole notice, and nothing is left to complain of."""
    async with serving() as server:
        server.replies[PATH] = OK
        desk = Desk(server.url + PATH)
        await desk.tell(_notice())
        (request,) = server.seen
        assert (request.method, request.headers["content-type"]) == ("POST", "application/json")
        assert request.body == _notice().as_json()
        assert desk.memory.facts == {}


@pytest.mark.parametrize(
    ("reply", "why", "tries"),
    [
        (answer(b"", status="500 Oops"), "it answers HTTP 500, 3 times", 3),
        (answer(b"", status="429 Slow"), "it answers HTTP 429, 3 times", 3),
        (answer(b"", status="404 Gone"), "it answers HTTP 404", 1),
        (answer(b"", status="304 Same"), "it answers HTTP 304", 1),
        (Reply((), "close"), "the server closed the connection before the reply was complete, 3 times", 3),
        (Reply((), "reset"), "the connection was reset by the server, 3 times", 3),
        (Reply((b"SSH-2.0-x\r\n\r\n",), "close"), "the server does not speak proper HTTP, 3 times", 3),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_webhook_that_fails_is_told_why(reply: Reply, why: str, tries: int):
    """What may pass is tried three times, what stays once; the reason never names the address."""
    async with serving() as server:
        server.replies[PATH] = reply
        desk = Desk(server.url + PATH)
        await desk.tell(_notice())
        assert desk.why == why
        assert len(server.seen) == tries
        assert len({request.headers["idempotency-key"] for request in server.seen}) == 1
        assert TOKEN not in desk.everything_said()
        assert "127.0.0.1" not in desk.everything_said()


async def test_a_webhook_that_recovers_gets_its_notice():
    """A receiver that restarts loses nothing."""
    async with serving() as server:
        server.replies[PATH] = [answer(b"", status="503 Wait"), Reply((), "close"), OK]
        desk = Desk(server.url + PATH)
        await desk.tell(_notice())
        assert len(server.seen) == 3
        assert desk.memory.facts == {}


async def test_a_webhook_that_hangs_is_asked_once_and_left():
    """It may have taken the notice; the run goes on when its time is over."""
    async with serving() as server:
        server.replies[PATH] = Reply((), "silence")
        desk = Desk(server.url + PATH, timeout_s=1.0)
        async with asyncio.timeout(30):
            await desk.tell(_notice())
        assert desk.why == "no answer within 1 s"
        assert len(server.seen) == 1
        await asyncio.wait_for(server.gone.wait(), 30)


async def test_a_head_that_never_ends_is_left_too():
    """One byte of it is no answer."""
    async with serving() as server:
        server.replies[PATH] = Reply((b"HTTP/1.1 200 O",), "silence")
        desk = Desk(server.url + PATH, timeout_s=1.0)
        async with asyncio.timeout(30):
            await desk.tell(_notice())
        assert desk.why == "no answer within 1 s"


async def test_an_endless_answer_is_not_read():
    """200 is enough."""
    async with serving() as server:
        server.replies[PATH] = answer(b"x" * 100_000, end="silence")
        desk = Desk(server.url + PATH)
        async with asyncio.timeout(30):
            await desk.tell(_notice())
        assert desk.memory.facts == {}


async def test_nobody_at_the_address():
    """Refused three times, well within the time allowed."""
    desk = Desk(f"http://127.0.0.1:{free_port()}{PATH}")
    await desk.tell(_notice())
    assert desk.why == "nothing listens there, 3 times"


@pytest.mark.parametrize(
    "url", ["hooks.example/x", "ftp://h/x", "http://", "http://[::1", "http://h:99999/x", "x y"]
)
async def test_an_address_that_is_none_is_a_failure_like_others(url: str):
    """And is not quoted."""
    desk = Desk(url, url)
    await desk.tell(_notice())
    await desk.tell.ping_start(RUN)
    assert {one.why for one in recorded(desk.memory.facts)} == {
        "its address is no URL such as https://host/path"
    }
    assert url not in desk.everything_said()


async def test_a_redirection_is_told_and_not_followed():
    """A notice goes where it was sent to, or nowhere; where it was to go is not told."""
    async with serving() as server:
        server.replies = {PATH: answer(b"", status="307 Moved", Location="/steal"), "/steal": OK}
        desk = Desk(server.url + PATH)
        await desk.tell(_notice())
        assert "HTTP 307: it has moved" in desk.why
        assert "steal" not in desk.everything_said()
        assert len(server.seen) == 1


async def test_a_server_that_asks_for_patience_gets_it():
    """Retry-After beyond the time allowed is not waited for; nor is it asked again before."""
    async with serving() as server:
        server.replies[PATH] = answer(b"", status="429 Slow", Retry_After="3600")
        desk = Desk(server.url + PATH)
        await desk.tell(_notice())
        assert desk.why == "it answers HTTP 429"
        assert len(server.seen) == 1


async def test_a_proxy_of_the_environment_is_used_but_never_for_loopback(monkeypatch: pytest.MonkeyPatch):
    """As curl does it, with NO_PROXY."""
    request = WebhookRequest(b"{}", "application/json", "k")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    async with serving() as proxy, serving() as server:
        proxy.replies["http://hooks.invalid/x"] = OK
        server.replies["/x"] = OK
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("no_proxy", "direct.invalid")
        assert await post("http://hooks.invalid/x", request, timeout_s=20) is None
        assert await post(server.url + "/x", request, timeout_s=20) is None
        assert [request.path for request in proxy.seen] == ["http://hooks.invalid/x"]
        why = await post("http://direct.invalid/x", request, timeout_s=0.5)
        assert why is not None
        assert len(proxy.seen) == 1
        monkeypatch.delenv("HTTP_PROXY")
        monkeypatch.setenv("all_proxy", "socks4://127.0.0.1:1")
        why = await post("http://hooks.invalid/x", request, timeout_s=20)
        assert why is not None
        assert "proxy" in why


async def test_a_service_of_apprise_gets_the_notice_by_its_address():
    """`json://` is a service that can be played here; its own words are the title and the sentences."""
    async with serving() as server:
        server.replies["/"] = OK
        desk = Desk(server.url.replace("http://", "json://"))
        await desk.tell(_notice())
        (request,) = server.seen
        assert (request.body["title"], request.body["message"]) == ("opskit: mlx is given up", "it is wedged")
        assert desk.memory.facts == {}


async def test_a_service_that_refuses_is_a_failure_like_others():
    """The reason never names the address."""
    async with serving() as server:
        desk = Desk(server.url.replace("http://", f"json://{TOKEN}@"))
        await desk.tell(_notice())
        assert desk.why == "the service did not take it"
        assert TOKEN not in desk.everything_said()


async def test_a_service_that_hangs_is_left():
    """The run goes on when the time of the channel is over."""
    async with serving() as server:
        server.replies["/"] = Reply((), "silence")
        desk = Desk(server.url.replace("http://", "json://") + "?rto=3", timeout_s=0.5)
        await desk.tell(_notice())
        assert desk.why == "no answer within 0.5 s"


async def test_the_same_is_told_once_in_its_interval():
    """A second critical notice about the target within 60 s is narrated and not sent."""
    async with serving() as server:
        server.replies[PATH] = OK
        desk = Desk(server.url + PATH, min_interval_s=60.0)
        await desk.tell(_notice())
        desk.now += 59
        await desk.tell(_notice())
        assert len(server.seen) == 1
        assert desk.said == ["critical mlx: not told again within 60 s"]
        desk.now += 1
        await desk.tell(_notice())
        assert len(server.seen) == 2


async def test_no_lesser_notice_holds_back_a_critical_one():
    """Nor does a notice about another target."""
    async with serving() as server:
        server.replies[PATH] = OK
        desk = Desk(server.url + PATH, min_interval_s=3600.0)
        for notice in (_notice(Level.REPAIRED), _notice(Level.CRITICAL), _notice(Level.CRITICAL, "ollama")):
            await desk.tell(notice)
        assert [body["level"] for body in server.bodies(PATH)] == ["repaired", "critical", "critical"]


async def test_what_reached_nobody_does_not_count_as_told():
    """The next one is sent, however soon."""
    async with serving() as server:
        server.replies[PATH] = [answer(b"", status="404 Gone"), OK]
        desk = Desk(server.url + PATH)
        await desk.tell(_notice())
        await desk.tell(_notice())
        assert len(server.seen) == 2


async def test_a_clock_set_back_silences_nothing():
    """A notice from the future is no reason to be silent until then."""
    async with serving() as server:
        server.replies[PATH] = OK
        desk = Desk(server.url + PATH)
        await desk.tell(_notice())
        desk.now -= 86_400
        await desk.tell(_notice())
        assert len(server.seen) == 2
        assert len(desk.memory.notices) == 1


async def test_old_notices_are_forgotten():
    """Targets that come and go do not fill the memory."""
    async with serving() as server:
        server.replies[PATH] = OK
        desk = Desk(server.url + PATH)
        for number in range(5):
            await desk.tell(_notice(target=f"t{number}"))
            desk.now += 86_400
        assert list(desk.memory.notices) == ["critical t4"]


async def test_a_failure_that_repeats_is_one_failure():
    """It is counted, with its first and last time; different ones are kept up to a bound."""
    async with serving() as server:
        desk = Desk(server.url + PATH)
        await desk.tell(_notice())
        desk.now += 500
        await desk.tell(_notice())
        (one,) = recorded(desk.memory.facts)
        assert (one.times, one.last - one.first, one.about, one.channel) == (
            2,
            500,
            "critical mlx",
            "webhook",
        )
        for number in range(30):
            await desk.tell(_notice(target=f"t{number}"))
        assert len(recorded(desk.memory.facts)) == 20


async def test_channels_are_asked_side_by_side(tmp_path: Path):
    """A command is run while the webhook hangs."""
    async with serving() as server:
        server.replies[PATH] = Reply((), "silence")
        desk = Desk(server.url + PATH, timeout_s=60.0, command=("/bin/sh", "-c", f"touch {tmp_path}/ran"))
        task = asyncio.create_task(desk.tell(_notice()))
        await until(lambda: server.seen and (tmp_path / "ran").exists())
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_run_is_announced_and_its_end_told():
    """`/start` and the exit status, with the same run id, and the summary as the body."""
    async with serving() as server:
        server.replies = {f"/ping/u/start?rid={RUN}": OK, f"/ping/u/5?rid={RUN}": OK}
        desk = Desk(ping=server.url + "/ping/u/")
        await desk.tell.ping_start(RUN)
        await desk.tell.ping_end(RUN, 5, "mlx: gave up, причина")
        assert [request.path for request in server.seen] == list(server.replies)
        assert server.seen[1].raw.decode() == "mlx: gave up, причина"
        assert desk.memory.facts == {}


async def test_a_ping_keeps_the_query_of_its_address_and_makes_a_uuid_of_any_run():
    """Some services take their key there."""
    async with serving() as server:
        desk = Desk(ping=server.url + "/p?key=1#x")
        await desk.tell.ping_start("run 7")
        (path,) = {request.path for request in server.seen}
        head, _, rid = path.partition("&rid=")
        assert head == "/p/start?key=1"
        assert uuid.UUID(rid)


async def test_a_repair_that_helped_is_a_success_for_a_ping_service():
    """Status 4 would be a failure there."""
    async with serving() as server:
        server.replies[f"/0?rid={RUN}"] = OK
        desk = Desk(ping=server.url)
        await desk.tell.ping_end(RUN, 4, "")
        assert desk.memory.facts == {}


async def test_a_long_summary_is_cut_between_two_characters():
    """10 kB at most, and still UTF-8."""
    async with serving() as server:
        server.replies[f"/0?rid={RUN}"] = OK
        await Desk(ping=server.url).tell.ping_end(RUN, 0, "a" + "я" * 20_000)
        assert PING_BODY_BYTES - 2 < len(server.seen[0].raw) <= PING_BODY_BYTES
        assert server.seen[0].raw.decode().endswith("я")


async def test_a_ping_that_fails_is_remembered_and_raises_nothing():
    """A run is worth more than what is told of it."""
    async with serving() as server:
        desk = Desk(ping=f"{server.url}/{TOKEN}")
        await desk.tell.ping_start(RUN)
        await desk.tell.ping_end(RUN, 0, "")
        assert [(one.channel, one.about, one.why) for one in recorded(desk.memory.facts)] == [
            ("ping", "a run that began", "it answers HTTP 404"),
            ("ping", "a run that ended", "it answers HTTP 404"),
        ]
        assert TOKEN not in desk.everything_said()


async def test_nothing_configured_is_nothing_said():
    """No channel, no failure, no memory of a notice."""
    desk = Desk()
    await desk.tell(_notice())
    await desk.tell.ping_start(RUN)
    await desk.tell.ping_end(RUN, 0, "")
    assert (desk.memory.facts, desk.memory.notices, desk.said) == ({}, {}, [])


async def test_notices_of_a_run_are_sent_beside_it_and_a_silent_channel_is_asked_once():
    """Taking a notice costs no time; the end waits within a bound, and what reached nobody is remembered."""
    async with serving() as server:
        server.replies[PATH] = Reply((), "silence")
        desk = Desk(server.url + PATH, timeout_s=1.0)
        beside = NoticesBeside(desk.tell, 1.0)
        began = asyncio.get_running_loop().time()
        for number in range(8):
            await beside(_notice(target=f"t{number}"))
        assert asyncio.get_running_loop().time() - began < 0.5
        async with asyncio.timeout(30):
            await beside.end()
        assert len(server.seen) == 1
        assert {notice.about for notice in recorded(desk.memory.facts)} == {
            f"critical t{number}" for number in range(8)
        }


async def test_a_slow_channel_gets_its_notices_in_order_and_the_run_ends_in_time():
    """Each answer takes its time; what has not been sent within the bound is told as undelivered."""
    async with serving() as server:
        server.replies[PATH] = OK
        desk = Desk(server.url + PATH)
        beside = NoticesBeside(desk.tell, 20.0)
        for number in range(3):
            await beside(_notice(target=f"t{number}"))
        await beside.end()
        assert [request.body["target"] for request in server.seen] == ["t0", "t1", "t2"]
        assert desk.memory.facts == {}
        late = NoticesBeside(desk.tell, 0.0)
        await late(_notice(target="t9"))
        await late.end()
        assert [notice.about for notice in recorded(desk.memory.facts)] == ["critical t9"]
