"""One POST to an address that is a secret: tried three times, and never named in what is said about it."""

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opskit import __version__
from opskit.records import Record
from opskit.text import counted

if TYPE_CHECKING:
    import httpx

_TRIES = 3
#: Before the second try; three times as long before the third.
_PAUSE_S = 0.25
#: What a server may say once and not again. Other 4xx are about the request and stay.
_PASSING = (408, 425, 429)
NO_URL = "its address is no URL such as https://host/path"


class WebhookRequest(Record):
    """What is posted. `key` is the same for each try, so that a receiver can drop a second copy."""

    body: bytes
    content_type: str
    key: str


async def post(url: str, request: WebhookRequest, *, timeout_s: float) -> str | None:
    """Return None when the server took it (2xx), else why not. `timeout_s` bounds all tries together.

    Refused and broken connections, 5xx, 408, 425 and 429 are tried again after a pause, or after what
    Retry-After asks for. A server that does not answer is not asked twice: it may have taken the first. The
    proxies of the environment are used as httpx uses them, but not for loopback.
    """
    import httpx

    from opskit.system.host import is_loopback

    if not _is_usable(url):
        return NO_URL
    # What has connected may take all the time that remains: slow is not dead.
    limits, verify = httpx.Timeout(None, connect=timeout_s / _TRIES), url.startswith("https")
    clock, why, tries, pause_s = asyncio.get_running_loop().time, "", 0, min(_PAUSE_S, timeout_s / 20)
    deadline = clock() + timeout_s
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(timeout=limits, verify=verify, trust_env=not is_loopback(url)) as client,
        ):
            while True:
                tries += 1
                why, wait_s = await _refusal(client, url, request)
                if wait_s is None or tries == _TRIES or clock() + max(wait_s, pause_s) >= deadline:
                    break
                await asyncio.sleep(max(wait_s, pause_s))
                pause_s *= 3
    except TimeoutError:
        return f"no answer within {timeout_s:g} s{f' (before: {why})' if why else ''}"
    except (ImportError, ValueError):
        return "the proxy of the environment is of a kind that opskit does not speak"
    if not why:
        return None
    return why + (f", {counted(tries, 'time')}" if tries > 1 else "")


async def _refusal(
    client: "httpx.AsyncClient", url: str, request: WebhookRequest
) -> tuple[str, float | None]:
    """Return why one try failed, empty where it did not, and after how long another may help, if any."""
    from opskit.providers.base import CallError
    from opskit.providers.failures import retry_after, translated

    headers = {
        "User-Agent": f"opskit/{__version__}",
        "Content-Type": request.content_type,
        "Idempotency-Key": request.key,
    }
    try:
        with translated("request"):
            # The body of the answer is not read.
            async with client.stream("POST", url, content=request.body, headers=headers) as answer:
                status = answer.status_code
    except CallError as error:
        return error.text, 0.0
    if answer.is_success:
        return "", None
    moved = ": it has moved, and no other address is used" if answer.has_redirect_location else ""
    passing = status >= 500 or status in _PASSING
    wait_s = retry_after(answer.headers.get("retry-after")) or 0.0
    return f"it answers HTTP {status}{moved}", wait_s if passing else None


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_parts = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return False
    return bool(has_parts) and url.isprintable() and " " not in url
