"""What `opskit backup` shows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.cli import render

if TYPE_CHECKING:
    from opskit.backup.catalog import StoredArchive
    from opskit.backup.create import CreatedBackup
    from opskit.backup.restore import RestoreResult
    from opskit.backup.restore_plan import RestorePlan

_MOST_SHOWN = 50
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """Bytes for people."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def created(outcome: "CreatedBackup", *, as_json: bool) -> None:
    report = outcome.report
    if as_json:
        render.document(report.as_json())
        return
    written = outcome.written
    manifest = written.manifest
    render.line(render.printable(str(written.path)))
    render.line(
        f"{_count(manifest.files, 'file')} of {render.printable(manifest.root)}, "
        f"{size(manifest.content_bytes)} in {size(written.size_bytes)}"
    )
    for found in report.findings[1:]:
        render.note(f"{found.state}: {render.printable(found.target)}: {found.detail}")
    for path in outcome.removed:
        render.note(f"removed: {path.name}, the oldest beyond `backup.keep`")


def listed(archives: Sequence["StoredArchive"], folder: Path, *, as_json: bool) -> None:
    if as_json:
        render.document(
            _document("backup list", folder=str(folder), backups=[_listed(archive) for archive in archives])
        )
        return
    if not archives:
        render.note(
            f"there is no backup in {render.printable(str(folder))}; `opskit backup create` makes one"
        )
        return
    rows = [
        (
            archive.label,
            str(archive.manifest.files) if archive.manifest else "",
            size(archive.manifest.content_bytes) if archive.manifest else "",
            size(archive.size_bytes),
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


def planned(plan: "RestorePlan", *, as_json: bool, dry_run: bool) -> None:
    """What would change; the whole result when that is nothing."""
    if as_json:
        render.document(_plan(plan, dry_run=dry_run, replaced=None))
        return
    shown = [one for one in plan.changes if one.action != "same"]
    for one in shown[:_MOST_SHOWN]:
        why = f" ({one.why})" if one.why else ""
        folder = "/" if one.entry.kind == "folder" else ""
        render.line(f"{one.action:8} {render.printable(one.entry.path)}{folder}{why}")
    if len(shown) > _MOST_SHOWN:
        render.line(f"... and {len(shown) - _MOST_SHOWN} more (--json shows all)")
    if plan.idle:
        render.line(f"{render.printable(str(plan.target))} holds all of it already; nothing was changed")
    else:
        ending = "; nothing was changed (--dry-run)" if dry_run else ""
        render.line(f"{_counts(plan)} in {render.printable(str(plan.target))}{ending}")


def restored(plan: "RestorePlan", done: "RestoreResult", *, as_json: bool) -> None:
    if as_json:
        render.document(_plan(plan, dry_run=False, replaced=done.replaced))
        return
    render.line(f"restored {plan.archive.name} to {render.printable(str(plan.target))}")
    if done.replaced is not None:
        render.line(f"what it replaced is kept: {done.replaced}")
    for path in done.removed:
        render.note(f"removed: {path.name}, the oldest beyond `backup.keep`")
    render.note("containers go on with what they started with: `docker compose up -d` applies what is new")


def told(command: str, words: str, *, as_json: bool) -> None:
    if as_json:
        render.document(_document(command, detail=words))
    else:
        render.line(render.printable(words))


def _plan(plan: "RestorePlan", *, dry_run: bool, replaced: Path | None) -> dict[str, Any]:
    return _document(
        "backup restore",
        archive=_text(str(plan.archive)),
        target=_text(str(plan.target)),
        dry_run=dry_run,
        changed=not dry_run and not plan.idle,
        replaced=str(replaced) if replaced is not None else None,
        changes=[
            {"path": _text(one.entry.path), "kind": one.entry.kind, "action": one.action, "why": one.why}
            for one in plan.changes
        ],
    )


def _counts(plan: "RestorePlan") -> str:
    return ", ".join(f"{len(plan.of(action))} {action}" for action in ("new", "changed", "same"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _text(path: str) -> str:
    from opskit.backup.manifest import printable_path

    return printable_path(path)


def _document(command: str, **content: object) -> dict[str, Any]:
    from opskit.result import SCHEMA_VERSION, Status

    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "ok": True,
        "status": Status.PASS.value,
        **content,
        "findings": [],
    }
