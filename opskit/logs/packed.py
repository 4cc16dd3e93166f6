"""The bytes of a log file, unpacked where packed: gzip, xz, bzip2 and zstd, recognised by the content.

What Windows writes in UTF-16 is read as UTF-8 in the same way.
"""

import codecs
import contextlib
import gzip
import importlib
import io
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

from opskit.errors import OpskitError

#: What the names of packed files end in.
SUFFIXES = (".gz", ".xz", ".bz2", ".zst")
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    # A level, then the first block or, in an empty file, the end.
    **{b"BZh%d%b" % (level, block): "bzip2" for level in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P")},
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"\x1f\x9d": "compress",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
_LONGEST_MAGIC = max(map(len, _MAGIC))


class _Unpacker(Protocol):
    def read1(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class _Utf16:
    """UTF-16 as UTF-8."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")

    def read1(self, size: int, /) -> bytes:
        text = ""
        while not text and (piece := self._file.read(size)):
            text = self._decoder.decode(piece)
        return (text or self._decoder.decode(b"", final=True)).encode("utf-8", "replace")

    def close(self) -> None:
        self._decoder.reset()


class PackedFile:
    """A packed file, read unpacked."""

    def __init__(self, unpacker: _Unpacker, file: BinaryIO, faults: tuple[type[Exception], ...]) -> None:
        self._unpacker = unpacker
        self._file = file
        self._faults = faults

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._unpacker.close()
        self._file.close()

    def piece(self, size: int, on_torn: Callable[[], None]) -> bytes:
        """At most so many bytes, none at the end or, after `on_torn`, at a tear."""
        try:
            # read1 gives what is unpacked so far; read would lose it at a tear.
            return self._unpacker.read1(size)
        except self._faults as exc:
            # bzip2 has no error of its own for what it cannot unpack.
            if isinstance(exc, OSError) and exc.errno is not None:
                raise
            on_torn()
            return b""


Log = io.FileIO | PackedFile


def open_log(path: Path) -> Log:
    """The bytes of a log, unpacked when it is packed (by its content, not by its name).

    Raises OpskitError LOG_001 with the reason.
    """
    with readable(path):
        raw = io.FileIO(path, opener=_at_once)
    if not raw.seekable():
        raw.close()
        raise OpskitError("LOG_001", f"{path} is no file that can be read from its beginning")
    try:
        with readable(path):
            head = raw.read(_LONGEST_MAGIC) or b""
            raw.seek(0)
        packer = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
        if (head[:2], head[3:4]) == (codecs.BOM_UTF16_LE, b"\0") or head[:3] == codecs.BOM_UTF16_BE + b"\0":
            packer = "utf-16"  # Its first character is of ASCII: other bytes may begin like this too.
        return raw if packer is None else _unpacked(raw, path, packer)
    except OpskitError:
        raw.close()
        raise


def read_piece(stream: Log, size: int, on_torn: Callable[[], None] = lambda: None) -> bytes:
    """At most so many bytes; none at the end, and after `on_torn` where a packed file is torn."""
    if isinstance(stream, PackedFile):
        return stream.piece(size, on_torn)
    return stream.read(size) or b""


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises OpskitError LOG_001 where reading the file raises OSError."""
    try:
        yield
    except OSError as exc:
        raise OpskitError("LOG_001", f"{path}: {(exc.strerror or str(exc)).lower()}") from exc


def torn(path: Path) -> OpskitError:
    """What is wrong with a packed file that was read as far as it goes."""
    return OpskitError(
        "LOG_001",
        f"{path}: the packed file ends in the middle: the rest is lost",
        remedy="pack it again, if it is still there unpacked",
    )


def _unpacked(raw: io.FileIO, path: Path, packer: str) -> PackedFile:
    file = io.BufferedReader(raw)
    if packer == "gzip":
        return PackedFile(gzip.GzipFile(fileobj=file), file, (EOFError, zlib.error, gzip.BadGzipFile))
    if packer == "utf-16":
        return PackedFile(_Utf16(file), file, ())
    if packer == "xz":
        import lzma

        return PackedFile(lzma.LZMAFile(file), file, (EOFError, lzma.LZMAError))
    if packer == "bzip2":
        import bz2

        return PackedFile(bz2.BZ2File(file), file, (EOFError, OSError))
    library = _zstd() if packer == "zstd" else None
    if library is None:
        remedy = "install `opskit[zstd]`, or unpack it first" if packer == "zstd" else "unpack it first"
        raise OpskitError(
            "LOG_001", f"{path} is packed by {packer}, which cannot be read here", remedy=remedy
        )
    return PackedFile(library.ZstdFile(file), file, (EOFError, library.ZstdError))


def _zstd() -> Any:
    """Python's own module from 3.14 on, before that the same one as a package; None without either."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    return None


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
