"""Every failure that opskit expects: code, exit status, cause and remedy.

A failed *check* is data (`opskit.result`). An exception from here means that opskit could not do what it
was asked to do, and the command line turns it into one line and an exit status. The application codes
MODEL_*, GEN_*, REV_*, COMM_* and VAL_* are codes of the Knowledge OS catalogue (SPEC C13); all others are
opskit's own.
"""

import errno
import shlex
import time
from collections.abc import Mapping
from enum import IntEnum
from functools import cache
from pathlib import Path
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


@cache
def catalogue() -> dict[str, ErrorSpec]:
    """Return every entry by its code, as `errors.toml` has them."""
    import tomllib

    texts = tomllib.loads(Path(__file__).with_name("errors.toml").read_text("utf-8"))
    return {
        code: ErrorSpec(code=code, **{**entry, "exit": Exit[entry.get("exit", "FAILED")]})
        for code, entry in texts.items()
    }


class OpskitError(Exception):
    """An expected failure, ready to be shown.

    `message` says what happened in this case; cause and remedy come from the catalogue unless the raiser
    knows better. Raises KeyError for a code that is not in the catalogue.
    """

    def __init__(self, code: str, message: str, *, remedy: str | None = None) -> None:
        self.spec = catalogue()[code]
        self.code = code
        self.message = message
        self.remedy = remedy or self.spec.remedy
        super().__init__(message)

    @property
    def exit(self) -> Exit:
        return self.spec.exit

    def as_json(self) -> dict[str, Any]:
        """Return the error in the shape of the catalogue (SPEC C13)."""
        return {
            "error_code": self.code,
            "error_message": self.message,
            "details": {"remedy": self.remedy, "cause": self.spec.cause},
            "timestamp": time.time(),
        }


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

    @classmethod
    def of(cls, path: object, error: Exception) -> "StateError":
        """Return why what lies at a path cannot be used; of a full disk also what shows how to free it."""
        remedy, folder = None, Path(str(path)).absolute()
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            mount = next((above for above in folder.parents if above.is_mount()), "/")
            du = f"`du -xhd2 {shlex.quote(str(mount))} | sort -h | tail` shows what fills its disk"
            remedy = f"{du}; free some, or set `state_dir` (OPSKIT_STATE_DIR) to a folder on another one"
        is_file = "it is a file, not a folder" if isinstance(error, FileExistsError) else None
        reason = is_file or getattr(error, "strerror", None) or "it cannot be used"
        return cls(f"{path}: {reason}", remedy=remedy)


class OutputError(OpskitError):
    """Standard output takes nothing more. `errno` is the reason of the system."""

    def __init__(self, reason: OSError) -> None:
        self.errno = reason.errno or 0
        why = (reason.strerror or str(reason)).lower()
        super().__init__("OUTPUT_001", f"standard output cannot be written: {why}")
