"""The answer of the policy to one command."""

from enum import StrEnum

from opskit.records import Record


class Ruling(StrEnum):
    """`ask` needs the word of a person, `deny` is never run."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class Decision(Record):
    """What may happen to `argv`, by which rule, and why.

    `program` is the file that would be run, None where there is none. `network`: it needs the network or the
    sockets of the machine, `unconfined`: it would see too little in a sandbox. `user`: a person allowed it,
    so it may write in the workspace.
    """

    ruling: Ruling
    rule: str
    why: str
    argv: tuple[str, ...] = ()
    program: str | None = None
    network: bool = False
    unconfined: bool = False
    user: bool = False


class Objection(Record):
    """Why a command is not simply allowed."""

    rule: str
    why: str
