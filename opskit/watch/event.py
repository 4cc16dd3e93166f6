"""What a watch tells, one after another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from opskit.result import SCHEMA_VERSION

Kind = Literal["tick", "state", "request", "error", "warning", "recovered"]


@dataclass(frozen=True, slots=True)
class Event:
    """`at` is epoch seconds; `body` is ready for JSON."""

    kind: Kind
    at: float
    body: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, "at": iso(self.at), "event": self.kind, **self.body}


def iso(at: float) -> str:
    """Epoch seconds as RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
