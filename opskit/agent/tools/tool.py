"""What every tool of the agent is: a name, a description for a model, its arguments, and a run."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opskit.agent.policy.rules import Decision
from opskit.records import Record, field

#: The tool that ends a run with its answer.
FINISH = "finish"
#: A tool never gives a model more words about a refusal than these: the model is to go on without it.
_REFUSED = "The host refused this: {why} (rule {rule}). It was not run. Use other evidence, or finish."


class ToolResult(Record):
    """What came of a call. `text` is for the model; `truncated`: there was more of it.

    `evidence` is for trace and audit: the command, its exit status, the rule that decided. `lines` are those
    of what was read, each with its number, for who quotes them.
    """

    text: str
    ok: bool = True
    truncated: bool = False
    evidence: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[tuple[int, str], ...] = ()


class ExactCommand(Record):
    """What an approval holds for: these words in this folder, run by a program file with this content.

    `program` is its real path and `digest` its SHA-256; both are None where no program of this machine runs.
    """

    argv: tuple[str, ...]
    cwd: str
    program: str | None = None
    digest: str | None = None


class NeedsApproval(Exception):  # noqa: N818 - it reads as what it is
    """A person has to allow exactly this command before it is run.

    `program` is the file that would be run, None where there is none, `cwd` the folder. `denied`: a person
    was asked and said no.
    """

    def __init__(
        self, argv: tuple[str, ...], rule: str, why: str, *, program: str | None = None, cwd: Path = Path("/")
    ) -> None:
        super().__init__(why)
        self.argv = argv
        self.rule = rule
        self.why = why
        self.denied = False
        self._program = program
        self._cwd = cwd

    def command(self) -> ExactCommand:
        """Read the program file and return the command as it is now."""
        if self._program is None:
            return ExactCommand(self.argv, str(self._cwd))
        path, digest = Path(self._program).resolve(), None
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            # A program may be executable and not readable.
            if path.exists():
                digest = f"changed {path.stat().st_ctime_ns}"
        return ExactCommand(self.argv, str(self._cwd), str(path), digest)


class Tool(ABC):
    """One thing that the agent can do. `arguments` is a class of parameters."""

    name: str
    description: str
    arguments: type

    @abstractmethod
    async def run(self, arguments: Any, approved: tuple[str, ...] | None) -> ToolResult:
        """Do it; `approved` is the exact command that a person allowed. Raises NeedsApproval."""


def refused(decision: Decision) -> ToolResult:
    """Return the fixed text after a refusal."""
    text = _REFUSED.format(why=decision.why, rule=decision.rule)
    return ToolResult(text, ok=False, evidence={"argv": list(decision.argv), "rule": decision.rule})
