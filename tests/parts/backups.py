"""Archives made to order, and folders compared."""

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from opskit.backup import gzip_file, tar_file
from opskit.backup.manifest import Manifest, encode
from opskit.backup.member import MANIFEST_NAME, Member

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def file(path: str, content: bytes = b"x", **more: object) -> Member:
    """The member that `content` makes."""
    given = {"mode": 0o644, "mtime_ns": 10**18, "size": len(content)} | more
    return Member(path, "file", sha256=hashlib.sha256(content).hexdigest(), **given)


def folder(path: str, **more: object) -> Member:
    return Member(path, "folder", **({"mode": 0o755, "mtime_ns": 10**18} | more))


def link(path: str, target: str) -> Member:
    return Member(path, "link", 0o777, 10**18, target=target)


def manifest(members: Sequence[Member], root: str = "/srv/stack") -> Manifest:
    return Manifest("backup", "0", "host", root, NOW, tuple(members))


def entry(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, target: str = ""
) -> bytes:
    """A raw tar member of any kind."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, target, len(content)
    head = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return head + content + tar_file.padding(len(content))


def entries(members: Sequence[Member], contents: dict[str, bytes] | None = None) -> bytes:
    """The tar members that a manifest tells of."""
    whole = b""
    for one in members:
        content = (contents or {}).get(one.path, b"x") if one.kind == "file" else b""
        whole += tar_file.header(one) + content + tar_file.padding(len(content))
    return whole


def forged(path: Path, told: Manifest | bytes, tar: bytes) -> Path:
    """An archive with this manifest and these tar members, whether they fit each other or not."""
    text = told if isinstance(told, bytes) else encode(told)
    file = io.BytesIO()
    with gzip_file.Sink(file) as sink:
        sink.write(tar)
        place = sink.cut()
        own = Member(MANIFEST_NAME, "file", 0o600, 0, size=len(text))
        sink.write(tar_file.header(own) + text + tar_file.padding(len(text)) + tar_file.END)
        sink.finish(place)
    path.write_bytes(file.getvalue())
    return path


def snapshot(root: Path, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Everything below a folder: kind, permissions, content, and the times of files."""
    found: dict[str, tuple[object, ...]] = {}
    for where, folders, files in os.walk(root):
        for path in (Path(where, name) for name in folders + files):
            seen = path.lstat()
            key = str(path.relative_to(root))
            if stat.S_ISLNK(seen.st_mode):
                found[key] = ("link", str(path.readlink()))
            elif stat.S_ISDIR(seen.st_mode):
                found[key] = ("folder", stat.S_IMODE(seen.st_mode))
            else:
                time = seen.st_mtime_ns if times else None
                found[key] = ("file", stat.S_IMODE(seen.st_mode), time, path.read_bytes())
    return found
