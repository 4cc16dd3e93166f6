"""A real chat with an agent that has just come up (SPEC C1, C10): status, seconds, and a judged answer."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from opskit.checks.kinds.agents import APIS
from opskit.config.schema import Config
from opskit.facts.container import Container
from opskit.llm.verdict import judge
from opskit.providers.base import CallError
from opskit.providers.http import HttpClient
from opskit.result import Finding, Status

PROMPT = "Reply with the single word ready."
#: Where agents put the text of an answer.
_TEXTS = ("response", "reply", "answer", "output", "message", "text", "content", "result", "code", "review")


def address(config: Config, names: Sequence[str], container: Container | None) -> str | None:
    """Where an agent answers: its address in the configuration, else the port that its container publishes.

    On the host's network a container publishes nothing: then it is the agent's usual port.
    """
    for name in names:
        if (agent := config.agent(name)) is not None:
            return agent.url
    usual = _usual_port(names)
    published = {} if container is None else _published(container)
    if published:
        return f"http://127.0.0.1:{published.get(usual or 0) or next(iter(published.values()))}"
    host = container is not None and container.network_mode == "host"
    return f"http://127.0.0.1:{usual}" if host and usual is not None else None


async def chat(url: str, names: Sequence[str], *, limit_s: float, connect_s: float = 2.0) -> Finding:
    """One question and its judged answer. `names` are the agent's, the first is shown. Never raises."""
    path, body = _question(names)
    http = HttpClient(url, connect_s=connect_s)
    began = time.monotonic()
    try:
        reply = await http.post_json(path, body, timeout_s=limit_s)
    except CallError as error:
        took = time.monotonic() - began
        status = f"HTTP {error.status}: " if error.status else ""
        why = f"POST {url}{path} failed after {took:.1f} s: {status}{error.text}"
        return Finding("chat", names[0], Status.FAIL, error.cause.value, why, "COMM_001", seconds=took)
    finally:
        await http.aclose()
    took = time.monotonic() - began
    text = text_of(reply)
    verdict = judge(text, (PROMPT,), length_is_fine=True)
    evidence = {"answer": text[:500], "status": 200}
    if verdict is not None:
        why = f"POST {url}{path} answered in {took:.1f} s, and that is no answer: {verdict.value}"
        return Finding("chat", names[0], Status.FAIL, verdict.value, why, "GEN_001", None, took, evidence)
    why = f"POST {url}{path} answered in {took:.1f} s: {' '.join(text.split())[:80]}"
    return Finding("chat", names[0], Status.PASS, "ok", why, seconds=took, evidence=evidence)


async def healthy(url: str, connect_s: float = 2.0) -> bool:
    """Whether `GET /health` answers well."""
    http = HttpClient(url, connect_s=connect_s)
    try:
        return (await http.get("/health")).status_code < 300
    except CallError:
        return False
    finally:
        await http.aclose()


def text_of(reply: Any) -> str:
    """The text of an answer, wherever it stands in the reply; empty when there is none. Pure."""
    if isinstance(reply, str):
        return reply
    if not isinstance(reply, Mapping):
        return ""
    for key in _TEXTS:
        found = text_of(reply.get(key))
        if found.strip():
            return found
    return ""


def _question(names: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    known = _known(names)
    asks = APIS[known].asks if known is not None else {"/chat": {"message": PROMPT}}
    path = next(iter(asks))
    return path, asks[path]


def _usual_port(names: Sequence[str]) -> int | None:
    known = _known(names)
    return None if known is None else APIS[known].port


def _known(names: Sequence[str]) -> str | None:
    """The agent of SPEC C1 and D that one of these names speaks of."""
    return next((api for api in APIS for name in names if api in name.lower()), None)


def _published(container: Container) -> dict[int, int]:
    """Ports of this machine by the container's own, TCP only."""
    ports: dict[int, int] = {}
    for port in container.ports:
        number, _, protocol = port.inside.partition("/")
        if protocol == "tcp" and port.host_port is not None and number.isdecimal():
            ports.setdefault(int(number), port.host_port)
    return ports
