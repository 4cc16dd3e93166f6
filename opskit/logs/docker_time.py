"""The time that Docker writes in front of a message, to the nanosecond."""

import re
from datetime import UTC, datetime

from opskit.text import EARLIEST_S, LATEST_S

_ANY = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")


class Times:
    """Reads the time in front of a message. Consecutive messages mostly share their second."""

    def __init__(self) -> None:
        self._head = b""
        self._second_ns = 0

    def split(self, raw: bytes, default_ns: int) -> tuple[int, bytes]:
        """Nanoseconds since the epoch and the rest; `default_ns` and all of it when there is no time."""
        if raw[29:31] != b"Z " or raw[19:20] != b".":
            return self._slowly(raw, default_ns)
        head = raw[:19]
        try:
            if head != self._head:
                self._second_ns = _second_ns(head.decode("ascii"))
                self._head = head
            return self._second_ns + int(raw[20:29]), raw[31:]
        except ValueError:
            return default_ns, raw

    def _slowly(self, raw: bytes, default_ns: int) -> tuple[int, bytes]:
        """Podman trims zeros and may name an offset."""
        found = _ANY.match(raw)
        if found is None:
            return default_ns, raw
        try:
            moment_ns = _second_ns(found[1].decode())
        except ValueError:
            return default_ns, raw
        if found[3] != b"Z":
            sign = -1 if found[3][:1] == b"+" else 1
            moment_ns += sign * (int(found[3][1:3]) * 3600 + int(found[3][4:6]) * 60) * 1_000_000_000
        if not EARLIEST_S <= moment_ns / 1e9 < LATEST_S:
            moment_ns = default_ns
        return moment_ns + int((found[2] or b"0").ljust(9, b"0")), raw[found.end() :]


def _second_ns(head: str) -> int:
    moment = datetime.strptime(head, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000
