"""What a watch tells, one after another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from opskit.result import SCHEMA_VERSION
from opskit.text import utc

Kind = Literal["tick", "state", "request", "error", "warning", "recovered"]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`at` is epoch seconds; `body` is ready for JSON."""

    kind: Kind
    at: float
    body: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, "at": utc(self.at), "event": self.kind, **self.body}
