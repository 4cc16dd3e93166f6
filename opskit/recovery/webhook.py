"""One POST to an address that is a secret: tried three times, and never named in what is said about it."""

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from opskit import __version__
from opskit.records import Record
from opskit.text import counted

if TYPE_CHECKING:
    import httpx

_TRIES = 3
_HOPS = 3
#: Before the second try; three times as long before the third.
_PAUSE_S = 0.25
_MOVED = (301, 302, 307, 308)
#: What a server may say once and not again. Other 4xx are about the request and stay.
_PASSING = (408, 425, 429)
NO_URL = "its address is no URL such as https://host/path"


class WebhookRequest(Record):
    """What is posted. `key` is the same for each try, so that a receiver can drop a second copy."""

    body: bytes
    content_type: str
    key: str


class _Refusal(Exception):  # noqa: N818 - an answer, not an error
    """An answer that is no success. `wait_s` is None when another try is of no use."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.wait_s = wait_s


async def post(url: str, request: WebhookRequest, *, timeout_s: float) -> str | None:
    """Return None when the server took it (2xx), else why not. `timeout_s` bounds all tries together.

    Refused and broken connections, 5xx, 408, 425 and 429 are tried again after a pause, or after what
    Retry-After asks for. A redirection is followed on the same host, by POST again. A server that does not
    answer is not asked twice: it may have taken the first. The proxies of the environment are used as httpx
    uses them, but not for loopback.
    """
    import opskit.providers.failures  # noqa: F401 - it brings httpx, whose import is not the server's time

    refusals: list[str] = []
    try:
        async with asyncio.timeout(timeout_s):
            return await _tried(url, request, timeout_s, refusals)
    except TimeoutError:
        before = f" (before: {refusals[-1]})" if refusals else ""
        return f"no answer within {timeout_s:g} s{before}"


async def _tried(url: str, request: WebhookRequest, timeout_s: float, refusals: list[str]) -> str | None:
    """Try until it is taken. A retry library would wait for a Retry-After that ends after the deadline."""
    clock = asyncio.get_running_loop().time
    deadline, pause_s = clock() + timeout_s, min(_PAUSE_S, timeout_s / 20)
    while len(refusals) < _TRIES:
        try:
            await _deliver(url, request, timeout_s)
        except _Refusal as refusal:
            refusals.append(refusal.why)
            if refusal.wait_s is None:
                break
            wait_s = max(refusal.wait_s, pause_s)
        else:
            return None
        pause_s *= 3
        if len(refusals) == _TRIES or clock() + wait_s >= deadline:
            break
        await asyncio.sleep(wait_s)
    return refusals[-1] + (f", {counted(len(refusals), 'time')}" if len(refusals) > 1 else "")


async def _deliver(url: str, request: WebhookRequest, timeout_s: float) -> None:
    """One try with its redirections. The body of the answer is not read. Raises _Refusal."""
    from opskit.providers.base import CallError
    from opskit.providers.failures import retry_after, translated

    headers = {"Content-Type": request.content_type, "Idempotency-Key": request.key}
    for _ in range(_HOPS + 1):
        try:
            async with _client(url, timeout_s) as client:
                with translated("request"):
                    async with client.stream("POST", url, content=request.body, headers=headers) as response:
                        status, answer = response.status_code, response.headers
        except CallError as error:
            raise _Refusal(error.text, 0.0) from None
        if 200 <= status < 300:
            return
        if status in _MOVED and (location := answer.get("location")):
            url = _moved(url, location)
            continue
        passing = status >= 500 or status in _PASSING
        wait_s = retry_after(answer.get("retry-after")) or 0.0
        raise _Refusal(f"it answers HTTP {status}", wait_s if passing else None)
    raise _Refusal("it redirects again and again")


def _client(url: str, timeout_s: float) -> "httpx.AsyncClient":
    """Raises _Refusal for what cannot be asked."""
    import httpx

    from opskit.system.host import is_loopback

    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise _Refusal(NO_URL)
    try:
        return httpx.AsyncClient(
            headers={"User-Agent": f"opskit/{__version__}"},
            # What has connected may take all the time that remains: slow is not dead.
            timeout=httpx.Timeout(None, connect=timeout_s / _TRIES),
            verify=parts.scheme == "https",
            trust_env=not is_loopback(url),
        )
    except (ImportError, ValueError):
        raise _Refusal("the proxy of the environment is of a kind that opskit does not speak") from None


def _moved(url: str, location: str) -> str:
    try:
        source, target = urlsplit(url), urlsplit(urljoin(url, location))
    except ValueError:
        raise _Refusal("it redirects to an address that is no URL") from None
    if target.hostname != source.hostname or target.scheme not in (source.scheme, "https"):
        raise _Refusal("it redirects to another host, which is not followed")
    return target.geturl()
