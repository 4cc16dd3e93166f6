"""One POST to an address that is a secret: tried three times, and never named in what is said about it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from opskit import __version__

if TYPE_CHECKING:
    import httpx

_TRIES = 3
_HOPS = 3
#: Before the second try; three times as long before the third.
_PAUSE_S = 0.25
_MOVED = (301, 302, 307, 308)
#: What a server may say once and not again. Other 4xx are about the request and stay.
_PASSING = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What is posted. `key` is the same for each try, so that a receiver can drop a second copy."""

    body: bytes
    content_type: str
    key: str


class _Refusal(Exception):  # noqa: N818 - an answer, not an error
    """An answer that is no success. `wait_s` is None when asking again is of no use."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.wait_s = wait_s


async def post(
    url: str, letter: WebhookRequest, *, environ: Mapping[str, str], timeout_s: float
) -> str | None:
    """None when the server took it (2xx), else why not. `timeout_s` bounds all tries together.

    Refused and broken connections, 5xx, 408, 425 and 429 are tried again after a pause, or after what
    Retry-After asks for. A redirection is followed on the same host, by POST again. A server that does not
    answer is not asked twice: it may have taken the first.
    """
    import opskit.providers.failures  # noqa: F401 - it brings httpx, whose import is not the server's time

    said: list[str] = []
    try:
        async with asyncio.timeout(timeout_s):
            return await _tried(url, letter, environ, timeout_s, said)
    except TimeoutError:
        before = f" (before: {said[-1]})" if said else ""
        return f"no answer within {timeout_s:g} s{before}"


async def _tried(
    url: str, letter: WebhookRequest, environ: Mapping[str, str], timeout_s: float, said: list[str]
) -> str | None:
    until = asyncio.get_running_loop().time() + timeout_s
    for number in range(_TRIES):
        try:
            await _delivered(url, letter, environ, timeout_s)
        except _Refusal as refusal:
            said.append(refusal.why)
            if refusal.wait_s is None or number == _TRIES - 1:
                break
            pause_s = max(refusal.wait_s, min(_PAUSE_S, timeout_s / 20) * 3**number)
            if asyncio.get_running_loop().time() + pause_s >= until:
                break
            await asyncio.sleep(pause_s)
        else:
            return None
    return said[-1] + (f", {len(said)} times" if len(said) > 1 else "")


async def _delivered(url: str, letter: WebhookRequest, environ: Mapping[str, str], timeout_s: float) -> None:
    """One try with its redirections. Raises _Refusal."""
    for _ in range(_HOPS + 1):
        moved = await _sent(url, letter, environ, timeout_s)
        if moved is None:
            return
        url = moved
    raise _Refusal("it redirects again and again")


async def _sent(url: str, letter: WebhookRequest, environ: Mapping[str, str], timeout_s: float) -> str | None:
    """Where it has moved to, None when it was taken. The body of the answer is not read. Raises _Refusal."""
    from opskit.providers.base import CallError
    from opskit.providers.failures import retry_after, translated

    parts = _address(url)
    headers = {"Content-Type": letter.content_type, "Idempotency-Key": letter.key}
    try:
        with translated("request"):
            async with (
                _client(parts, url, environ, timeout_s) as client,
                client.stream("POST", url, content=letter.body, headers=headers) as response,
            ):
                status, heads = response.status_code, response.headers
    except CallError as error:
        raise _Refusal(error.text, 0.0) from None
    if 200 <= status < 300:
        return None
    if status in _MOVED and (location := heads.get("location")):
        return _moved(parts, url, location)
    passing = status >= 500 or status in _PASSING
    wait_s = retry_after(heads.get("retry-after")) or 0.0
    raise _Refusal(f"it answers HTTP {status}", wait_s if passing else None)


def _address(url: str) -> SplitResult:
    """Raises _Refusal for what cannot be asked."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isprintable() or " " in url:
        raise _Refusal("its address is no URL such as https://host/path")
    return parts


def _moved(parts: SplitResult, url: str, location: str) -> str:
    try:
        target = urlsplit(urljoin(url, location))
    except ValueError:
        raise _Refusal("it redirects to an address that is no URL") from None
    if target.hostname != parts.hostname or target.scheme not in (parts.scheme, "https"):
        raise _Refusal("it redirects to another host, which is not followed")
    return target.geturl()


def _client(
    parts: SplitResult, url: str, environ: Mapping[str, str], timeout_s: float
) -> "httpx.AsyncClient":
    """Through the proxy of the environment where there is one. Raises _Refusal."""
    import httpx

    from opskit.providers.transport import transport

    proxy = _proxy(parts, environ)
    # What has connected may take all the time that is left: slow is not dead.
    timeout = httpx.Timeout(None, connect=timeout_s / _TRIES)
    headers = {"User-Agent": f"opskit/{__version__}"}
    if proxy is None:
        carrier = transport(url, pooled=False)
        return httpx.AsyncClient(headers=headers, timeout=timeout, transport=carrier, trust_env=False)
    return httpx.AsyncClient(headers=headers, timeout=timeout, proxy=proxy, trust_env=False)


def _proxy(parts: SplitResult, environ: Mapping[str, str]) -> str | None:
    """As curl does it: `https_proxy`, `all_proxy`, `no_proxy`, in either case; never for loopback."""
    # The rule of urllib for no_proxy, which typeshed does not know.
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    from opskit.system.host import is_loopback

    host = parts.hostname or ""

    def named(name: str) -> str:
        return environ.get(name) or environ.get(name.upper()) or ""

    proxy = named(f"{parts.scheme}_proxy") or named("all_proxy")
    if not proxy or is_loopback(parts.geturl()) or proxy_bypass_environment(host, {"no": named("no_proxy")}):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise _Refusal("the proxy of the environment is of a kind that opskit does not speak")
    return proxy
