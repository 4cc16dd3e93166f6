"""A notice for trying the channels: `opskit status --test-notice`."""

import asyncio
import socket
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from opskit.config.schema import NoticeConfig
from opskit.recovery.budget import Level
from opskit.recovery.memory import Memory
from opskit.recovery.notice import Notice
from opskit.recovery.notifier import Delivery, Notifier, Sent
from opskit.result import Finding, Report, Status
from opskit.text import utc

_STATUS = {Sent.SENT: Status.PASS, Sent.FAILED: Status.FAIL, Sent.OFF: Status.SKIP}


async def trial(
    config: NoticeConfig, environ: Mapping[str, str], platform: str, clock: Callable[[], float]
) -> Report:
    """Tell every channel, and say how each went. Nothing is remembered, and no limit of rate holds.

    A ping service gets a line for its log, which changes nothing there.
    """
    notifier = Notifier(config, Memory(Path()), environ, platform, clock)
    at = utc(clock())
    host = socket.gethostname()
    notice = Notice(
        Level.TEST,
        "test",
        "this is a test",
        f"Notices of opskit on {host} arrive here.",
        at,
        host,
        str(uuid.uuid4()),
        "Nothing is to be done.",
    )
    async with asyncio.TaskGroup() as group:
        deliveries = group.create_task(notifier.deliver(notice))
        ping = group.create_task(notifier.deliver_ping("opskit: a test"))
    return Report(
        "status --test-notice", [_finding(delivery) for delivery in (*deliveries.result(), ping.result())]
    )


def _finding(delivery: Delivery) -> Finding:
    remedy = f"correct `notices.{delivery.channel}`, then try again" if delivery.sent is Sent.FAILED else None
    return Finding(
        "notice",
        delivery.channel,
        _STATUS[delivery.sent],
        delivery.sent.value,
        delivery.why,
        None,
        remedy,
        delivery.seconds,
    )
