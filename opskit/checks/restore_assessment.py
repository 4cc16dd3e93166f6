"""What an interrupted restore of a backup means for the stack, said once for every command. Pure."""

from opskit.facts.unfinished_restore import UnfinishedRestore
from opskit.result import Finding, Status


def assess_interrupted_restore(restore: UnfinishedRestore) -> Finding:
    """Return the finding of a folder that is half restored: a person decides which way it goes on."""
    return Finding(
        "restore",
        str(restore.target),
        Status.FAIL,
        "half restored",
        f"restoring a backup to {restore.target} was interrupted: its files are partly old, partly new",
        "BACKUP_005",
        "`opskit backup restore --resume` finishes it, `opskit backup restore --rollback` takes it back",
        evidence={"replaced": None if restore.safety is None else str(restore.safety)},
    )
