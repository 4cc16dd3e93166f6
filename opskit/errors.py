"""Every failure that opskit expects: code, exit status, cause and remedy.

A failed *check* is data (`opskit.result`). An exception from here means that opskit could not do what it
was asked to do, and the command line turns it into one line and an exit status. The application codes
MODEL_*, GEN_*, REV_*, COMM_* and VAL_* are those of the Knowledge OS catalogue (SPEC C13); all others are
opskit's own.
"""

import shlex
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from opskit.records import Record


class Exit(IntEnum):
    """Exit statuses, the same for every output format."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    REPAIRED = 4
    GAVE_UP = 5
    BUG = 70
    OUTPUT = 74
    BUSY = 75
    CONFIG = 78
    INTERRUPTED = 130


class ErrorSpec(Record):
    """One entry of the catalogue: what a code means, wherever it turns up."""

    code: str
    title: str
    cause: str
    remedy: str
    exit: Exit = Exit.FAILED
    http_status: int = 500


CATALOGUE: dict[str, ErrorSpec] = {
    spec.code: spec
    for spec in (
        ErrorSpec(
            "MODEL_001",
            "no model is available",
            "no node answered, or none of them holds a model that may be used",
            "start a node (`ollama serve`, `mlx_lm.server --model DIR`), then `opskit probe`",
            http_status=503,
        ),
        ErrorSpec(
            "MODEL_002",
            "the model gave no answer in time",
            "the model is loading, busy, or wedged behind a healthy port",
            "`opskit probe --verbose` tells which; raise `budgets.first_token_s` for slow hardware",
            http_status=504,
        ),
        ErrorSpec(
            "MODEL_003",
            "the model does not fit in memory",
            "weights and context need more memory than is free",
            "unload another model (`ollama stop NAME`) or choose a smaller one (`opskit models list`)",
            http_status=503,
        ),
        ErrorSpec(
            "MODEL_004",
            "no model gave a usable answer",
            "every attempt ended in a fault or in an answer that was empty, only thinking, echoed, looping "
            "or cut",
            "`opskit run --verbose` shows each attempt; `opskit models test` finds models that work",
            http_status=502,
        ),
        ErrorSpec(
            "GEN_001",
            "generation failed",
            "the agent ran into an error while it produced the answer",
            "`opskit logs --tag 'LLM_*'` shows the calls of that request",
        ),
        ErrorSpec(
            "APPROVAL_001",
            "a command needs the approval of a person",
            "the policy of the agent asks about it, and nobody was there to answer",
            "`opskit approvals` lists what waits; `opskit approve ID` runs exactly that command and goes on",
            Exit.INCONCLUSIVE,
            409,
        ),
        ErrorSpec(
            "APPROVAL_002",
            "an approval was denied, or is not open any more",
            "a person denied the command, it was decided already, it expired, or its run was cancelled",
            "`opskit approvals` lists what waits; give the goal again where its run has ended",
            http_status=409,
        ),
        ErrorSpec(
            "GEN_002",
            "the prompt is not valid",
            "the request reached the agent without a usable goal",
            "send a non-empty text goal",
            Exit.USAGE,
            400,
        ),
        ErrorSpec(
            "GEN_003",
            "no code could be extracted",
            "the answer holds no code block",
            "ask for code explicitly, or use a coding model (`opskit models route --category coding`)",
        ),
        ErrorSpec(
            "REV_001",
            "review failed",
            "the reviewing agent ran into an error",
            "check the reviewer's log and `GET /health`",
        ),
        ErrorSpec(
            "REV_002",
            "the code to review is not valid",
            "the code does not parse",
            "fix the syntax first",
            http_status=400,
        ),
        ErrorSpec(
            "REV_003",
            "analysis failed",
            "the reviewer could not analyse the code",
            "retry with a smaller piece of code",
        ),
        ErrorSpec(
            "COMM_001",
            "the agent is not available",
            "nothing usable answers at the agent's address",
            "start the agent (`docker compose up -d victoria-agent`), then `opskit probe`",
            http_status=503,
        ),
        ErrorSpec(
            "COMM_002",
            "network error",
            "the connection to the service failed",
            "check the address and the network: `opskit probe --verbose`",
            http_status=502,
        ),
        ErrorSpec(
            "COMM_003",
            "the agent gave no answer in time",
            "the agent accepted the request and did not finish it within the budget",
            "`opskit probe` tells slow, busy and wedged apart; raise `budgets.total_s` for long goals",
            http_status=504,
        ),
        ErrorSpec(
            "VAL_001", "validation failed", "the input is not valid", "correct the input", Exit.USAGE, 400
        ),
        ErrorSpec(
            "VAL_002",
            "the input is not valid",
            "an argument or the standard input holds something that cannot be used",
            "`opskit COMMAND --help` shows what is accepted",
            Exit.USAGE,
            400,
        ),
        ErrorSpec(
            "VAL_003",
            "a field is missing",
            "a required value was not given",
            "give the value",
            Exit.USAGE,
            400,
        ),
        ErrorSpec(
            "CONFIG_001",
            "the configuration is not valid",
            "a key, a value or the YAML itself is wrong",
            "`opskit config check` shows every problem; `opskit config init` writes a valid file",
            Exit.CONFIG,
        ),
        ErrorSpec(
            "CONFIG_002",
            "the configuration file cannot be read",
            "the file is missing or not readable",
            "check the path given by --config or OPSKIT_CONFIG",
            Exit.CONFIG,
        ),
        ErrorSpec(
            "CONFIG_003",
            "an address is not valid",
            "a URL has no scheme, no host, or a port out of range",
            "write it like http://localhost:11434",
            Exit.CONFIG,
        ),
        ErrorSpec(
            "STATE_001",
            "the state folder cannot be written",
            "opskit keeps logs and state there and refuses to run without evidence",
            "make it writable, or set `state_dir` in the configuration or OPSKIT_STATE_DIR",
            Exit.CONFIG,
        ),
        ErrorSpec(
            "DOCKER_001",
            "Docker does not answer",
            "the daemon is not running, its socket may not be used, or it hangs",
            "start it: `sudo systemctl start docker` on Linux; on a Mac `open -ga Docker`, `orb start` or "
            "`colima start`",
            http_status=503,
        ),
        ErrorSpec(
            "DOCKER_002",
            "there is no such container",
            "no container, running or stopped, has this name, id or label",
            "`docker ps --all` lists them; `docker compose up -d` creates those of the stack",
            http_status=404,
        ),
        ErrorSpec(
            "DOCKER_003",
            "Docker refused",
            "the daemon answered, and would not do what it was asked",
            "the message is Docker's own; a log driver that cannot be read needs `json-file` or `local`",
            http_status=502,
        ),
        ErrorSpec(
            "HOST_001",
            "a program cannot be started",
            "it is not installed, not on the PATH of this process, or may not be run",
            "install it, or add its folder to PATH; under launchd and systemd PATH is short "
            "(`opskit schedule status` compares it with the shell's)",
        ),
        ErrorSpec(
            "RECOVER_001",
            "another recovery is running",
            "one recovery at a time: its lock is held by a living process",
            "wait for it; `opskit status` shows the last run",
            Exit.BUSY,
        ),
        ErrorSpec(
            "RECOVER_002",
            "there is no such step or target",
            "the name is neither a step of recovery nor a node, an agent, a container or a Compose project "
            "of this stack",
            "`opskit recover --dry-run` lists the steps and their targets",
            Exit.USAGE,
        ),
        ErrorSpec(
            "RECOVER_003",
            "somebody wants it left alone, or is at work on it",
            "the target is paused, or somebody builds, pulls or makes a backup just now",
            "wait for its end; `opskit resume TARGET` ends a pause; then run the command again",
            Exit.BUSY,
        ),
        ErrorSpec(
            "RECOVER_004",
            "it would not come up again",
            "something that the start needs is missing (a file, an image, whoever keeps the server running), "
            "so nothing was taken down",
            "the message says what is missing; `--dry-run` shows the commands",
        ),
        ErrorSpec(
            "RECOVER_005",
            "recovery has given up on a target",
            "several repairs in a row did not help, so it is left alone but for one try each hour",
            "`opskit status` shows what was tried; mend it by hand, recovery sees when it is well",
            Exit.GAVE_UP,
        ),
        ErrorSpec(
            "BACKUP_001",
            "there is no such backup",
            "no archive of that date or name lies in the backup folder",
            "`opskit backup list` shows those that exist",
        ),
        ErrorSpec(
            "BACKUP_002",
            "the backup cannot be trusted",
            "the archive is damaged or changed, or holds a path or link that leaves the folder it came from",
            "`opskit backup verify` tells what is wrong; `opskit backup list` shows the others",
        ),
        ErrorSpec(
            "BACKUP_003",
            "the backup or its restoration could not be written",
            "a folder is missing, may not be written, or the disk is full; what was begun is undone",
            "check the folder and the space (`df -h`), then run it again",
        ),
        ErrorSpec(
            "BACKUP_004",
            "another backup is running",
            "one process at a time makes or restores backups in a folder; a living one holds its lock",
            "wait for it, then run the command again",
            Exit.BUSY,
        ),
        ErrorSpec(
            "BACKUP_005",
            "a restoration was interrupted",
            "its process was killed, so the folder holds old files and new ones; what it replaced is kept",
            "`opskit backup restore --resume` finishes it, `opskit backup restore --rollback` takes it back",
        ),
        ErrorSpec(
            "SCHEDULE_001",
            "there is no scheduler to use",
            "this system has neither launchd nor a systemd user instance that answers",
            "run `opskit recover --quiet-lock` from cron, or log in with a session "
            "(`loginctl enable-linger $USER`)",
        ),
        ErrorSpec(
            "SCHEDULE_002",
            "the scheduler refused",
            "launchd or systemd answered, and would not do what it was asked",
            "`opskit schedule status` shows what it knows; its own message is quoted",
        ),
        ErrorSpec(
            "SCHEDULE_003",
            "a path is out of the scheduler's reach",
            "macOS denies background jobs the folders Documents, Desktop and Downloads",
            "move the file out of that folder, and correct its path in the configuration",
            Exit.CONFIG,
        ),
        ErrorSpec(
            "SCHEDULE_004",
            "the scheduler would show a secret",
            "what a scheduled job is given can be read by every program of the user, and a variable that the "
            "job needs holds a credential",
            "take the credential out of the value; secrets stay in files that only their program reads",
            Exit.CONFIG,
        ),
        ErrorSpec(
            "LOG_001",
            "a log cannot be read",
            "the file or the stream is missing, or it may not be read",
            "check the path and its permissions",
        ),
        ErrorSpec(
            "OUTPUT_001",
            "the output cannot be written",
            "standard output leads to a full disk, or to a device or a file that takes nothing more",
            "free some space (`df -h`), or write the output somewhere else",
            Exit.OUTPUT,
        ),
        ErrorSpec(
            "BUG_001",
            "opskit itself failed",
            "an error that opskit did not expect",
            "run again with --debug and report the traceback",
            Exit.BUG,
        ),
    )
}


class OpskitError(Exception):
    """An expected failure, ready to be shown.

    `message` says what happened in this case; cause and remedy come from the catalogue unless the raiser
    knows better. Raises KeyError for a code that is not in the catalogue.
    """

    def __init__(self, code: str, message: str, *, remedy: str | None = None) -> None:
        self.spec = CATALOGUE[code]
        self.code = code
        self.message = message
        self.remedy = remedy or self.spec.remedy
        super().__init__(message)

    @property
    def exit(self) -> Exit:
        return self.spec.exit


class ApprovalNeeded(OpskitError):  # noqa: N818 - it reads as what it is
    """A run of the agent waits for a person. `document` is what `--json` shows besides the error."""

    def __init__(self, approval: Mapping[str, Any]) -> None:
        identifier = approval.get("approval_id")
        super().__init__(
            "APPROVAL_001",
            f"the agent waits before `{shlex.join(map(str, approval.get('argv') or ()))}`: "
            f"{approval.get('why')} (rule {approval.get('rule')})",
            remedy=f"`opskit approve {identifier}` runs exactly this and goes on; "
            f"`opskit approve {identifier} --deny` ends the run",
        )
        self.document: dict[str, Any] = {
            "output": None,
            "status": "needs_approval",
            "task_id": approval.get("task_id"),
            "correlation_id": approval.get("correlation_id"),
            "approval": dict(approval),
        }


class UsageError(OpskitError):
    """An argument or standard input that cannot be used."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__("VAL_002", message, remedy=remedy)


class ConfigError(OpskitError):
    """The configuration cannot be used; `message` names file and line, or the key path."""

    def __init__(self, message: str, *, code: str = "CONFIG_001", remedy: str | None = None) -> None:
        super().__init__(code, message, remedy=remedy)


class StateError(OpskitError):
    """The state folder cannot be used."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__("STATE_001", message, remedy=remedy)


class OutputError(OpskitError):
    """Standard output takes nothing more. `errno` is the reason of the system."""

    def __init__(self, reason: OSError) -> None:
        self.errno = reason.errno or 0
        why = (reason.strerror or str(reason)).lower()
        super().__init__("OUTPUT_001", f"standard output cannot be written: {why}")
