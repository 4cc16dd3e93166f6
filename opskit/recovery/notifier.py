"""Tells people: on the desktop, by a webhook, by a command; and tells a ping service that recovery lives.

All channels are asked side by side, each within `timeout_s`. What fails is remembered and never disturbs the
run. Addresses are secrets: they stand in nothing that is said here.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlencode, urlsplit, urlunsplit

from opskit.config.schema import NoticeConfig
from opskit.errors import Exit
from opskit.recovery import desktop, undelivered
from opskit.recovery.memory import Memory
from opskit.recovery.notice import Notice
from opskit.recovery.undelivered import Undelivered
from opskit.recovery.webhook import WebhookRequest, post
from opskit.system.program import NotStarted, run

#: A ping service keeps the beginning of what it is sent (ops facts 9).
PING_BODY_BYTES = 10_000
_DAY_S = 86_400.0


class Sent(StrEnum):
    """What became of a notice on one channel; `off` is a channel that is not there."""

    SENT = "sent"
    FAILED = "failed"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Delivery:
    """`why` tells why it failed or is off."""

    channel: str
    sent: Sent
    why: str = ""
    seconds: float = 0.0


class Notifier:
    """See `opskit.recovery.notice.Tell`. `note` hears a sentence about each notice that went astray.

    `memory` remembers when a target was last spoken of, and what reached nobody; the caller saves it. `clock`
    gives seconds since the epoch, `platform` is `sys.platform`.
    """

    def __init__(
        self,
        config: NoticeConfig,
        memory: Memory,
        environ: Mapping[str, str],
        platform: str,
        clock: Callable[[], float],
        note: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._config = config
        self._memory = memory
        self._environ = environ
        self._platform = platform
        self._clock = clock
        self._note = note

    async def __call__(self, notice: Notice) -> None:
        """Tell it everywhere, unless the same was told within `min_interval_s`.

        The same is a notice of the same level about the same target: no lesser notice holds back a critical
        one. What reached nobody does not count as told.
        """
        notices, key, now = self._memory.notices, f"{notice.level.value} {notice.target}", self._clock()
        for old in [name for name, at in notices.items() if not 0 <= now - at < self._kept_s]:
            del notices[old]
        if key in notices and now - notices[key] < self._config.min_interval_s:
            self._note(f"{_about(notice)}: not told again within {self._config.min_interval_s:g} s")
            return
        notices[key] = now
        done = await self.deliver(notice)
        for one in done:
            if one.sent is Sent.FAILED:
                self._failed(one.channel, _about(notice), one.why)
        if done and not any(one.sent is Sent.SENT for one in done):
            notices.pop(key, None)

    async def deliver(self, notice: Notice) -> list[Delivery]:
        """Tell it on every channel, whatever was told before; nothing is remembered."""
        ways = {"desktop": self._desktop, "webhook": self._webhook, "command": self._command}
        # Not gather: cancelled, it would not wait until each has cleaned up.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._way(name, way(notice))) for name, way in ways.items()]
        return [task.result() for task in tasks]

    async def deliver_ping(self, text: str) -> Delivery:
        """Leave a line at the ping service that changes nothing there: for a test."""
        return await self._way("ping", self._ping("log", uuid.uuid4().hex, text))

    async def ping_start(self, run_id: str) -> None:
        """A run begins."""
        await self._pinged("start", run_id, "")

    async def ping_end(self, run_id: str, exit: int, body: str) -> None:  # noqa: A002 - it is one
        """A run ended with this exit status; `body` is its summary. A repair that helped is a success."""
        status = Exit.OK if exit == Exit.REPAIRED else exit
        await self._pinged(str(int(status)), run_id, body)

    @property
    def _kept_s(self) -> float:
        return max(_DAY_S, self._config.min_interval_s)

    async def _pinged(self, kind: str, run_id: str, body: str) -> None:
        done = await self._way("ping", self._ping(kind, run_id, body))
        if done.sent is Sent.FAILED:
            self._failed("ping", "a run that began" if kind == "start" else "a run that ended", done.why)

    async def _way(self, channel: str, work: Awaitable[Delivery]) -> Delivery:
        """One channel; what nobody expected of it is a failure of that channel alone."""
        began = time.monotonic()
        (done,) = await asyncio.gather(work, return_exceptions=True)
        if isinstance(done, Delivery):
            return Delivery(channel, done.sent, done.why, time.monotonic() - began)
        if not isinstance(done, Exception):
            raise done
        return Delivery(
            channel, Sent.FAILED, f"opskit itself failed: {type(done).__name__}", time.monotonic() - began
        )

    async def _desktop(self, notice: Notice) -> Delivery:
        if not self._config.desktop:
            return _off("desktop", "switched off: notices.desktop")
        argv = desktop.command(notice, self._platform, self._environ)
        if isinstance(argv, str):
            return _off("desktop", argv)
        return await self._program("desktop", argv, b"")

    async def _webhook(self, notice: Notice) -> Delivery:
        if not self._config.webhook:
            return _off("webhook", "not configured: notices.webhook")
        key = uuid.uuid5(uuid.NAMESPACE_OID, f"{notice.run} {_about(notice)} {notice.at}").hex
        letter = WebhookRequest(_document(notice), "application/json", key)
        return await self._posted("webhook", self._config.webhook, letter)

    async def _command(self, notice: Notice) -> Delivery:
        if not self._config.command:
            return _off("command", "not configured: notices.command")
        return await self._program("command", self._config.command, _document(notice) + b"\n")

    async def _ping(self, kind: str, run_id: str, body: str) -> Delivery:
        if not self._config.ping:
            return _off("ping", "not configured: notices.ping")
        try:
            url = _ping_url(self._config.ping, kind, run_id)
        except ValueError:
            return Delivery("ping", Sent.FAILED, "its address is no URL such as https://host/path")
        cut = body.encode("utf-8", "replace")[:PING_BODY_BYTES].decode("utf-8", "ignore").encode()
        return await self._posted(
            "ping", url, WebhookRequest(cut, "text/plain; charset=utf-8", uuid.uuid4().hex)
        )

    async def _posted(self, channel: str, url: str, letter: WebhookRequest) -> Delivery:
        why = await post(url, letter, environ=self._environ, timeout_s=self._config.timeout_s)
        return Delivery(channel, Sent.SENT) if why is None else Delivery(channel, Sent.FAILED, why)

    async def _program(self, channel: str, argv: tuple[str, ...], stdin: bytes) -> Delivery:
        try:
            async with asyncio.timeout(self._config.timeout_s):
                done = await run(argv, env=self._environ, stdin=stdin)
        except NotStarted as why:
            return Delivery(channel, Sent.FAILED, self._harmless(why.message))
        except TimeoutError:
            return Delivery(
                channel, Sent.FAILED, f"no end within {self._config.timeout_s:g} s; it was killed"
            )
        if done.exit == 0:
            return Delivery(channel, Sent.SENT)
        how = f"killed by signal {-done.exit}" if done.exit < 0 else f"exit {done.exit}"
        said = f": {done.complaint}" if done.err.strip() or done.out.strip() else ""
        return Delivery(channel, Sent.FAILED, self._harmless(how + said))

    def _harmless(self, text: str) -> str:
        """Foreign words without our addresses: a command may well repeat what it was given."""
        for secret in (self._config.webhook, self._config.ping):
            if secret:
                text = text.replace(str(secret), "***")
        return text

    def _failed(self, channel: str, about: str, why: str) -> None:
        now = self._clock()
        undelivered.record(self._memory.facts, Undelivered(channel, about, why, now, now))
        self._note(f"{channel} was not told of {about}: {why}")


def _about(notice: Notice) -> str:
    return f"{notice.level.value} {notice.target}"


def _off(channel: str, why: str) -> Delivery:
    return Delivery(channel, Sent.OFF, why)


def _document(notice: Notice) -> bytes:
    # ASCII: a lone surrogate of a file name has no UTF-8.
    return json.dumps(notice.as_json()).encode()


def _ping_url(url: str, kind: str, run_id: str) -> str:
    """`{url}/{kind}?rid=`; a run id that is no UUID becomes one. Raises ValueError."""
    try:
        rid = uuid.UUID(run_id)
    except ValueError:
        rid = uuid.uuid5(uuid.NAMESPACE_OID, run_id)
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, urlencode({"rid": str(rid)})) if part)
    return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{kind}", query, ""))
