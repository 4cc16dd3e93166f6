"""What a watch tells."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from opskit.records import Record, field
from opskit.result import SCHEMA_VERSION
from opskit.text import utc

Kind = Literal["tick", "state", "request", "error", "warning", "recovered"]


class WatchEvent(Record):
    """`at` is epoch seconds; `body` is ready for JSON."""

    kind: Kind
    at: float
    body: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, "at": utc(self.at), "event": self.kind, **self.body}


class Emit(Protocol):
    """Takes an event as it happens. `at` is epoch seconds, now where it is 0."""

    def __call__(self, kind: Kind, body: Mapping[str, Any], at: float = 0.0) -> None: ...
