"""The manifest as text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.backup.manifest import DamagedArchiveError, decode, encode
from tests.parts.backups import file, folder, link, manifest

_TEXT = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=20)


@given(_TEXT, st.integers(-(2**62) + 1, 2**62 - 1), st.binary(max_size=9), _TEXT.filter(bool))
def test_it_comes_back_as_it_was(path: str, time: int, content: bytes, target: str) -> None:
    """Names of any bytes, times before 1970 and after 2038: nothing is lost in JSON."""
    told = manifest([folder(path), file(path, content, mtime_ns=time, changed=True), link(path, target)])
    assert decode(encode(told)) == told


def _content(**news: Any) -> dict[str, Any]:
    return json.loads(encode(manifest([file("a"), link("b", "a")]))) | news


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        _content(schema_version=2),
        _content(members=None),
        _content(members=[1]),
        _content(members=[{"path": 1}]),
        _content(created="yesterday"),
        _content(created="2026-11-21T09:30:00"),
        _content(purpose="joke"),
        *(
            _content(members=[{**_content()["members"][0], **wrong}])
            for wrong in (
                {"size": -1},
                {"size": 2**70},
                {"size": True},
                {"size": "1"},
                {"mode": -1},
                {"uid": 2**32 - 1},
                {"kind": "device"},
                {"sha256": None},
                {"kind": "folder", "size": 5},
            )
        ),
    ],
)
def test_what_is_no_manifest_is_refused(content: bytes | dict[str, Any]) -> None:
    """Each wrong type, range or word is one error, and never another exception."""
    with pytest.raises(DamagedArchiveError):
        decode(content if isinstance(content, bytes) else json.dumps(content).encode())
