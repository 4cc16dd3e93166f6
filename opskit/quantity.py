"""Amounts as people write them: `500ms`, `2s`, `1m30s`, `2w`, `10GiB`, `200 MB`. Pure."""

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)? ?(?:ms|[smhdw]) ?)+")
_PIECE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|[smhdw])")
_BYTES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(i?)b", re.IGNORECASE)


def duration_s(text: str) -> float | None:
    """Return seconds; None when `text` is no duration, such as a number without a unit."""
    word = text.strip()
    if not _DURATION.fullmatch(word):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PIECE.findall(word))


def size_bytes(text: str) -> int | None:
    """Return bytes, with `KiB` for 1024 and `kB` for 1000; None when `text` is no size."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        return None
    units = _BINARY if match[3] else _BYTES
    return round(float(match[1]) * units[match[2].lower()])


def amount(text: str) -> float | None:
    """Return the number of a duration or a size, to compare with."""
    seconds = duration_s(text)
    return seconds if seconds is not None else size_bytes(text)
