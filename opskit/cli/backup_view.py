"""What `opskit backup` shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.cli import render
from opskit.result import plain_document
from opskit.text import counted, size

if TYPE_CHECKING:
    from opskit.backup.catalog import CreatedBackup, StoredArchive
    from opskit.backup.restore import RestorePlan, RestoreResult
    from opskit.result import Report

_MOST_SHOWN = 50


def created(backup: "CreatedBackup", report: "Report") -> None:
    evidence = report.findings[0].evidence
    sizes = [size(evidence[key], precise=True) for key in ("content_bytes", "size_bytes")]
    render.line(render.printable(evidence["path"]))
    root = render.printable(evidence["root"])
    render.line(f"{counted(evidence['files'], 'file')} of {root}, {sizes[0]} in {sizes[1]}")
    for finding in report.findings[1:]:
        render.note(f"{finding.state}: {render.printable(finding.target)}: {finding.detail}")
    _removed(backup.removed)


def _removed(paths: Sequence[Path]) -> None:
    for path in paths:
        render.note(f"removed: {path.name}, the oldest beyond `backup.keep`")


def listing(archives: Sequence["StoredArchive"], folder: Path) -> dict[str, Any]:
    """Return the document of a list of archives."""
    return plain_document("backup list", folder=str(folder), backups=list(map(_listed, archives)))


def listed(archives: Sequence["StoredArchive"], folder: Path) -> None:
    if not archives:
        render.note(
            f"there is no backup in {render.printable(str(folder))}; `opskit backup create` makes one"
        )
        return
    rows = [
        (
            archive.label,
            str(archive.manifest.files) if archive.manifest else "",
            size(archive.manifest.content_bytes, precise=True) if archive.manifest else "",
            size(archive.size_bytes, precise=True),
            _state(archive),
            archive.manifest.root if archive.manifest else "",
        )
        for archive in archives
    ]
    render.table(("date", "files", "content", "size", "manifest", "made of"), rows)


def _state(archive: "StoredArchive") -> str:
    if archive.manifest is None:
        return archive.problem or "none: no checksums"
    return f"{len(archive.manifest.skipped)} left out" if archive.manifest.skipped else "ok"


def _listed(archive: "StoredArchive") -> dict[str, Any]:
    manifest = archive.manifest
    return {
        "date": archive.date,
        "purpose": archive.purpose,
        "path": str(archive.path),
        "size_bytes": archive.size_bytes,
        "readable": not archive.problem,
        "checksums": manifest is not None,
        "problem": archive.problem or None,
        "files": manifest.files if manifest else None,
        "content_bytes": manifest.content_bytes if manifest else None,
        "left_out": len(manifest.skipped) if manifest else None,
        "root": _text(manifest.root) if manifest else None,
        "host": _text(manifest.host) if manifest else None,
    }


def planned(plan: "RestorePlan", *, dry_run: bool) -> None:
    """Show what would change; that is the whole result when nothing would."""
    shown = [change for change in plan.changes if change.action != "same"]
    for change in shown[:_MOST_SHOWN]:
        why = f" ({change.why})" if change.why else ""
        folder = "/" if change.entry.kind == "folder" else ""
        render.line(f"{change.action:8} {render.printable(change.entry.path)}{folder}{why}")
    if len(shown) > _MOST_SHOWN:
        render.line(f"... and {len(shown) - _MOST_SHOWN} more (--json shows all)")
    if plan.idle:
        render.line(f"{render.printable(str(plan.target))} holds all of it already; nothing was changed")
    else:
        ending = "; nothing was changed (--dry-run)" if dry_run else ""
        counts = ", ".join(f"{len(plan.of(action))} {action}" for action in ("new", "changed", "same"))
        render.line(f"{counts} in {render.printable(str(plan.target))}{ending}")


def restored(plan: "RestorePlan", result: "RestoreResult") -> None:
    render.line(f"restored {plan.archive.name} to {render.printable(str(plan.target))}")
    if result.replaced is not None:
        render.line(f"what it replaced is kept: {result.replaced}")
    _removed(result.removed)
    render.note("containers go on with what they started with: `docker compose up -d` applies what is new")


def planning(plan: "RestorePlan", *, dry_run: bool, replaced: Path | None) -> dict[str, Any]:
    """Return the document of a restore, with the archive of what it replaced once it is done."""
    return plain_document(
        "backup restore",
        archive=_text(str(plan.archive)),
        target=_text(str(plan.target)),
        dry_run=dry_run,
        changed=not dry_run and not plan.idle,
        replaced=str(replaced) if replaced is not None else None,
        changes=[
            {"path": _text(change.entry.path), "kind": change.entry.kind, "action": change.action}
            | {"why": change.why}
            for change in plan.changes
        ],
    )


def _text(path: str) -> str:
    from opskit.backup.manifest import printable_path

    return printable_path(path)
