"""The tar side of an archive: headers, written and read one after another in a stream.

`tarfile` makes and parses the 512-byte headers. The walk over them is ours: tarfile would read a header of
any size into memory, follow sparse maps and guess at what it does not know; here that is damage.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from opskit.backup.member import Member

BLOCK = 512
#: What a tar stream ends with.
END = bytes(2 * BLOCK)
_CHUNK = 1024 * 1024
#: An extended header holds a path and a link target, each of a few kilobytes.
_EXTENDED_BYTES = 64 * 1024
_TYPES = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "FIFO",
}
_KNOWN_KEYS = frozenset({"path", "linkpath", "size", "uid", "gid", "mtime", "hdrcharset"})


class DamagedError(Exception):
    """The stream is cut off, or not of the shape that opskit writes; the message says where."""


@dataclass(frozen=True, slots=True)
class Header:
    """`kind` is that of a member, or a word for what no member may be."""

    path: str
    kind: str
    mode: int
    size: int
    target: str


def header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.path)
    info.type = _TYPES[member.kind]
    info.mode, info.size, info.linkname = member.mode, member.size, member.target
    info.uid, info.gid, info.mtime = member.uid, member.gid, max(0, member.mtime_ns // 10**9)
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """What fills the last block of a file."""
    return bytes(-size % BLOCK)


def headers(stream: BinaryIO) -> Iterator[Header]:
    """The headers of a stream. The reader must have taken the content of each before it asks for the next.

    Raises DamagedError; of an unpacked stream also OSError, EOFError and zlib.error.
    """
    extended: dict[str, str] | None = None
    while True:
        block = _exactly(stream, BLOCK)
        if block == END[:BLOCK]:
            break
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as exc:
            raise DamagedError("a tar header is damaged") from exc
        if info.size < 0:
            raise DamagedError("a tar header has a negative size")
        if info.type == tarfile.XHDTYPE and extended is None:
            if info.size > _EXTENDED_BYTES:
                raise DamagedError(f"an extended tar header is larger than {_EXTENDED_BYTES} bytes")
            extended = _records(_exactly(stream, info.size))
            _exactly(stream, len(padding(info.size)))
            continue
        yield _header(info, extended or {})
        extended = None
    if extended is not None or _exactly(stream, BLOCK) != END[:BLOCK] or stream.read(1):
        raise DamagedError("the tar stream does not end as it should")


def content(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The content behind a header, in chunks; the padding is taken as well."""
    left = size
    while left:
        chunk = _exactly(stream, min(left, _CHUNK))
        left -= len(chunk)
        yield chunk
    if _exactly(stream, len(padding(size))).strip(b"\0"):
        raise DamagedError("there is something between two members")


def _header(info: tarfile.TarInfo, extended: dict[str, str]) -> Header:
    kind = _KINDS.get(info.type, f"tar member of type {info.type!r}")
    try:
        size = int(extended.get("size", info.size))
    except ValueError as exc:
        raise DamagedError("an extended tar header has no valid size") from exc
    if size < 0 or size >= 2**62 or (size and kind in ("folder", "link")):
        raise DamagedError("a tar header has a size that cannot be")
    path = extended.get("path", info.name)
    path = path.removesuffix("/") if kind == "folder" else path
    return Header(path, kind, info.mode, size, extended.get("linkpath", info.linkname))


def _records(text: bytes) -> dict[str, str]:
    """Each is `LENGTH KEY=VALUE` and a line end (POSIX pax)."""
    found: dict[str, str] = {}
    while text:
        length, space, _ = text.partition(b" ")
        if (
            not space
            or not length.isdigit()
            or len(length) > 5
            or not len(length) + 2 < int(length) <= len(text)
        ):
            raise DamagedError("an extended tar header is damaged")
        record, text = text[len(length) + 1 : int(length)], text[int(length) :]
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        name = key.decode("utf-8", "replace")
        if not equals or not record.endswith(b"\n"):
            raise DamagedError("an extended tar header is damaged")
        if name not in _KNOWN_KEYS:
            raise DamagedError(f"an extended tar header sets {name!r}, which opskit never writes")
        found[name] = value.decode("utf-8", "surrogateescape")
    return found


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise DamagedError("the archive is cut off")
    return data
