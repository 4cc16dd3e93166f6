"""The default route of this machine, through which it reaches what is not on its own networks."""

import ipaddress
import re
import socket
import struct
import sys
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path

from opskit.records import Record
from opskit.system.program import NotStarted, run

_UP, _GATEWAY = 0x1, 0x2


class NetworkRoute(Record):
    """`gateway` None: the interface is the way out by itself, as with a VPN."""

    interface: str
    gateway: str | None = None


async def default_route(environ: Mapping[str, str], root: Path = Path("/")) -> NetworkRoute | None:
    """Return the route with the lowest metric, IPv4 before IPv6; None when there is none."""
    if sys.platform == "darwin":
        for family in ("-inet", "-inet6"):
            try:
                done = await run(("/sbin/route", "-n", "get", family, "default"), env=environ)
            except NotStarted:
                return None
            if done.exit == 0 and (route := of_macos(done.out)):
                return route
        return None
    return of_linux(_text(root / "proc/net/route")) or of_linux_6(_text(root / "proc/net/ipv6_route"))


def of_linux(table: str) -> NetworkRoute | None:
    """Read `/proc/net/route`, which holds hexadecimal addresses in the byte order of the machine."""
    routes: list[tuple[int, NetworkRoute]] = []
    for line in table.splitlines()[1:]:
        cells = line.split()
        if len(cells) < 8 or cells[1] != "00000000" or cells[7] != "00000000":
            continue
        flags = int(cells[3], 16)
        if not flags & _UP:
            continue
        address = socket.inet_ntoa(struct.pack("=I", int(cells[2], 16)))
        routes.append((int(cells[6]), NetworkRoute(cells[0], address if flags & _GATEWAY else None)))
    return min(routes, key=itemgetter(0))[1] if routes else None


def of_linux_6(table: str) -> NetworkRoute | None:
    """Read `/proc/net/ipv6_route`. The kernel keeps a default route to nowhere on `lo`."""
    routes: list[tuple[int, NetworkRoute]] = []
    for line in table.splitlines():
        cells = line.split()
        if len(cells) < 10 or cells[0] != "0" * 32 or cells[1] != "00" or cells[9] == "lo":
            continue
        flags = int(cells[8], 16)
        if flags & _UP:
            address = str(ipaddress.IPv6Address(bytes.fromhex(cells[4])))
            routes.append((int(cells[5], 16), NetworkRoute(cells[9], address if flags & _GATEWAY else None)))
    return min(routes, key=itemgetter(0))[1] if routes else None


def of_macos(text: str) -> NetworkRoute | None:
    """Read the output of `route -n get default`."""
    fields = dict(re.findall(r"^\s*(gateway|interface): (\S+)", text, re.MULTILINE))
    if "interface" not in fields:
        return None
    return NetworkRoute(fields["interface"], fields.get("gateway"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
