"""All explanations, and how one is looked up by its exact key."""

import re
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from opskit.errors import Exit, catalogue
from opskit.records import Record, asdict

_SPACES = re.compile(r"[\s_-]+")
#: Statuses that nginx, Ollama and others use without a registration.
PHRASES = {status.value: status.phrase for status in HTTPStatus if status >= 400} | {
    499: "Client Closed Request",
    529: "Overloaded",
}


class ExplanationKind(StrEnum):
    """What sort of word is explained. One word may be of two: `wedged` is a state and a fault."""

    CODE = "code"
    STATUS = "http status"
    STATE = "state"
    FAULT = "fault"
    VERDICT = "verdict"
    SYSTEM = "system error"


class Explanation(Record):
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
        return asdict(self) | {"see": list(self.see)}


def plain(key: str) -> str:
    """Return the key as it is compared: `Runner-Crashed`, `runner crashed` and `runner_crashed` are one."""
    return _SPACES.sub("_", key.strip().lower())


def load_yaml(name: str) -> dict[str, Any]:
    """Read a file of this package."""
    # The loader in C takes 8 ms, the one in Python 65.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = Path(__file__).with_name(name).read_text("utf-8")
    values: dict[str, Any] = yaml.load(content, loader)  # noqa: S506 - both loaders are safe
    return values


def _explanation(kind: ExplanationKind, key: str, text: dict[str, Any]) -> Explanation:
    """Return the explanation of one entry of the file. Raises TypeError for a key that is not known."""
    values: dict[str, Any] = {}
    if kind is ExplanationKind.STATUS:
        values |= {"title": PHRASES[int(key)], "http_status": int(key)}
    elif kind in (ExplanationKind.FAULT, ExplanationKind.VERDICT):
        values["code"] = "MODEL_004"
    elif "code" in text:
        values["http_status"] = catalogue()[text["code"]].http_status
    values |= text
    exit_status, see = Exit[values.pop("exit", "FAILED")], tuple(values.pop("see", ()))
    return Explanation(kind=kind, key=key, **values, exit=exit_status, see=see)


ENTRIES: tuple[Explanation, ...] = (
    *(Explanation(kind=ExplanationKind.CODE, key=code, **asdict(spec)) for code, spec in catalogue().items()),
    *(
        _explanation(ExplanationKind(kind), key, text)
        for kind, texts in load_yaml("texts.yaml").items()
        for key, text in texts.items()
    ),
)

_BY_NAME = {(entry.kind, plain(entry.key)): entry for entry in ENTRIES}


def entry_of(kind: ExplanationKind, key: str) -> Explanation | None:
    return _BY_NAME.get((kind, plain(key)))


def named(key: str) -> tuple[Explanation, ...]:
    """Return every explanation with this key, however it is written; a state precedes the fault behind it."""
    return tuple(entry for kind in ExplanationKind if (entry := entry_of(kind, key)) is not None)
