"""A restoration that was killed: is there one, and what becomes of it."""

from pathlib import Path

from opskit.backup import shelf, swapping, undoing
from opskit.backup.interruption import interruptible, undisturbed
from opskit.backup.journal import Journal, JournalFile
from opskit.backup.place import Place
from opskit.errors import UsageError


def waiting(place: Place) -> bool:
    """True while one is under way, too."""
    return JournalFile(place.folder).left_behind()


def recover(place: Place) -> str | None:
    """Bring it to a consistent state; what was done, or None when there is none. Only under the lock.

    One whose files were all in place is complete; any other is taken back. Raises BACKUP_003.
    """
    journal, file = _found(place)
    return None if journal is None else _recovered(journal, file)


def roll_back(place: Place) -> str:
    """The same, asked for. Raises UsageError when there is none."""
    journal, file = _found(place)
    return _recovered(_needed(journal), file)


def resume(place: Place) -> Journal | None:
    """Finish it. Raises UsageError when there is none, BACKUP_003 when it cannot be finished.

    One that had put no file in place yet is cleared away and given back: it is to be begun anew.
    """
    found, file = _found(place)
    journal = _needed(found)
    if journal.phase == "staging":
        _recovered(journal, file)
        return journal
    with interruptible():
        swapping.resume(journal, file)
    return None


def _found(place: Place) -> tuple[Journal | None, JournalFile]:
    """Half-written archives of the one that died go at once."""
    shelf.sweep(place.folder)
    file = JournalFile(place.folder)
    return file.read(), file


def _needed(journal: Journal | None) -> Journal:
    if journal is None:
        raise UsageError("no restoration was interrupted", remedy="`opskit backup restore DATE` begins one")
    return journal


def _recovered(journal: Journal, file: JournalFile) -> str:
    what = f"of {Path(journal.archive).name} to {journal.target}"
    with undisturbed():
        if journal.phase == "done":
            undoing.finish(journal, file)
            return f"a restoration {what} was complete; its last traces are removed"
        changed = undoing.roll_back(journal, file)
    told = f"an interrupted restoration {what} was taken back"
    return f"{told}; left as somebody changed them since: {', '.join(changed)}" if changed else told
