"""What keeps a process running, in the words that a person types: its restart and its log."""

import asyncio
import getpass
import os
import re
import shlex
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from opskit.facts.environment import OLLAMA_SETTINGS, RUNTIME_SETTINGS
from opskit.facts.survey import Survey
from opskit.llm.faults import FaultKind
from opskit.providers.kinds import ServerKind
from opskit.records import Record, replace
from opskit.system.host import is_loopback
from opskit.system.network import endpoint
from opskit.system.services import restart_by_hand

if TYPE_CHECKING:
    from opskit.facts.node import NodeFacts
    from opskit.facts.port_owner import PortOwner

_ABSENCES = (FaultKind.REFUSED, FaultKind.UNREACHABLE)
#: The value of a header, and the password of a URL.
_SECRET_PART = re.compile(
    r"(?i)(\b[\w-]*(?:auth|key|token|secret|cookie)[\w-]*: *|://[^\s/:@]*:)[^\s@].*?(?=@|$)"
)
_SECRET_OPTION = re.compile(r"--?[\w-]*(key|token|secret|password|passwd|auth)", re.IGNORECASE)


class Upkeep(Record):
    """Commands in backquotes; empty where nothing is known."""

    restart: str = ""
    log: str = ""


def upkeep_of(owner: "PortOwner | None", *, user: str, uid: int) -> Upkeep:
    """Return how the process on a port is restarted, by whatever keeps it, and where its log is. Pure.

    `user` and `uid` are of the person who types.
    """
    service = None if owner is None else owner.service
    if owner is None or service is None:
        return Upkeep()
    files = f"`tail -n 50 {shlex.quote(owner.logs[0])}`" if owner.logs else ""
    restart = restart_by_hand(service, user=user, uid=uid)
    if restart is None:
        return Upkeep(_again(owner, user), files)
    if service.kind == "container":
        return Upkeep(restart, f"`docker logs --tail 50 {service.name}`")
    if service.kind == "systemd":
        scope = "--user " if service.domain == "user" else ""
        return Upkeep(restart, files or f"`journalctl {scope}-u {service.name} -n 50`")
    return Upkeep(restart, files)


def upkeep_here(owner: "PortOwner | None") -> Upkeep:
    """Return the upkeep of a process for the user who runs opskit."""
    return upkeep_of(owner, user=getpass.getuser(), uid=os.geteuid())


async def read_upkeep(survey: Survey, url: str) -> Upkeep:
    """Read what keeps the server at an address; empty where it is on another machine."""
    if not is_loopback(url):
        return Upkeep()
    from opskit.facts.port_owner import read_port  # it imports the client of Docker

    return upkeep_here((await survey.get(read_port, "tcp", endpoint(url)[1])).loopback_owner)


def kept(kind: ServerKind, upkeep: Upkeep) -> ServerKind:
    """Return a kind of server with the restart and the log of the process that runs."""
    log = upkeep.log or ("its output, where it was started," if kind.log else "")
    return replace(kind, restart=upkeep.restart, log=log) if upkeep.restart else kind


async def with_upkeep(
    survey: Survey, nodes: Sequence["NodeFacts"], failing: Collection[str] = ()
) -> list["NodeFacts"]:
    """Return the nodes, with the restart and the log of the process that runs where their findings name them.

    That is where a node that listens did not tell everything, and where its name is one of `failing`; what is
    no model server at all is left alone.
    """
    ill = [
        facts
        for facts in nodes
        if facts.silence is not None
        or (facts.fault is not None and facts.fault.kind not in _ABSENCES and not facts.is_stranger)
        or facts.config.name in failing
    ]
    upkeeps = await asyncio.gather(*(read_upkeep(survey, facts.config.url) for facts in ill))
    kinds = {
        facts.config.name: kept(facts.likely_kind, upkeep) for facts, upkeep in zip(ill, upkeeps, strict=True)
    }
    return [replace(facts, kind=kinds.get(facts.config.name, facts.kind)) for facts in nodes]


def _again(owner: "PortOwner", user: str) -> str:
    """Return how a process that nothing keeps is ended, and started as it was."""
    process = owner.process
    if process is None:
        return ""
    known = {} if owner.environment is None else owner.environment.settings
    names = sorted(known.keys() & (OLLAMA_SETTINGS | RUNTIME_SETTINGS))
    words = [*(f"{name}={known[name]}" for name in names), *words_without_secrets(process.command)]
    line = shlex.join(words)
    if owner.folder is not None:
        line = f"cd {shlex.quote(str(owner.folder))} && {line}"
    sudo = "" if process.user == user else "sudo "
    return f"`{sudo}kill {process.pid}`, then `{line}`"


def words_without_secrets(command: Sequence[str]) -> list[str]:
    """Return the words with `***` for what may be a secret: the value of an option, a header, a password."""
    words: list[str] = []
    for raw in command:
        word = _SECRET_PART.sub(r"\1***", raw)
        name, sign, _ = word.partition("=")
        is_value = bool(words) and "=" not in words[-1] and _SECRET_OPTION.fullmatch(words[-1]) is not None
        if sign and _SECRET_OPTION.fullmatch(name):
            words.append(f"{name}=***")
        else:
            words.append("***" if is_value and not word.startswith("-") else word)
    return words
