"""New files beside those that they are to replace, and second names of the old ones."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace

from opskit.backup.archive import Archive, UnreadableError
from opskit.backup.change import Change
from opskit.backup.journal import Step
from opskit.backup.member import Member
from opskit.backup.tree import Tree

#: How a file system says that it has no hard links, or not for this file.
_NO_SECOND_NAME = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
_CHUNK = 1024 * 1024


def step_of(change: Change, token: str, number: int) -> Step:
    above, slash, _ = change.member.path.rpartition("/")
    beside = f"{above}{slash}.opskit-restore-{token}-{number}"
    return Step(change.member.path, f"{beside}.new", None if change.action == "new" else f"{beside}.old")


def stage(tree: Tree, archive: Archive, members: Mapping[str, Member], steps: Mapping[str, Step]) -> None:
    """Write every new file and link under its staged name, with its mode, time and owner.

    Raises OSError, and UnreadableError when the archive has changed since it was judged.
    """
    for path, step in steps.items():
        if members[path].kind == "link":
            tree.make_link(step.staged, members[path].target)
            _own(tree, members[path], step)
            tree.set_link_time(step.staged, members[path].mtime_ns)
    for one in archive.contents():
        if one.member.path in steps:
            _stage_file(tree, one.member, steps[one.member.path], one.chunks)


def _stage_file(tree: Tree, member: Member, step: Step, chunks: Iterator[bytes]) -> None:
    digest = hashlib.sha256()
    with os.fdopen(tree.create(step.staged), "wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        if digest.hexdigest() != member.sha256:
            raise UnreadableError("it has changed since it was read")
        file.flush()
        _own(tree, member, step)
        os.fchmod(file.fileno(), member.mode)
        os.utime(file.fileno(), ns=(member.mtime_ns, member.mtime_ns))
        os.fsync(file.fileno())


def _own(tree: Tree, member: Member, step: Step) -> None:
    """Only root may give files away: to the owner of what is replaced, else to that of the archive."""
    if os.geteuid() == 0:
        there = tree.look(step.path)
        uid, gid = (there.st_uid, there.st_gid) if there is not None else (member.uid, member.gid)
        tree.set_owner(step.staged, uid, gid)


def measured(tree: Tree, step: Step) -> Step:
    """The step with size and time of what is staged, as the file system keeps them."""
    found = tree.look(step.staged)
    if found is None:
        raise UnreadableError(f"it does not hold {step.path} any more")
    return replace(step, size=found.st_size, mtime_ns=found.st_mtime_ns)


def save(tree: Tree, step: Step) -> None:
    """A second name for what is to be replaced; a copy where the file system has no such thing."""
    if step.saved is None:
        return
    try:
        tree.second_name(step.path, step.saved)
    except OSError as exc:
        if exc.errno not in _NO_SECOND_NAME:
            raise
        _copy(tree, step.path, step.saved)


def _copy(tree: Tree, path: str, other: str) -> None:
    found = tree.look(path)
    if found is not None and stat.S_ISLNK(found.st_mode):
        tree.make_link(other, tree.read_link(path))
        return
    with os.fdopen(tree.open(path), "rb") as old, os.fdopen(tree.create(other), "wb") as new:
        while chunk := old.read(_CHUNK):
            new.write(chunk)
        new.flush()
        there = os.fstat(old.fileno())
        if os.geteuid() == 0:
            os.fchown(new.fileno(), there.st_uid, there.st_gid)
        os.fchmod(new.fileno(), stat.S_IMODE(there.st_mode))
        os.utime(new.fileno(), ns=(there.st_atime_ns, there.st_mtime_ns))
        os.fsync(new.fileno())
