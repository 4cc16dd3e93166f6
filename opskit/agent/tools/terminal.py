"""`run_terminal_cmd` and `ssh_run`: one program with its arguments, here or on a host, by the policy."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from opskit.agent.policy.decide import MAX_CHARS, MAX_WORDS, decide
from opskit.agent.policy.identity import program_path
from opskit.agent.policy.rules import Decision, PolicyRules, Ruling
from opskit.agent.tools.child import ChildRunner
from opskit.agent.tools.tool import NeedsApproval, Tool, ToolResult, refused
from opskit.config.fields import text
from opskit.config.schema import VictoriaConfig
from opskit.config.values import Parameters, Rule
from opskit.records import replace

_FOR_A_SHELL = frozenset(";&|<>()`$*?[\n")
_IN_QUOTES = frozenset("`$")
_CONNECT_S = 10
_SSH_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "ControlMaster=no",
    "ControlPath=none",
    "RequestTTY=no",
    "EscapeChar=none",
    f"ConnectTimeout={_CONNECT_S}",
)


def _command(value: object) -> object:
    words: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("must be text, or a list of words")
    if len(words) > MAX_WORDS or any(len(word) > MAX_CHARS for word in words):
        raise ValueError(f"must have at most {MAX_WORDS} words, and {MAX_CHARS} characters in each")
    return value


CommandText = Annotated[
    str | list[str],
    Rule(
        _command,
        {
            "type": "string",
            "minLength": 1,
            "maxLength": 4096,
            "description": "one program and its arguments; no pipes, no redirection, no variables",
        },
    ),
]


class CommandArguments(Parameters):
    """A command; a list of words is taken too."""

    command: CommandText


class RemoteArguments(Parameters):
    """A command for a configured host."""

    host: Annotated[str, text(1, 256)]
    command: CommandText


class RunTerminalCommand(Tool):
    """Runs a command on this machine."""

    name = "run_terminal_cmd"
    description = (
        "Run one program that only reads, such as `docker ps -a`, `tail -n 50 app.log` or `df -h`, in the "
        "workspace. There is no shell. Other commands need the approval of a person."
    )
    arguments = CommandArguments

    def __init__(self, workspace: Path | None, rules: PolicyRules, child: ChildRunner) -> None:
        self._workspace = workspace
        self._rules = rules
        self._child = child

    async def run(self, arguments: CommandArguments, approved: tuple[str, ...] | None) -> ToolResult:
        try:
            argv = command_words(arguments.command)
        except ValueError as exc:
            return ToolResult(f"not run: {exc}", ok=False)
        decision = decide(argv, self._workspace, self._rules)
        if decision.program is None and decision.ruling is Ruling.ASK:
            return _with_evidence(ToolResult(f"{argv[0]}: it is not installed", ok=False), decision)
        if (refusal := _refusal(decision, approved, self._workspace)) is not None:
            return refusal
        if decision.ruling is Ruling.ASK:
            decision = replace(decision, network=True, user=True)
        return _with_evidence(await self._child.run(decision), decision)


class RunOverSsh(Tool):
    """Runs a command on a host that the configuration names."""

    name = "ssh_run"
    arguments = RemoteArguments

    def __init__(self, config: VictoriaConfig, rules: PolicyRules, child: ChildRunner) -> None:
        self._config = config
        self._rules = rules
        self._child = child
        hosts = ", ".join(config.ssh_hosts)
        self.description = (
            f"Run one program that only reads, such as `df -h`, on one of these hosts: {hosts}."
        )

    async def run(self, arguments: RemoteArguments, approved: tuple[str, ...] | None) -> ToolResult:
        try:
            argv = command_words(arguments.command)
        except ValueError as exc:
            return ToolResult(f"not run: {exc}", ok=False)
        shown = ("ssh", arguments.host, *argv)
        if arguments.host not in self._config.ssh_hosts:
            why = f"{arguments.host!r} is not in `agent.ssh_hosts`"
            return refused(Decision(Ruling.DENY, "deny.host", why, shown))
        decision = replace(decide(argv, None, self._rules, remote=True), argv=shown)
        if (refusal := _refusal(decision, approved, None)) is not None:
            return refusal
        ssh = program_path("ssh", self._rules.search_path)
        if ssh is None:
            return ToolResult("ssh: it is not installed", ok=False)
        file = ["-F", self._config.ssh_config] if self._config.ssh_config is not None else []
        options = [word for option in _SSH_OPTIONS for word in ("-o", option)]
        command = [ssh, *file, *options, "-n", "--", arguments.host, shlex.join(argv)]
        return _with_evidence(await self._child.output(command), decision)


def command_words(command: str | Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command. Raises ValueError for what only a shell understands."""
    if not isinstance(command, str):
        return tuple(command)
    quote = ""
    escaped = False
    for char in command.strip():
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif (not quote and char in _FOR_A_SHELL) or (quote == '"' and char in _IN_QUOTES):
            raise ValueError(
                f"{char!r} is for a shell, and there is none: one program, words in single quotes"
            )
    try:
        return tuple(shlex.split(command))
    except ValueError as exc:
        raise ValueError("a quote is not closed") from exc


def _refusal(
    decision: Decision, approved: tuple[str, ...] | None, workspace: Path | None
) -> ToolResult | None:
    """Return the answer to a command that is not run. Raises NeedsApproval."""
    if decision.ruling is Ruling.DENY:
        return refused(decision)
    if decision.ruling is Ruling.ASK and approved != decision.argv:
        cwd = workspace or Path("/")
        raise NeedsApproval(decision.argv, decision.rule, decision.why, program=decision.program, cwd=cwd)
    return None


def _with_evidence(result: ToolResult, decision: Decision) -> ToolResult:
    return replace(result, evidence={**result.evidence, "argv": list(decision.argv), "rule": decision.rule})
