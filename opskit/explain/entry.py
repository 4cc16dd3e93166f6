"""One explanation: what a code, a status, a fault, a verdict or a state means on this stack."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from opskit.errors import CATALOGUE, Exit

_SPACES = re.compile(r"[\s_-]+")


class ExplanationKind(StrEnum):
    """What sort of word is explained. One word may be of two kinds: `wedged` is a fault and a state."""

    CODE = "code"
    STATUS = "http status"
    FAULT = "fault"
    VERDICT = "verdict"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class Explanation:
    """One explanation, each text a single line.

    `code` is the application code under which a failed run reports it, `http_status` the status seen with it
    on the wire, `exit` what the command that meets it exits with. `see` names other keys of the catalogue.
    """

    kind: ExplanationKind
    key: str
    title: str
    cause: str
    remedy: str
    code: str | None = None
    http_status: int | None = None
    exit: Exit = Exit.FAILED
    see: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "key": self.key,
            "title": self.title,
            "cause": self.cause,
            "remedy": self.remedy,
            "code": self.code,
            "http_status": self.http_status,
            "exit": int(self.exit),
            "see": list(self.see),
        }


def plain(key: str) -> str:
    """The key as it is compared: `Runner-Crashed`, `runner crashed` and `runner_crashed` are one."""
    return _SPACES.sub("_", key.strip().lower())


def of_codes() -> tuple[Explanation, ...]:
    """The application codes, as `opskit.errors` has them."""
    return tuple(
        Explanation(
            ExplanationKind.CODE,
            spec.code,
            spec.title,
            spec.cause,
            spec.remedy,
            spec.code,
            spec.http_status,
            spec.exit,
        )
        for spec in CATALOGUE.values()
    )
