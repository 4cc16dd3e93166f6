"""Runs a command that the policy let through: a clean environment, a deadline, and bubblewrap around it."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from opskit.agent.policy.identity import program_path
from opskit.agent.policy.rules import Decision, shipped_rules
from opskit.agent.tools.tool import ToolResult
from opskit.config.schema import Sandboxing, ToolLimits
from opskit.system.program import NotStarted, ProgramResult, run

_PROBE_S = 5.0
#: The sockets of daemons, Docker's above all, are files.
_SOCKETS = ("/run", "/tmp")  # noqa: S108 - hidden, not written
_MISSING = "bubblewrap (`bwrap`) is not installed"


def child_environment(
    environ: Mapping[str, str], search_path: Sequence[str], workspace: Path | None
) -> dict[str, str]:
    """Return all that a child learns: names of an allow-list, and what keeps programs from asking people."""
    rules = shipped_rules().environment
    passed = {name: environ[name] for name in rules.passed if name in environ}
    folders = [
        folder
        for folder in search_path
        if workspace is None or not Path(os.path.realpath(folder)).is_relative_to(workspace)
    ]
    ceiling = {} if workspace is None else {"GIT_CEILING_DIRECTORIES": str(workspace.parent)}
    return {**passed, **rules.further, **ceiling, "PATH": ":".join(folders)}


class ChildRunner:
    """Runs commands one at a time; `notify` is told once why they run without a sandbox."""

    def __init__(
        self,
        *,
        workspace: Path | None,
        search_path: Sequence[str],
        environ: Mapping[str, str],
        sandboxing: Sandboxing,
        limits: ToolLimits,
        notify: Callable[[str], None],
    ) -> None:
        self._workspace = workspace
        self._search_path = search_path
        self._environ = child_environment(environ, search_path, workspace)
        self._sandboxing = sandboxing
        self._limits = limits
        self._notify = notify
        #: Why there is no sandbox; "" when there is one, None when nobody has looked yet.
        self._no_sandbox: str | None = None

    async def run(self, decision: Decision) -> ToolResult:
        """Run an allowed or approved command in the workspace. Never raises for what the command does."""
        if decision.program is None:
            return ToolResult(f"{decision.argv[0]}: it is not installed", ok=False)
        command = [decision.program, *decision.argv[1:]]
        if self._sandboxing == "required" or (self._sandboxing == "auto" and not decision.unconfined):
            if self._no_sandbox is None:
                self._no_sandbox = await self._probe()
                if self._no_sandbox and self._sandboxing == "auto":
                    self._notify(f"commands run without a sandbox: {self._no_sandbox}")
            if not self._no_sandbox:
                command = self._sandboxed(command, network=decision.network, writes=decision.user)
            elif self._sandboxing == "required":
                why = f"`agent.sandbox` is `required`, and {self._no_sandbox}"
                return ToolResult(f"The host refused this: {why}. It was not run.", ok=False)
        return await self.output(command)

    async def output(self, command: Sequence[str]) -> ToolResult:
        """Run a command as it is, and return what it printed: beginning and end."""
        half = self._limits.output_bytes // 2
        try:
            result = await run(
                command,
                cwd=self._workspace or Path("/"),
                env=self._environ,
                max_output=half,
                max_tail=half,
                timeout_s=self._limits.timeout_s,
            )
        except NotStarted as exc:
            return ToolResult(exc.message, ok=False)
        return _as_result(result, self._limits)

    async def _probe(self) -> str:
        path = program_path("bwrap", self._search_path)
        if path is None:
            return _MISSING
        try:
            result = await run(
                self._sandboxed(["/bin/true"], network=False, writes=False),
                env=self._environ,
                timeout_s=_PROBE_S,
            )
        except NotStarted as exc:
            return exc.message
        return f"bubblewrap does not work here: {result.complaint}" if result.exit or result.timed_out else ""

    def _sandboxed(self, command: Sequence[str], *, network: bool, writes: bool) -> list[str]:
        """Return the command under bubblewrap: everything read-only, and no sockets unless it needs them."""
        bwrap = program_path("bwrap", self._search_path) or "bwrap"
        # Its session is a new one already; in one more the signal at the deadline would not reach it.
        words = [bwrap, "--die-with-parent", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL"]
        if not writes:
            words.append("--unshare-pid")  # what a person allows may be a `kill`
        if os.geteuid() == 0:
            words += ["--cap-add", "CAP_DAC_READ_SEARCH"]  # root reads files of others here as elsewhere
        words += ["--ro-bind", "/", "/", "--dev", "/dev"]
        hidden = [] if network else [place for place in _SOCKETS if not command[0].startswith(f"{place}/")]
        words += [] if network else ["--unshare-net"]
        words += [word for place in hidden for word in ("--tmpfs", place)]
        if self._workspace is not None:
            words += ["--bind" if writes else "--ro-bind", str(self._workspace), str(self._workspace)]
            words += ["--chdir", str(self._workspace)]
        words += [word for place in hidden for word in ("--remount-ro", place)]
        return [*words, "--", *command]


def _as_result(result: ProgramResult, limits: ToolLimits) -> ToolResult:
    """Return the result of a program in words for a model."""
    ending = (
        f"killed after {limits.timeout_s:g} s, with everything it started"
        if result.timed_out
        else f"exit {result.exit}"
    )
    parts = [ending, result.out.rstrip("\n")]
    if result.err.strip():
        parts += ["[stderr]", result.err.rstrip("\n")]
    return ToolResult(
        "\n".join(part for part in parts if part),
        ok=result.exit == 0 and not result.timed_out,
        truncated=result.cut,
        evidence={"exit": result.exit, "timed_out": result.timed_out},
    )
