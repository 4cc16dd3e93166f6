"""What is told to people when recovery gives up, heals, or needs them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from opskit.recovery.budget import Level
from opskit.result import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Notice:
    """One message. `text` is whole sentences, `remedy` what a person types next; `at` is RFC 3339 in UTC."""

    level: Level
    target: str
    title: str
    text: str
    at: str
    host: str
    run: str
    remedy: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "level": self.level.value,
            "target": self.target,
            "title": self.title,
            "text": self.text,
            "remedy": self.remedy,
            "at": self.at,
            "host": self.host,
            "run": self.run,
        }


#: Sends a notice wherever the configuration says. Never raises, and ends in bounded time.
Tell = Callable[[Notice], Awaitable[None]]
