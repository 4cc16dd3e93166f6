"""Moments as they are written: RFC 3339 in UTC, to the millisecond."""

from datetime import UTC, datetime


def utc(at: float) -> str:
    """`2026-11-21T09:30:00.000Z` of seconds since the epoch."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
