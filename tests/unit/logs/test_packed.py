"""Rotated logs are read whatever packed them, and what cannot be read is said."""

import bz2
import gzip
import lzma
import sys

import pytest

from opskit.errors import OpskitError
from opskit.logs.files import FileSource, rotated
from opskit.logs.select import EntryFilter
from opskit.logs.show import once
from opskit.logs.source import Unreadable, Window
from opskit.logs.stats import tally_file

LINES = [
    f"2026-05-04T10:20:{n % 60:02d}Z {'ERROR' if n % 2 else 'INFO'} step {n * n * 7919}"
    for n in range(20_000)
]
TEXT = "".join(f"{line}\n" for line in LINES).encode()


def zstd(text: bytes) -> bytes:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    module = pytest.importorskip(name, reason="the extra `zstd` is not installed")
    packed: bytes = module.compress(text)
    return packed


PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zst": zstd}


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_packed_log_is_read_like_a_plain_one(suffix, tmp_path):
    """By search, from its end and in statistics; of several parts packed one after another, all."""
    path = tmp_path / "app.log.1"
    half = TEXT.index(b"\n", len(TEXT) // 2) + 1
    path.write_bytes(PACKERS[suffix](TEXT[:half]) + PACKERS[suffix](TEXT[half:]))
    source = FileSource(path)
    assert not source.is_plain
    assert [event.raw.decode() for event in source.wanted(EntryFilter())] == LINES
    assert [event.raw.decode() for event in source.wanted(EntryFilter(), 3)] == LINES[-3:]
    tally = tally_file(path)
    assert (tally.lines, tally.errors.total) == (len(LINES), len(LINES) // 2)


@pytest.mark.parametrize("suffix", PACKERS)
async def test_a_torn_one_is_read_as_far_as_it_goes(suffix, tmp_path):
    """And it is said that the rest is lost."""
    path = tmp_path / "app.log.1"
    packed = PACKERS[suffix](TEXT)
    path.write_bytes(packed[: len(packed) * 3 // 4])
    *_, last = [item async for item in once([FileSource(path)], EntryFilter(), Window())]
    assert isinstance(last, Unreadable)
    assert "ends in the middle" in last.text


@pytest.mark.parametrize(("head", "packer"), [(b"PK\x03\x04", "zip"), (b"\x04\x22\x4d\x18", "lz4")])
async def test_what_cannot_be_unpacked_is_said(head, packer, tmp_path):
    """Packed bytes are never searched as if they were text."""
    path = tmp_path / "app.log.1"
    path.write_bytes(head + bytes(100))
    [item] = [item async for item in once([FileSource(path)], EntryFilter(), Window())]
    assert isinstance(item, Unreadable)
    assert packer in item.text
    with pytest.raises(OpskitError, match=packer):
        tally_file(path)


def test_a_text_that_begins_like_a_packer_is_text(tmp_path):
    """bzip2's three letters alone are a word."""
    path = tmp_path / "app.log"
    path.write_bytes(b"BZhou logged in\n")
    assert [event.raw for event in FileSource(path).wanted(EntryFilter())] == [b"BZhou logged in"]


def test_generations_are_known_whatever_packed_them(tmp_path):
    """Oldest first."""
    names = ["app.log.4.zst", "app.log.3.xz", "app.log.2.bz2", "app.log.1.gz", "app.log"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in rotated(tmp_path / "app.log")] == names
