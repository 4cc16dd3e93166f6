"""Making an archive: whole, private and durable, or not at all."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from opskit.backup import tar_file
from opskit.backup.gzip_file import Sink
from opskit.backup.intake import UnfitError, take_in
from opskit.backup.manifest import MAX_BYTES, Manifest, Skipped, encode
from opskit.backup.member import MANIFEST_NAME, Member
from opskit.backup.place import not_written
from opskit.backup.selection import Selected
from opskit.backup.tree import Tree
from opskit.errors import OpskitError

TEMPORARY = ".tmp"


@dataclass(frozen=True, slots=True)
class Written:
    path: Path
    manifest: Manifest
    size_bytes: int


def write(
    tree: Tree, chosen: Sequence[Selected], draft: Manifest, path: Path, *, max_file_bytes: int
) -> Written:
    """Put what was chosen into the archive `path`, which must not exist.

    `draft` is the manifest without members and with what was skipped so far. What goes away, changes its kind
    or cannot be read meanwhile joins that. Raises BACKUP_003; nothing is left of it then.
    """
    try:
        with _whole(path) as file:
            with Sink(file) as sink:
                manifest = _pour(tree, chosen, draft, sink, max_file_bytes)
            size = file.tell()
    except OSError as exc:
        raise not_written(path, exc) from exc
    return Written(path, manifest, size)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that has its name only when it is complete and on the disk."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pour(
    tree: Tree, chosen: Sequence[Selected], draft: Manifest, sink: Sink, max_file_bytes: int
) -> Manifest:
    members: list[Member] = []
    skipped = list(draft.skipped)
    for one in chosen:
        try:
            members.append(take_in(tree, one, sink, max_file_bytes=max_file_bytes))
        except UnfitError as exc:
            skipped.append(Skipped(one.path, str(exc)))
    manifest = replace(draft, members=tuple(members), skipped=tuple(skipped))
    text = encode(manifest)
    if len(text) > MAX_BYTES:
        raise OpskitError(
            "BACKUP_003",
            "the paths of so many files do not fit into a manifest",
            remedy="narrow `backup.files`",
        )
    place = sink.cut()
    own = Member(MANIFEST_NAME, "file", 0o600, round(manifest.created.timestamp()) * 10**9, size=len(text))
    sink.write(tar_file.header(own) + text + tar_file.padding(len(text)) + tar_file.END)
    sink.finish(place)
    return manifest
