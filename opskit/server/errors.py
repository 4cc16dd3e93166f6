"""How a server answers what it refuses: errors in the shape of the catalogue (SPEC C13), and its guard."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from opskit.errors import OpskitError, catalogue

_NO_OBJECT = "the body must be a JSON object in UTF-8, sent with `Content-Type: application/json`"
_DOCS = "`GET /docs` describes the paths"
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1", "")

Scope = MutableMapping[str, Any]


class Refusal(BaseModel):
    """What every error is answered with."""

    error_code: str
    error_message: str
    details: dict[str, Any]
    timestamp: float


_ANSWERS = {
    202: "Queued, or it needs an approval",
    204: "Nothing comes behind that event",
    400: "Not understood",
    401: "No or a wrong token",
    403: "Not addressed by a name of this machine",
    404: "No such run",
    409: "The approval is not open",
    413: "The body is too large",
    422: "Wrong values",
    500: "The run failed",
    503: "No model can answer, or the state cannot be kept",
    504: "No answer in time",
}
_ALWAYS = (401, 403, 422, 503)
#: What a body may be refused for.
OF_BODY = (400, 413)


def answers(*statuses: int, content: str = "") -> dict[int | str, dict[str, Any]]:
    """Return what the documentation of a path says of these answers, and of the errors of every path.

    `content` is the type of what it answers with, where that is no JSON.
    """
    refusal: dict[str, Any] = {"model": Refusal}
    described: dict[int | str, dict[str, Any]] = {
        status: {"description": _ANSWERS[status]} | (refusal if status >= 400 else {})
        for status in (*_ALWAYS, *statuses)
    }
    return described | ({200: {"content": {content: {"schema": {"type": "string"}}}}} if content else {})


def add_error_handlers(api: FastAPI) -> None:
    @api.exception_handler(OpskitError)
    async def expected(_: Request, error: OpskitError) -> JSONResponse:
        return JSONResponse(error.as_json(), status_code=error.spec.http_status)

    @api.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        path, why = request.url.path, str(error.detail)
        if error.status_code == 400:
            # The framework's words for a body that no reader of JSON takes: not UTF-8, too deep, too long.
            why = f"the request is not valid: {_NO_OBJECT}"
        if error.status_code in (404, 405) and why in ("Not Found", "Method Not Allowed"):
            what = f"{request.method} is not possible on" if error.status_code == 405 else "there is no path"
            why = f"{what} {path}"
        problem = OpskitError("VAL_002", why, remedy=_DOCS)
        headers = {"WWW-Authenticate": "Bearer"} if error.status_code == 401 else error.headers
        return JSONResponse(problem.as_json(), status_code=error.status_code, headers=headers)

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        """Name the places and what is wrong there, never the values."""
        problems = [
            {"loc": [str(part) for part in item["loc"]], "msg": item["msg"], "type": item["type"]}
            for item in error.errors()
        ]
        missing = any(item["type"] == "missing" for item in problems)
        why = "; ".join(f"{'.'.join(item['loc'])}: {item['msg']}" for item in problems)
        if any(item["type"] == "json_invalid" or item["loc"] == ["body"] for item in problems):
            why = _NO_OBJECT
        code = "VAL_003" if missing else "VAL_002"
        document = OpskitError(code, f"the request is not valid: {why}", remedy=_DOCS).as_json()
        document["details"]["problems"] = problems
        return JSONResponse(document, status_code=422)


def status_of(problem: Mapping[str, Any]) -> int:
    known = catalogue().get(str(problem.get("error_code")))
    return known.http_status if known is not None else 500


class Guard:
    """Refuses bodies that are too large, and names by which a page elsewhere could reach this machine."""

    def __init__(self, app: Callable[..., Awaitable[None]], hosts: frozenset[str], limit_bytes: int) -> None:
        self._app = app
        self._hosts = hosts
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if self._hosts and host not in self._hosts:
            why = f"this server is not addressed as {host!r}, but as localhost or 127.0.0.1"
            await _refuse(scope, receive, send, 403, why)
            return
        too_long = f"the body has more than {self._limit_bytes} bytes"
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limit_bytes:
            await _refuse(scope, receive, send, 413, too_long)
            return
        read = 0

        async def bounded() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit_bytes:
                raise HTTPException(413, too_long)
            return message

        await self._app(scope, bounded, send)


async def _refuse(scope: Scope, receive: Any, send: Any, status: int, why: str) -> None:
    document = OpskitError("VAL_002", why, remedy=_DOCS).as_json()
    await JSONResponse(document, status_code=status)(scope, receive, send)


def loopback_names(host: str) -> frozenset[str]:
    """Return the names by which a server that listens on loopback is addressed; empty for any other."""
    return frozenset(_LOOPBACK_NAMES) if host in _LOOPBACK_NAMES else frozenset()
