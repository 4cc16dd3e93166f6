"""The rules that opskit ships, which are data in `rules.yaml`, and the rules of the configuration."""

import re
import socket
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opskit.config.schema import Config
from opskit.config.values import CommandPattern, command_pattern
from opskit.config.yaml import parse
from opskit.records import Record, field, replace
from opskit.system.host import is_loopback


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


_FILE = Path(__file__).with_name("rules.yaml")
#: `-n=number`: the names of a flag, and the kind of its value.
_FLAG = re.compile(r"(?P<names>[^=?]+)(?:(?P<optional>\??)=(?P<kind>\w+))?")


class FlagRule(Record):
    """A flag that may be used. Without a kind it takes no value; an optional value is attached to it."""

    kind: str = ""
    optional: bool = False


class CommandRule(Record):
    """What may be written after a program or one of its commands. `rules.yaml` explains each word."""

    flags: Mapping[str, FlagRule] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    operands: tuple[str, ...] = ()
    repeated: bool = False
    requires: tuple[frozenset[str], ...] = ()
    commands: Mapping[str, "CommandRule"] = field(default_factory=dict)
    asks: frozenset[str] | None = None
    reads_all: frozenset[str] | None = None
    plain: bool = False
    dashless: bool = False
    here: bool = False
    network: bool = False
    unconfined: bool = False
    bare: bool = False
    repository: bool = False
    compose: bool = False


class ChildEnvironment(Record):
    """What a command learns: the variables that are `passed` on, and further ones with their values."""

    passed: tuple[str, ...]
    further: Mapping[str, str]


class ShippedRules(Record):
    """The rules of opskit. `denied` has the group and the reason of each name."""

    kinds: Mapping[str, re.Pattern[str]]
    secrets: tuple[str, ...]
    not_secrets: tuple[str, ...]
    denied: Mapping[str, tuple[str, str]]
    multicall: frozenset[str]
    git_settings: Mapping[str, frozenset[str]]
    programs: Mapping[str, CommandRule]
    watched: Mapping[str, CommandRule]
    environment: ChildEnvironment


class PolicyRules(Record):
    """All rules, and the folders in which programs are looked up.

    `local_urls` are the origins of the configured nodes and agents of this machine, `known_hosts` the names
    of all of them, and of this machine.
    """

    shipped: ShippedRules
    search_path: tuple[str, ...]
    deny: tuple[CommandPattern, ...] = ()
    ask: tuple[CommandPattern, ...] = ()
    allow: tuple[CommandPattern, ...] = ()
    local_urls: frozenset[str] = frozenset()
    known_hosts: frozenset[str] = frozenset()


def policy_rules(config: Config, environ: Mapping[str, str]) -> PolicyRules:
    """Return the rules of opskit with the rules of the configuration."""
    policy = config.agent.policy
    urls = (*(node.url for node in config.nodes), *(agent.url for agent in config.agents))
    return PolicyRules(
        shipped=shipped_rules(),
        search_path=tuple(part for part in environ.get("PATH", "").split(":") if part.startswith("/")),
        deny=tuple(map(command_pattern, policy.deny)),
        ask=tuple(map(command_pattern, policy.ask)),
        allow=tuple(map(command_pattern, policy.allow)),
        local_urls=frozenset(
            f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, filter(is_loopback, urls))
        ),
        known_hosts=frozenset(
            name.casefold()
            for name in (
                *("localhost", socket.gethostname()),
                *(host.rpartition("@")[2] for host in config.agent.ssh_hosts),
                *(urlsplit(url).hostname or "" for url in urls),
            )
        ),
    )


@cache
def shipped_rules() -> ShippedRules:
    """Read the file of the package."""
    data: Any = parse(_FILE.read_bytes(), _FILE.name).data
    return ShippedRules(
        kinds={name: re.compile(text, re.ASCII | re.DOTALL) for name, text in data["kinds"].items()},
        secrets=tuple(data["secrets"]),
        not_secrets=tuple(data["not_secrets"]),
        denied={
            name.casefold(): (group, entry["why"])
            for group, entry in data["denied"].items()
            for name in entry["names"].replace('"', "").split()
        },
        multicall=frozenset(data["multicall"]),
        git_settings={section: frozenset(keys) for section, keys in data["git_settings"].items()},
        programs={name: _rule(raw, CommandRule()) for name, raw in data["programs"].items()},
        watched={name: _rule(raw, CommandRule()) for name, raw in data["watched"].items()},
        environment=_environment(data["environment"]),
    )


def _environment(raw: Mapping[str, Any]) -> ChildEnvironment:
    further: dict[str, str] = {**raw["set"], "GIT_CONFIG_COUNT": str(len(raw["git"]))}
    for number, (key, value) in enumerate(raw["git"].items()):
        further |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return ChildEnvironment(tuple(raw["passed"].split()), further)


def _rule(raw: Mapping[str, Any], parent: CommandRule) -> CommandRule:
    """Return the rule of a program, or of a command that takes the flags of its parent too."""
    operands: Sequence[str] = raw.get("operands", ())
    reads_all = raw.get("reads_all")
    own = CommandRule(
        flags={**parent.flags, **_flags(raw.get("flags", ""))},
        denied=parent.denied | _names(raw.get("denied", "")),
        operands=tuple(kind.removesuffix("...") for kind in operands),
        repeated=bool(operands) and operands[-1].endswith("..."),
        requires=tuple(frozenset(names.split("|")) for names in raw.get("requires", ())),
        asks=frozenset(raw["asks"].split()) if "asks" in raw else None,
        reads_all=None if reads_all is None else _names("" if reads_all == "always" else reads_all),
        plain=raw.get("plain", parent.plain),
        dashless=raw.get("dashless", False),
        here=raw.get("here", parent.here),
        network=raw.get("network", parent.network),
        unconfined=raw.get("unconfined", parent.unconfined),
        bare=raw.get("bare", False),
        repository=raw.get("repository", parent.repository),
        compose=raw.get("compose", parent.compose),
    )
    commands = {name: _rule(inner or {}, own) for name, inner in raw.get("commands", {}).items()}
    return replace(own, commands=commands)


def _flags(text: str) -> dict[str, FlagRule]:
    flags: dict[str, FlagRule] = {}
    for word in text.split():
        match = _FLAG.fullmatch(word)
        if match is None:
            raise ValueError(f"{_FILE.name}: {word} is no flag")
        rule = FlagRule(match["kind"] or "", bool(match["optional"]))
        flags |= dict.fromkeys(match["names"].split("|"), rule)
    return flags


def _names(text: str) -> frozenset[str]:
    return frozenset(name for word in text.split() for name in word.split("|"))
