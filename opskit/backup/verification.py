"""Whether archives hold what they say."""

import time
from collections.abc import Sequence
from pathlib import Path

from opskit.backup.archive import Archive, UnreadableError
from opskit.backup.member import shown
from opskit.result import Finding, Report, Status

_TOLD = 3


def verify(paths: Sequence[Path]) -> Report:
    """Read every byte of each. What keeps an archive from being restored here fails it."""
    return Report("backup verify", [_finding(path) for path in paths])


def _finding(path: Path) -> Finding:
    began = time.monotonic()
    name = shown(path.name).removesuffix(".tar.gz").removeprefix("backup_")
    try:
        with Archive(path) as archive:
            manifest = archive.manifest
            problems = archive.problems()
    except UnreadableError as exc:
        return _damaged(name, [str(exc)], time.monotonic() - began)
    except OSError as exc:
        return _damaged(name, [f"it cannot be read: {exc.strerror}"], time.monotonic() - began)
    seconds = time.monotonic() - began
    if problems:
        return _damaged(name, problems, seconds)
    evidence = {
        "files": manifest.files,
        "content_bytes": manifest.content_bytes,
        "root": shown(manifest.root),
    }
    files = "1 file" if manifest.files == 1 else f"{manifest.files} files"
    detail = f"{files}, every checksum holds"
    if manifest.skipped:
        left_out = f"{detail}; left out when it was made: {len(manifest.skipped)}"
        return Finding(
            "archive", name, Status.WARN, "incomplete", left_out, seconds=seconds, evidence=evidence
        )
    return Finding("archive", name, Status.PASS, "ok", detail, seconds=seconds, evidence=evidence)


def _damaged(name: str, problems: Sequence[str], seconds: float) -> Finding:
    more = f" (and {len(problems) - _TOLD} more: --json shows them)" if len(problems) > _TOLD else ""
    return Finding(
        "archive",
        name,
        Status.FAIL,
        "damaged",
        "; ".join(problems[:_TOLD]) + more,
        "BACKUP_002",
        "`opskit backup create` makes a new one; restore none that is damaged",
        seconds,
        {"problems": list(problems)},
    )
