"""What `docker compose ps --format json` says, in each of the shapes its versions have used. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opskit.system.docker_records import SERVICE

_ONE_OFF = "com.docker.compose.oneoff"


@dataclass(frozen=True, slots=True)
class Member:
    """One container of a project. `health` is none without a health check."""

    service: str
    name: str
    state: str
    health: str
    exit_code: int | None

    @property
    def up(self) -> bool:
        return self.state == "running" and self.health in ("healthy", "none")

    @property
    def words(self) -> str:
        health = f", {self.health}" if self.health != "none" else ""
        code = f" with {self.exit_code}" if self.state == "exited" and self.exit_code is not None else ""
        return f"{self.state}{code}{health}"


def members(text: str) -> list[Member]:
    """An array (2.20 and before), an object on each line (since 2.21), a single object, or nothing.

    Raises ValueError for anything else.
    """
    bare = text.strip()
    if not bare:
        return []
    found = json.loads(bare) if bare.startswith("[") else _each(bare)
    if not all(isinstance(one, Mapping) for one in found):
        raise ValueError("compose ps did not write objects")
    return [_member(one) for one in found]


def _each(text: str) -> list[Any]:
    """Objects one after the other, on a line each or not."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(text):
        one, end = decoder.raw_decode(text, at)
        found.append(one)
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return found


def _member(one: Mapping[str, Any]) -> Member:
    code = one.get("ExitCode")
    return Member(
        str(one.get("Service") or one.get("Name") or ""),
        str(one.get("Name") or one.get("Service") or ""),
        str(one.get("State") or "unknown").lower(),
        str(one.get("Health") or "none").lower(),
        code if isinstance(code, int) else None,
    )


def inspected(item: Mapping[str, Any]) -> Member | None:
    """The same out of `docker inspect`, for compose 1; None for a container of `compose run`."""
    labels = item["Config"]["Labels"] or {}
    if labels.get(_ONE_OFF, "False").lower() == "true":
        return None
    state = item["State"]
    health = (state.get("Health") or {}).get("Status") or "none"
    return Member(
        labels.get(SERVICE, ""), item["Name"].lstrip("/"), state["Status"], health, state.get("ExitCode")
    )
