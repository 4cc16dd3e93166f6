"""The network: whether a TCP connection is accepted, and the ways to others: Wi-Fi, cable, default route.

The name of the Wi-Fi network is never asked: macOS 15 does not tell it to programs, and answers "not
associated" while it is (ops facts 12).
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
import struct
import sys
import time
from collections.abc import Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from opskit.records import Record, replace
from opskit.system.program import NotStarted, ProgramResult, run

Link = Literal["wifi", "wired"]
_PORT = re.compile(r"^Hardware Port: (?P<name>.+)\nDevice: (?P<device>\S+)", re.MULTILINE)
#: macOS wrote AirPort until 10.6.
_WIFI_NAMES = ("wi-fi", "airport")
#: Ports that carry no traffic of this machine by themselves, whatever address they have.
_NOT_WIRED = ("bridge", "bluetooth", "firewire")
_POWER = re.compile(r"^(?:Wi-Fi|AirPort) Power \(\S+\): (?P<power>On|Off)\s*$", re.MULTILINE)
#: Flags of a route of Linux.
_UP, _GATEWAY = 0x1, 0x2
#: Turns of the loop in which a process that had none on a busy machine finds that it was connected.
_TURNS = 8
_SELF_ASSIGNED = "169.254."
#: What a resolver says of a name that has no address, or none of the family.
_NO_ADDRESS = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
}


class TcpResult(Record):
    """How an attempt to connect ended, and the `seconds` that it took either way.

    `problem` is None when the connection was accepted. `errno` is the number of the system or its resolver
    for it, where there is one: several addresses may fail in several ways.
    """

    seconds: float
    problem: Literal["refused", "timeout", "name", "unreachable"] | None = None
    errno: int | None = None

    def is_without_dns(self, host: str) -> bool:
        """Tell whether the resolver itself failed, which says nothing of the name."""
        is_unknown = self.problem == "name" and self.errno is not None
        return is_unknown and not has_no_address(host, self.errno)


def endpoint(url: str) -> tuple[str, int]:
    """Return host and port of a URL, the scheme's port when it names none."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def postgres_url(url: str | None) -> str | None:
    """Return the address of a PostgreSQL without a driver (`postgresql+asyncpg`); None for any other one."""
    scheme, _, address = (url or "").strip().partition("://")
    return f"postgresql://{address}" if scheme.partition("+")[0] in ("postgres", "postgresql") else None


def has_port(url: str) -> bool:
    """Tell whether the port of a URL, and what stands in front of it, can be read; it may be left out."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def authority(host: str, port: int | None) -> str:
    """Write host and port as a URL has them, with an IPv6 address in brackets."""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0 takes a free one. Raises OSError."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=512)


def has_no_address(host: str, number: int | None) -> bool:
    """Tell whether the resolver, which failed with this number, proves that a name has no address.

    All else is its own failure. No resolver may know a name under .invalid (RFC 6761).
    """
    return number in _NO_ADDRESS or f".{host}".rstrip(".").lower().endswith(".invalid")


async def connects(url: str, *, timeout_s: float) -> TcpResult:
    """Open and close one connection. No byte is sent to the server."""
    host, port = endpoint(url)
    began = time.monotonic()
    problem: Literal["refused", "timeout", "name", "unreachable"] | None = None
    number: int | None = None
    opening = asyncio.ensure_future(asyncio.open_connection(host, port))
    try:
        await asyncio.wait({opening}, timeout=timeout_s)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if opening.done():
            _, writer = opening.result()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        else:
            problem = "timeout"
    except TimeoutError:
        problem = "timeout"
    except socket.gaierror as exc:
        problem, number = "name", exc.errno
    except OSError as exc:
        refused = isinstance(exc, ConnectionRefusedError) or "refused" in str(exc).lower()
        problem = "refused" if refused else "unreachable"
        number = exc.errno
    finally:
        opening.cancel()
    return TcpResult(time.monotonic() - began, problem, number)


class NetworkPort(Record):
    """One network device of the machine. `name` is what the system calls it, e.g. `USB 10/100/1000 LAN`."""

    device: str
    link: Link
    name: str
    address: str | None = None

    @property
    def usable(self) -> bool:
        """Whether it has an address that was assigned to it: 169.254.x.y it chose itself."""
        return self.address is not None and not self.address.startswith(_SELF_ASSIGNED)


class WifiState(Record):
    """How the machine is connected. `power` is None when unknown, `route` the device of the default route."""

    ports: tuple[NetworkPort, ...]
    power: bool | None = None
    route: str | None = None

    @property
    def wifi(self) -> NetworkPort | None:
        return next((port for port in self.ports if port.link == "wifi"), None)

    @property
    def wired(self) -> NetworkPort | None:
        """A cable that has an address."""
        return next((port for port in self.ports if port.link == "wired" and port.usable), None)


async def wifi_of_mac(environ: Mapping[str, str]) -> WifiState:
    """Ask networksetup, ipconfig and route, side by side.

    Raises NotStarted where they are missing, TimeoutError when one hangs.
    """
    async with asyncio.timeout(5.0):
        listed, route = await asyncio.gather(
            _ask(environ, "networksetup", "-listallhardwareports"),
            _ask(environ, "route", "-n", "get", "default"),
        )
        ports = mac_ports(listed.out)
        wifi = next((port for port in ports if port.link == "wifi"), None)
        questions = [_ask(environ, "ipconfig", "getifaddr", port.device) for port in ports]
        if wifi is not None:
            questions.append(_ask(environ, "networksetup", "-getairportpower", wifi.device))
        answers = await asyncio.gather(*questions)
    addresses = (answer.out.strip() if answer.exit == 0 else "" for answer in answers)
    addressed = tuple(
        replace(port, address=address or None) for port, address in zip(ports, addresses, strict=False)
    )
    power = None if wifi is None else mac_power(answers[-1].out)
    default = mac_route(route.out)
    return WifiState(addressed, power, None if default is None else default.interface)


def mac_ports(text: str) -> tuple[NetworkPort, ...]:
    """Read Wi-Fi and cables out of `networksetup -listallhardwareports`."""
    ports = []
    for match in _PORT.finditer(text):
        name, device = match["name"].strip(), match["device"]
        low = name.lower()
        if low in _WIFI_NAMES:
            ports.append(NetworkPort(device, "wifi", name))
        elif not any(word in low for word in _NOT_WIRED):
            ports.append(NetworkPort(device, "wired", name))
    return tuple(ports)


def mac_power(text: str) -> bool | None:
    """Read `networksetup -getairportpower`; None for a device that is no Wi-Fi."""
    match = _POWER.search(text)
    return None if match is None else match["power"] == "On"


async def _ask(environ: Mapping[str, str], *command: str) -> ProgramResult:
    return await run(command, env=environ)


class NetworkRoute(Record):
    """The default route, through which this machine reaches what is not on its own networks.

    `gateway` None: the interface is the way out by itself, as with a VPN.
    """

    interface: str
    gateway: str | None = None


async def default_route(environ: Mapping[str, str]) -> NetworkRoute | None:
    """Return the route with the lowest metric, IPv4 before IPv6; None when there is none."""
    if sys.platform == "darwin":
        for family in ("-inet", "-inet6"):
            try:
                done = await run(("/sbin/route", "-n", "get", family, "default"), env=environ)
            except NotStarted:
                return None
            if done.exit == 0 and (route := mac_route(done.out)):
                return route
        return None
    return linux_route(_text(Path("/proc/net/route"))) or linux_route_6(_text(Path("/proc/net/ipv6_route")))


def linux_route(table: str) -> NetworkRoute | None:
    """Read `/proc/net/route`, which holds hexadecimal addresses in the byte order of the machine."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return _lowest(
        (int(row[6]), int(row[3], 16), row[0], socket.inet_ntoa(struct.pack("=I", int(row[2], 16))))
        for row in rows
        if len(row) >= 8 and row[1] == row[7] == "00000000"
    )


def linux_route_6(table: str) -> NetworkRoute | None:
    """Read `/proc/net/ipv6_route`. The kernel keeps a default route to nowhere on `lo`."""
    rows = [line.split() for line in table.splitlines()]
    return _lowest(
        (int(row[5], 16), int(row[8], 16), row[9], str(ipaddress.IPv6Address(bytes.fromhex(row[4]))))
        for row in rows
        if len(row) >= 10 and row[0] == "0" * 32 and row[1] == "00" and row[9] != "lo"
    )


def _lowest(routes: Iterable[tuple[int, int, str, str]]) -> NetworkRoute | None:
    """Return the first of the routes (metric, flags, interface, gateway) that are up."""
    up = min((route for route in routes if route[1] & _UP), key=itemgetter(0), default=None)
    return None if up is None else NetworkRoute(up[2], up[3] if up[1] & _GATEWAY else None)


def mac_route(text: str) -> NetworkRoute | None:
    """Read the output of `route -n get default`."""
    fields = dict(re.findall(r"^\s*(gateway|interface): (\S+)", text, re.MULTILINE))
    return NetworkRoute(fields["interface"], fields.get("gateway")) if "interface" in fields else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
