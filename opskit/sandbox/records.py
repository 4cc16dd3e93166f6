"""What a simulated server remembers of each request, and the part every one of them plays."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from opskit.sandbox.faults import FaultBoard


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it arrived."""

    at: float
    """`time.monotonic()` on arrival."""
    method: str
    path: str
    """Without the query."""
    model: str | None
    """The model as sent; None when the request named none."""
    body: dict[str, Any] | None
    """The JSON object sent; None when the body was absent or anything else."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Names in lower case."""


class SimNode(Protocol):
    """A simulated server: start and stop it, look at what it got, hang faults on its board."""

    name: str
    host: str
    port: int
    faults: FaultBoard
    requests: list[Recorded]

    @property
    def url(self) -> str:
        """Base URL without a trailing slash; known once started."""
        ...

    async def start(self) -> None:
        """Listen; the port of an earlier start is taken again."""
        ...

    async def stop(self) -> None:
        """Stop listening, drop every connection, leave no task and no thread; again is harmless."""
        ...

    async def __aenter__(self) -> Self:
        """Start."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        ...


def json_object(raw: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None for anything else."""
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def model_named(body: Mapping[str, Any] | None) -> str | None:
    """Return the model a request body names: `model`, or the `name` older Ollama clients send."""
    for key in ("model", "name"):
        value = (body or {}).get(key)
        if isinstance(value, str):
            return value
    return None
