"""The tools of one agent together: their schemas, their calls, and the audit of every call."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from opskit.agent.policy.containment import Containment
from opskit.agent.policy.rules import policy_rules
from opskit.agent.tools.child import ChildRunner
from opskit.agent.tools.files import ListDirectory, ReadFile, SearchFile, WorkspaceFiles
from opskit.agent.tools.terminal import RunOverSsh, RunTerminalCommand
from opskit.agent.tools.tool import FINISH, NeedsApproval, Tool, ToolResult
from opskit.config.document import dotted
from opskit.config.fields import json_schema, text
from opskit.config.schema import Config
from opskit.config.values import Parameters, validated
from opskit.diagnose.known_secrets import of_config, of_variables
from opskit.diagnose.redaction import Redactor
from opskit.records import replace
from opskit.recovery.audit import Audit

AUDIT_NAME = "agent_audit.jsonl"
#: A model that does not end may have written a megabyte.
_AUDITED_CHARS = 4096
_NAME_CHARS = 64


class FinishArguments(Parameters):
    """The answer of the agent."""

    answer: Annotated[str, text(1, 1500)]


class Finish(Tool):
    """Ends the work with an answer."""

    name = FINISH
    description = "Finish with the answer for the user."
    arguments = FinishArguments

    async def run(self, arguments: FinishArguments, approved: tuple[str, ...] | None) -> ToolResult:
        del approved
        return ToolResult(arguments.answer, evidence={"finished": True})


class Toolbox:
    """Calls tools by name. Secrets are masked in all that a model reads; every call leaves audit lines."""

    def __init__(self, tools: Sequence[Tool], audit: Audit, redactor: Redactor) -> None:
        self.tools = {tool.name: tool for tool in tools}
        self._audit = audit
        self._redactor = redactor

    def close(self) -> None:
        self._audit.close()

    def schemas(self) -> list[dict[str, Any]]:
        """Return name, description and the JSON schema of the arguments of each tool."""
        return [
            {
                "name": tool.name,
                "description": tool.description,
                "parameters": json_schema(tool.arguments),
            }
            for tool in self.tools.values()
        ]

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        approved: tuple[str, ...] | None = None,
        **context: Any,
    ) -> ToolResult:
        """Call a tool with what a model wrote. `context` goes into the audit: run, step, correlation id.

        A wrong name or wrong arguments are a result that says what is right. Raises NeedsApproval.
        """
        name, written = name[:_NAME_CHARS], json.dumps(arguments, ensure_ascii=False, default=str)
        shown: Any = dict(arguments) if len(written) <= _AUDITED_CHARS else written[:_AUDITED_CHARS]
        line = {"tool": name, "arguments": self._redactor.value(shown), **context}
        self._audit.write(event="tool_begins", at=time.time(), approved=approved is not None, **line)
        began = time.monotonic()
        outcome: dict[str, Any] = {"ok": False, "ended": "cut_off"}
        try:
            result = await self._called(name, arguments, approved)
            outcome = {"ok": result.ok, "ended": "result", **result.evidence}
        except NeedsApproval as exc:
            outcome = {"ok": False, "ended": "needs_approval", "argv": exc.argv, "rule": exc.rule}
            raise
        finally:
            seconds = round(time.monotonic() - began, 4)
            outcome = self._redactor.value(outcome)
            self._audit.write(
                event="tool_ended", at=time.time(), tool=name, seconds=seconds, **context, **outcome
            )
        return replace(
            result, text=self._redactor.text(_shown(result.text)), lines=self._masked(result.lines)
        )

    def _masked(self, lines: Sequence[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
        """Mask lines together, since a key has several; none are given where masking joins some of them."""
        text = self._redactor.text(_shown("\n".join(line for _, line in lines)))
        masked = text.split("\n")
        return (
            tuple(zip((number for number, _ in lines), masked, strict=True))
            if len(masked) == len(lines)
            else ()
        )

    async def _called(
        self, name: str, arguments: Mapping[str, Any], approved: tuple[str, ...] | None
    ) -> ToolResult:
        tool = self.tools.get(name)
        if tool is None:
            return ToolResult(f"there is no tool {name!r}; there are: {', '.join(self.tools)}", ok=False)
        problems: list[str] = []
        checked = validated(
            tool.arguments, dict(arguments), (), lambda at, text: problems.append(f"{dotted(at)}: {text}")
        )
        if checked is None:
            return ToolResult(f"the arguments of {name} are wrong: {'; '.join(problems)}", ok=False)
        return await tool.run(checked, approved)


def toolbox(
    config: Config,
    environ: Mapping[str, str],
    folder: Path,
    notify: Callable[[str], None],
    more: Sequence[Tool] = (),
) -> Toolbox:
    """Return the tools that the configuration gives, behind `more`. `folder` is the state folder.

    Raises StateError.
    """
    agent = config.agent
    workspace = None if agent.workspace is None else config.located(agent.workspace).resolve()
    rules = policy_rules(config, environ)
    containment = Containment(workspace, rules)
    files = WorkspaceFiles(containment, agent.tools)
    own = {"OPSKIT_CONFIG": config.path or os.devnull, "OPSKIT_STATE_DIR": str(folder)}
    child = ChildRunner(
        workspace=containment.root,
        search_path=rules.search_path,
        environ={**environ, **own},
        sandboxing=agent.sandbox,
        limits=agent.tools,
        notify=notify,
    )
    tools: list[Tool] = [
        *more,
        ReadFile(files),
        SearchFile(files),
        ListDirectory(files),
        RunTerminalCommand(workspace, rules, child),
        Finish(),
    ]
    if agent.ssh_hosts:
        tools.insert(-1, RunOverSsh(agent, rules, child))
    audit = Audit(folder, config.log, AUDIT_NAME)
    return Toolbox(tools, audit, Redactor(of_config(config) | of_variables(environ)))


def _shown(text: str) -> str:
    """Return the text without what a terminal would obey."""
    return "".join(char if char.isprintable() or char in "\n\t" else "" for char in text)
