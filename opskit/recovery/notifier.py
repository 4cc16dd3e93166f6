"""Sends notices to the desktop, a webhook and a command, and a ping service the beginning and end of a run.

All channels are used side by side, each within `timeout_s`. What fails is remembered and never disturbs the
run. Addresses are secrets: they stand in nothing that is said here.
"""

import asyncio
import json
import shutil
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from opskit.config.schema import NoticeConfig
from opskit.errors import Exit
from opskit.recovery.budget import Level
from opskit.recovery.memory import Memory
from opskit.recovery.notice import Notice, Undelivered, record
from opskit.recovery.webhook import NO_URL, WebhookRequest, post
from opskit.result import Finding, Report, Status
from opskit.system.program import NotStarted, run
from opskit.text import printable, shortened

#: A ping service keeps the beginning of what it is sent (ops facts 9).
PING_BODY_BYTES = 10_000
_DAY_S = 86_400.0
_TITLE_CHARS, _TEXT_CHARS = 120, 600
_SCRIPT = (
    *("-e", "on run argv"),
    *("-e", "display notification (item 2 of argv) with title (item 1 of argv)"),
    *("-e", "end run"),
)
#: At the end of a run its notices are waited for so many times the limit of one.
_WAITS = 3
_STATUS = {"sent": Status.PASS, "failed": Status.FAIL, "off": Status.SKIP}
_LOUD = (Level.CRITICAL, Level.ESCALATION, Level.REMINDER)


class ChannelOff(Exception):  # noqa: N818 - an answer, not an error
    """There is no such channel; the message says why."""


class Notifier:
    """See `opskit.recovery.notice.Tell`. `note` is called with a sentence about each notice that went astray.

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
        #: Channels that gave no answer in time in this run, and are not asked again in it.
        self._silent: set[str] = set()

    async def __call__(self, notice: Notice) -> None:
        """Send it to every channel, unless the same was sent within `min_interval_s`.

        The same is a notice of the same level about the same target: no lesser notice holds back a critical
        one. What reached nobody does not count as sent.
        """
        sent_at, now, interval_s = self._memory.notices, self._clock(), self._config.min_interval_s
        for subject, at in list(sent_at.items()):
            if not 0 <= now - at < max(_DAY_S, interval_s):
                del sent_at[subject]
        if now - sent_at.get(notice.subject, -interval_s) < interval_s:
            self._note(f"{notice.subject}: not told again within {interval_s:g} s")
            return
        sent_at[notice.subject] = now
        deliveries = await self.deliver(notice)
        for delivery in deliveries:
            self._keep(delivery, notice.subject)
        if not any(delivery.status is Status.PASS for delivery in deliveries):
            sent_at.pop(notice.subject, None)

    async def deliver(self, notice: Notice) -> list[Finding]:
        """Send it to every channel, whatever was sent before; nothing is remembered."""
        # ASCII: a lone surrogate of a file name has no UTF-8.
        document = json.dumps(notice.as_json()).encode()
        channels = {
            "desktop": self._desktop(notice),
            "webhook": self._webhook(notice, document),
            "command": self._command(document),
        }
        # Not gather: cancelled, it would not wait until each has cleaned up.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.delivered(channel, work)) for channel, work in channels.items()]
        return [task.result() for task in tasks]

    async def delivered(self, channel: str, work: Coroutine[Any, Any, str | None]) -> Finding:
        """Wait for one channel; what nobody expected of it is a failure of that channel alone."""
        if channel in self._silent:
            work.close()
            return _delivery(channel, "failed", "it gave no answer in this run before")
        began = time.monotonic()
        end = (await asyncio.gather(work, return_exceptions=True))[0]
        seconds = time.monotonic() - began
        if isinstance(end, ChannelOff):
            return _delivery(channel, "off", str(end), seconds)
        if isinstance(end, BaseException) and not isinstance(end, Exception):
            raise end
        why = f"opskit itself failed: {type(end).__name__}" if isinstance(end, Exception) else end
        if why and seconds >= self._config.timeout_s:
            self._silent.add(channel)
        return _delivery(channel, "failed" if why else "sent", why or "", seconds)

    async def ping_start(self, run_id: str) -> None:
        self._keep(await self.delivered("ping", self.ping("start", run_id, "")), "a run that began")

    async def ping_end(self, run_id: str, exit: int, body: str) -> None:  # noqa: A002 - it is one
        """Report the end of a run; `body` is its summary. A repair that helped is a success."""
        status = Exit.OK if exit == Exit.REPAIRED else exit
        ping = self.ping(str(int(status)), run_id, body)
        self._keep(await self.delivered("ping", ping), "a run that ended")

    def keep_unsent(self, notice: Notice, why: str) -> None:
        self._keep(_delivery("every channel", "failed", why), notice.subject)

    def _keep(self, delivery: Finding, about: str) -> None:
        if delivery.status is Status.FAIL:
            now, channel = self._clock(), delivery.target
            record(self._memory.facts, Undelivered(channel, about, delivery.detail, first=now, last=now))
            self._note(f"{channel} was not told of {about}: {delivery.detail}")

    async def _desktop(self, notice: Notice) -> str | None:
        if not self._config.desktop:
            raise ChannelOff("switched off: notices.desktop")
        return await self._program(desktop_command(notice, self._platform, self._environ), b"")

    async def _webhook(self, notice: Notice, document: bytes) -> str | None:
        if not self._config.webhook:
            raise ChannelOff("not configured: notices.webhook")
        url = str(self._config.webhook)
        if "://" in url and not url.startswith(("http:", "https:")):
            return await self._service(url, notice)
        key = uuid.uuid5(uuid.NAMESPACE_OID, f"{notice.run} {notice.subject} {notice.at}").hex
        request = WebhookRequest(document, "application/json", key)
        return await post(url, request, timeout_s=self._config.timeout_s)

    async def _service(self, url: str, notice: Notice) -> str | None:
        """Send it through a service of apprise, such as `slack://` or `mailto://`."""
        try:
            from apprise import Apprise
        except ImportError:
            return "services such as slack:// need apprise: `pip install 'opskit[notices]'`"
        service = Apprise()
        if not service.add(url):
            return NO_URL
        kind = "failure" if notice.level in _LOUD else "info"
        try:
            async with asyncio.timeout(self._config.timeout_s):
                text = _sentences(notice)
                taken = await service.async_notify(
                    title=f"opskit: {notice.title}", body=text, notify_type=kind
                )
        except TimeoutError:
            return f"no answer within {self._config.timeout_s:g} s"
        return None if taken else "the service did not take it"

    async def _command(self, document: bytes) -> str | None:
        if not self._config.command:
            raise ChannelOff("not configured: notices.command")
        return await self._program(self._config.command, document + b"\n")

    async def ping(self, kind: str, run_id: str, body: str) -> str | None:
        if not self._config.ping:
            raise ChannelOff("not configured: notices.ping")
        try:
            url = _ping_url(self._config.ping, kind, run_id)
        except ValueError:
            return NO_URL
        cut = body.encode("utf-8", "replace")[:PING_BODY_BYTES].decode("utf-8", "ignore").encode()
        request = WebhookRequest(cut, "text/plain; charset=utf-8", uuid.uuid4().hex)
        return await post(url, request, timeout_s=self._config.timeout_s)

    async def _program(self, argv: tuple[str, ...], stdin: bytes) -> str | None:
        try:
            async with asyncio.timeout(self._config.timeout_s):
                done = await run(argv, env=self._environ, stdin=stdin)
        except NotStarted as why:
            return self._harmless(why.message)
        except TimeoutError:
            return f"no end within {self._config.timeout_s:g} s; it was killed"
        if done.exit == 0:
            return None
        end = f"killed by signal {-done.exit}" if done.exit < 0 else f"exit {done.exit}"
        return self._harmless(f"{end}: {done.complaint}" if done.err.strip() or done.out.strip() else end)

    def _harmless(self, text: str) -> str:
        """Foreign words without our addresses: a command may well repeat what it was given."""
        for secret in (self._config.webhook, self._config.ping):
            if secret:
                text = text.replace(str(secret), "***")
        return text


class NoticesBeside:
    """Sends the notices of a run beside it, one after the other, so that none slows a repair."""

    def __init__(self, notifier: Notifier, timeout_s: float) -> None:
        self._notifier = notifier
        self._limit_s = _WAITS * timeout_s
        self._waiting: deque[Notice] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def __call__(self, notice: Notice) -> None:
        """Take a notice; it is sent when earlier ones are."""
        self._waiting.append(notice)
        if self._sender is None or self._sender.done():
            self.begin()

    def begin(self, run_id: str | None = None) -> None:
        """Begin to send; first of all, with a run, that it begins."""
        self._sender = asyncio.create_task(self._send(run_id))

    async def end(self, limit_s: float | None = None) -> None:
        """Wait for all of them, within a bound; what is not sent by then is remembered as undelivered."""
        limit_s = self._limit_s if limit_s is None else limit_s
        if self._sender is not None:
            await asyncio.wait({self._sender}, timeout=limit_s)
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        for notice in self._waiting:
            self._notifier.keep_unsent(notice, f"the run waited {limit_s:g} s for its notices")

    async def _send(self, run_id: str | None) -> None:
        if run_id is not None:
            await self._notifier.ping_start(run_id)
        while self._waiting:
            await self._notifier(self._waiting[0])
            self._waiting.popleft()


async def trial(
    config: NoticeConfig, environ: Mapping[str, str], platform: str, clock: Callable[[], float]
) -> Report:
    """Send a test to every channel, and report each. Nothing is remembered, and no limit of rate holds.

    A ping service gets a line for its log, which changes nothing there.
    """
    notifier = Notifier(config, Memory(Path()), environ, platform, clock)
    text, remedy = f"Notices of opskit on {socket.gethostname()} arrive here.", "Nothing is to be done."
    notice = Notice.of(Level.TEST, "test", text, remedy, at=clock(), run=str(uuid.uuid4()))
    async with asyncio.TaskGroup() as group:
        deliveries = group.create_task(notifier.deliver(notice))
        ping = group.create_task(
            notifier.delivered("ping", notifier.ping("log", uuid.uuid4().hex, "opskit: a test"))
        )
    return Report("status --test-notice", [*deliveries.result(), ping.result()])


def _delivery(channel: str, state: str, why: str, seconds: float = 0.0) -> Finding:
    """Return what became of a notice on one channel; `off` is a channel that is not there."""
    remedy = f"correct `notices.{channel}`, then try again" if state == "failed" else None
    return Finding("notice", channel, _STATUS[state], state, why, None, remedy, seconds)


def desktop_command(notice: Notice, platform: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the program that shows a notice to who is logged in: `osascript` on a Mac, else `notify-send`.

    Foreign text is always an argument, never part of a script. Raises ChannelOff where there is no desktop.
    """
    name = "osascript" if platform == "darwin" else "notify-send"
    program = shutil.which(name, path=environ.get("PATH", ""))
    if program is None:
        raise ChannelOff(f"there is no {name}")
    # No option begins like this title, so that nothing of the text is taken for one.
    title, text = _plain(f"opskit: {notice.title}", _TITLE_CHARS), _plain(_sentences(notice), _TEXT_CHARS)
    if platform == "darwin":
        return (program, *_SCRIPT, title, text)
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    bus = runtime.startswith("/") and (Path(runtime) / "bus").exists()  # where libdbus looks for it
    if not bus and not environ.get("DBUS_SESSION_BUS_ADDRESS"):
        raise ChannelOff("there is no desktop session (no session bus)")
    urgency = "critical" if notice.level in _LOUD else "normal"
    # The body is markup, in which notify-send itself replaces escapes such as \n.
    body = escape(text, quote=False).replace("\\", "\\\\")
    return (program, "--app-name=opskit", f"--urgency={urgency}", "--", title, body)


def _sentences(notice: Notice) -> str:
    return " ".join(part for part in (notice.text, notice.remedy) if part)


def _plain(text: str, most: int) -> str:
    """Valid text on one line: desktops refuse what is no UTF-8, arguments a zero byte."""
    return shortened(" ".join(printable(text).split()), most)


def _ping_url(url: str, kind: str, run_id: str) -> str:
    """`{url}/{kind}?rid=`; a run id that is no UUID becomes one. Raises ValueError."""
    try:
        rid = uuid.UUID(run_id)
    except ValueError:
        rid = uuid.uuid5(uuid.NAMESPACE_OID, run_id)
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, urlencode({"rid": str(rid)})) if part)
    return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{kind}", query, ""))
