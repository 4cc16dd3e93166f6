"""The kind that asks a web server: status, headers, body and JSON, read up to a bound."""

import json
from dataclasses import field
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from opskit.checks.spec import CheckContext, Observation, kind
from opskit.config.fields import AnyText, Bytes, Flag, Text, parameters
from opskit.facts.endpoint import NO_JSON, EndpointRequest, fetch
from opskit.providers.base import CallError
from opskit.system.network import authority

_SHOWN_CHARS = 300


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL such as http://localhost:8010/health")
    if not text.isprintable() or " " in text:
        raise ValueError("holds a character that has no place in a URL")
    return text


Url = Annotated[Text, AfterValidator(_address)]


@parameters
class HttpParams:
    url: Url
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[Text, AnyText] = field(default_factory=dict)
    body: AnyText | None = None
    send: Any = None
    follow: Flag = False
    insecure: Flag = False
    max_bytes: Bytes = 1024 * 1024


def without_secrets(url: str) -> str:
    """Return a URL for a report, without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{authority(parts.hostname or '', parts.port)}{parts.path}"


@kind(
    "a web server answers; `send` is a JSON body, `body` a plain one",
    {
        "status": "status code",
        "headers": "headers, names in lower case",
        "body": "text, as far as max_bytes go",
        "json": "the parsed body; keys are JSONPaths",
        "size_bytes": "bytes that were read",
        "truncated": "whether there was more than max_bytes",
        "first_byte_s": "seconds until the head was there",
        "seconds": "seconds until the body was there",
        "error": "refused, name, reset, tls, ..., or null",
    },
    {"status": {"lt": 400}},
    lambda p: without_secrets(p.url),
    imports=("httpx", "opskit.providers.transport"),
)
async def http(params: HttpParams, context: CheckContext) -> Observation:
    headers, body = dict(params.headers), params.body
    if params.send is not None:
        body = json.dumps(params.send, ensure_ascii=False)
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
    request = EndpointRequest(
        url=params.url,
        method=params.method,
        headers=tuple(headers.items()),
        body=None if body is None else body.encode(),
        follow=params.follow,
        insecure=params.insecure,
        max_bytes=params.max_bytes,
    )
    try:
        # The only deadline is the check's.
        reply = await fetch(context.survey, request)
    except CallError as error:
        values: dict[str, Any] = {"error": error.cause.value}
        problem = f"{params.method} {without_secrets(params.url)}: {error.text}"
        return Observation(values, problem=problem, state=error.cause.value, code="COMM_002")
    values = {
        "status": reply.status,
        "headers": reply.headers,
        "body": reply.text,
        "size_bytes": len(reply.body),
        "truncated": reply.truncated,
        "first_byte_s": reply.first_byte_s,
        "seconds": reply.seconds,
    }
    detail = f"HTTP {reply.status} in {reply.seconds:.3f} s"
    if "json" in context.wanted and (document := reply.json) is not NO_JSON:
        values["json"] = document
    elif "json" in context.wanted:
        detail += "; the body is no JSON"
    if reply.truncated:
        detail += f"; only the first {params.max_bytes} bytes were read"
    evidence = {"body": reply.text[:_SHOWN_CHARS]} if reply.status >= 400 else {}
    return Observation(values, detail, state="ok", evidence=evidence)
