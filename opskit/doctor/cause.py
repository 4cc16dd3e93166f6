"""A cause, the checks that it explains, and the command that ends it."""

import shlex
from functools import partial
from typing import Any

from opskit.doctor.catalogue import CODE_OF
from opskit.records import Record
from opskit.result import Status


class Fix(Record):
    """A command, word by word, that ends a cause. Only a safe one is ever run, and only after a question.

    Safe means: it stops no work, loses no data, downloads nothing and changes no file. `target` is what it
    repairs, by the name under which recovery counts repairs and people pause them (`container:web`,
    `network`, `ollama`). `undo` is how a person takes it back.
    """

    command: tuple[str, ...]
    safe: bool = False
    target: str = ""
    undo: str = ""

    @property
    def text(self) -> str:
        """As a person would type it."""
        return shlex.join(self.command)

    def as_json(self) -> dict[str, Any]:
        return {"command": self.text, "safe": self.safe}


class Cause(Record, kw_only=True):
    """One thing that is wrong.

    `id` is an entry of the catalogue, `target` what it is about (a node, a container, a path); both together
    are its key. `evidence` are sentences that show it. `claims` are names of checks whose outcome it can
    explain, `because` keys of causes of which it would be a mere consequence. `code` is an entry of the error
    catalogue where that of its kind does not do.
    """

    id: str
    title: str
    evidence: tuple[str, ...]
    remedy: str
    target: str = ""
    claims: frozenset[str] = frozenset()
    because: tuple[str, ...] = ()
    fix: Fix | None = None
    status: Status = Status.FAIL
    code: str | None = None

    @property
    def error_code(self) -> str | None:
        return self.code or CODE_OF[self.id]

    @property
    def key(self) -> str:
        return key_of(self.id, self.target)


def claims_of_member(name: str) -> frozenset[str]:
    """Return the checks of a node or an agent."""
    return frozenset({f"node {name}", f"agent {name}"})


#: A cause of what works all the same, or worse than it could.
warning = partial(Cause, status=Status.WARN)


def key_of(identifier: str, target: str = "") -> str:
    return f"{identifier}:{target}" if target else identifier
