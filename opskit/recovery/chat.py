"""A real chat with an agent that has just come up (SPEC C1, C10): status, seconds, and a judged answer."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from opskit.checks.kinds.agents import APIS, Api
from opskit.config.schema import Config
from opskit.facts.container import Container
from opskit.llm.verdict import judge
from opskit.providers.base import CallError
from opskit.providers.http import HttpClient
from opskit.result import Finding, Status

_POLL_S = 0.5
PROMPT = "Reply with the single word ready."
#: Where agents put the text of an answer.
_TEXTS = ("response", "reply", "answer", "output", "message", "text", "content", "result", "code", "review")


def address(config: Config, names: Sequence[str], container: Container | None) -> str | None:
    """Return where an agent answers: its configured address, else the port that its container publishes.

    On the host's network a container publishes nothing: then it is the agent's usual port.
    """
    for name in names:
        if (agent := config.agent_named(name)) is not None:
            return agent.url
    if container is None:
        return None
    api = _api(names)
    published: dict[str, int] = {}
    for port in container.ports:
        if port.inside.endswith("/tcp") and port.host_port is not None:
            published.setdefault(port.inside, port.host_port)
    if published:
        usual = None if api is None else published.get(f"{api.port}/tcp")
        return f"http://127.0.0.1:{usual or next(iter(published.values()))}"
    return f"http://127.0.0.1:{api.port}" if api is not None and container.network_mode == "host" else None


async def chat(url: str, names: Sequence[str], *, healthy_s: float, limit_s: float) -> Finding:
    """Ask one question and judge the answer. `names` are the agent's, the first is shown. Never raises.

    Its `GET /health` may take up to `healthy_s` to answer well, the question itself `limit_s`.
    """
    api = _api(names)
    path, body = next(iter(api.asks.items())) if api is not None else ("/chat", {"message": PROMPT})
    http = HttpClient(url)
    try:
        await _wait_until_healthy(http, healthy_s)
        began = time.monotonic()
        reply = await http.post_json(path, body, timeout_s=limit_s)
    except CallError as error:
        took_s = time.monotonic() - began
        status = f"HTTP {error.status}: " if error.status else ""
        why = f"POST {url}{path} failed after {took_s:.1f} s: {status}{error.text}"
        return Finding("chat", names[0], Status.FAIL, error.cause.value, why, "COMM_001", seconds=took_s)
    finally:
        await http.aclose()
    took_s, text = time.monotonic() - began, text_of(reply)
    verdict = judge(text, (PROMPT,), length_is_fine=True)
    evidence, why = {"answer": text[:500], "status": 200}, f"POST {url}{path} answered in {took_s:.1f} s"
    if verdict is not None:
        why += f", and that is no answer: {verdict.value}"
        return Finding("chat", names[0], Status.FAIL, verdict.value, why, "GEN_001", None, took_s, evidence)
    why += f": {' '.join(text.split())[:80]}"
    return Finding("chat", names[0], Status.PASS, "ok", why, seconds=took_s, evidence=evidence)


async def _wait_until_healthy(http: HttpClient, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(CallError):
            if (await http.get("/health")).status_code < 300:
                return
        if time.monotonic() + _POLL_S > deadline:
            return
        await asyncio.sleep(_POLL_S)


def text_of(reply: Any) -> str:
    """Return the text of an answer, wherever it stands in the reply; empty when there is none. Pure."""
    if isinstance(reply, str):
        return reply
    texts = (text_of(reply.get(key)) for key in _TEXTS) if isinstance(reply, Mapping) else ()
    return next((text for text in texts if text.strip()), "")


def _api(names: Sequence[str]) -> Api | None:
    """The interface of the agent of SPEC C1 and D that one of these names speaks of."""
    return next((api for agent, api in APIS.items() for name in names if agent in name.lower()), None)
