"""Taking one file, folder or link into an archive, as it was at one moment."""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import replace

from opskit.backup import tar_file
from opskit.backup.gzip_file import Sink
from opskit.backup.member import Kind, Member, problem_of_link
from opskit.backup.selection import Selected
from opskit.backup.tree import Tree, is_regular

#: Up to this size a file is read whole before it is written.
_SMALL_BYTES = 1024 * 1024
_CHUNK = 1024 * 1024
#: How often a file that changes while it is read is read again.
_ATTEMPTS = 3


class UnfitError(Exception):
    """It cannot be kept; the message says why."""


def take_in(tree: Tree, one: Selected, sink: Sink, *, max_file_bytes: int) -> Member:
    """The member that was written to `sink`. Nothing was written when this raises UnfitError.

    An OSError from here comes from `sink`. Of the mode only the nine permission bits are kept.
    """
    if one.kind == "file":
        return _file(tree, one.path, sink, max_file_bytes)
    with _reading():
        found = tree.look(one.path)
        if found is None or _kind(found) != one.kind:
            raise UnfitError("it went away while the backup was made")
        target = tree.read_link(one.path) if one.kind == "link" else ""
    if one.kind == "link" and (why := problem_of_link(one.path, target)):
        raise UnfitError(why)
    member = replace(_member(one.path, one.kind, found), size=0, target=target)
    sink.write(tar_file.header(member))
    return member


def _file(tree: Tree, path: str, sink: Sink, max_file_bytes: int) -> Member:
    for attempt in range(1, _ATTEMPTS + 1):
        with contextlib.ExitStack() as stack:
            with _reading():
                handle = tree.open(path)
                stack.callback(os.close, handle)
                before = os.fstat(handle)
            if not is_regular(before):
                raise UnfitError("it is no longer a regular file")
            if before.st_size > max_file_bytes:
                raise UnfitError(
                    f"it has {before.st_size} bytes, more than the {max_file_bytes} of --max-size"
                )
            take = _small if before.st_size <= _SMALL_BYTES else _large
            member = take(handle, _member(path, "file", before), before, sink, last=attempt == _ATTEMPTS)
            if member is not None:
                return member
    raise UnfitError("it was cut shorter each time it was read")


def _small(handle: int, member: Member, before: os.stat_result, sink: Sink, *, last: bool) -> Member | None:
    """None when the file changed meanwhile and is to be read again."""
    data = b"".join(_read(handle, member.size))
    changed = _changed(handle, before)
    if changed and not last:
        return None
    member = replace(member, size=len(data), sha256=hashlib.sha256(data).hexdigest(), changed=changed)
    sink.write(tar_file.header(member) + data + tar_file.padding(len(data)))
    return member


def _large(handle: int, member: Member, before: os.stat_result, sink: Sink, *, last: bool) -> Member | None:
    """None when the file changed meanwhile and is to be read again, or is shorter than its header says."""
    place = sink.cut()
    sink.write(tar_file.header(member))
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in _read(handle, member.size):
            digest.update(chunk)
            size += len(chunk)
            sink.write(chunk)
        changed = _changed(handle, before)
    except UnfitError:
        sink.take_back(place)
        raise
    if size < member.size or (changed and not last):
        sink.take_back(place)
        return None
    sink.write(tar_file.padding(size))
    return replace(member, sha256=digest.hexdigest(), changed=changed)


def _read(handle: int, size: int) -> Iterator[bytes]:
    """At most `size` bytes: what a writer adds meanwhile is not part of it."""
    left = size
    while left:
        with _reading():
            chunk = os.read(handle, min(left, _CHUNK))
        if not chunk:
            return
        left -= len(chunk)
        yield chunk


def _changed(handle: int, before: os.stat_result) -> bool:
    with _reading():
        after = os.fstat(handle)
    return (after.st_size, after.st_mtime_ns, after.st_ctime_ns) != (
        before.st_size,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


def _member(path: str, kind: Kind, found: os.stat_result) -> Member:
    mode = stat.S_IMODE(found.st_mode) & 0o777
    return Member(path, kind, mode, found.st_mtime_ns, found.st_uid, found.st_gid, found.st_size)


def _kind(found: os.stat_result) -> Kind | None:
    if stat.S_ISLNK(found.st_mode):
        return "link"
    return "folder" if stat.S_ISDIR(found.st_mode) else None


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """What cannot be read is not kept."""
    try:
        yield
    except OSError as exc:
        raise UnfitError(f"it cannot be read: {exc.strerror}") from exc
