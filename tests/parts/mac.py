"""What macOS's network tools write, played by small programs on a PATH."""

from collections.abc import Mapping
from pathlib import Path

#: A desktop Mac with macOS 15: several cables, of which none need be plugged in.
DESKTOP_15 = """
Hardware Port: Ethernet Adapter (en4)
Device: en4
Ethernet Address: 00:00:5e:00:53:01

Hardware Port: AX88179A
Device: en6
Ethernet Address: 00:00:5e:00:53:03

Hardware Port: Thunderbolt Bridge
Device: bridge0
Ethernet Address: 00:00:5e:00:53:05

Hardware Port: Wi-Fi
Device: en0
Ethernet Address: 00:00:5e:00:53:06

Hardware Port: Thunderbolt 1
Device: en1
Ethernet Address: 00:00:5e:00:53:07

VLAN Configurations
===================
"""

#: A portable Mac until macOS 10.6: the port is called AirPort.
PORTABLE_10_6 = """
Hardware Port: Ethernet
Device: en0
Ethernet Address: 00:00:5e:00:53:11

Hardware Port: Bluetooth
Device: Bluetooth-Modem
Ethernet Address: N/A

Hardware Port: FireWire
Device: fw0
Ethernet Address: 00:00:5e:00:53:13

Hardware Port: AirPort
Device: en1
Ethernet Address: 00:00:5e:00:53:12

VLAN Configurations
===================
"""

#: A Mac in a rack.
WITHOUT_WIFI = """
Hardware Port: Ethernet
Device: en0
Ethernet Address: 00:00:5e:00:53:21

VLAN Configurations
===================
"""

ROUTE = """   route to: default
destination: default
       mask: default
    gateway: 192.0.2.1
  interface: {device}
      flags: <UP,GATEWAY,DONE,STATIC,PRCLONING,GLOBAL>
 recvpipe  sendpipe  ssthresh  rtt,msec    rttvar  hopcount      mtu     expire
       0         0         0         0         0         0      1500         0
"""
NO_ROUTE = "route: writing to routing socket: not in table"


def tools(
    folder: Path,
    *,
    ports: str = DESKTOP_15,
    power: str = "On",
    word: str = "Wi-Fi",
    addresses: Mapping[str, str] | None = None,
    route: str | None = "en0",
) -> Path:
    """A folder with networksetup, ipconfig and route.

    Switching the power on writes to `calls` in that folder, and to `power`, which later answers follow.
    """
    folder.mkdir(exist_ok=True)
    (folder / "ports").write_text(ports)
    (folder / "power").write_text(power)
    (folder / "route.txt").write_text(ROUTE.format(device=route) if route else "")
    for device, address in (addresses or {}).items():
        (folder / f"address-{device}").write_text(f"{address}\n")
    _program(
        folder / "networksetup",
        f"""case "$1" in
-listallhardwareports) cat "$here/ports";;
-getairportpower) echo "{word} Power ($2): $(cat "$here/power")";;
-setairportpower) echo "$*" >> "$here/calls"
    if [ "$3" = on ]; then printf On > "$here/power"; echo 192.0.2.7 > "$here/address-$2"
    else printf Off > "$here/power"; rm -f "$here/address-$2"; fi;;
-getairportnetwork) echo "You are not associated with an AirPort network.";;
esac""",
    )
    _program(folder / "ipconfig", '[ "$1" = getifaddr ] && exec cat "$here/address-$2" 2>/dev/null')
    told = f'cat "$here/route.txt"; [ -s "$here/route.txt" ] || {{ echo "{NO_ROUTE}" >&2; exit 1; }}'
    _program(folder / "route", told)
    return folder


def _program(path: Path, script: str) -> None:
    path.write_text(f'#!/bin/sh\nhere=$(dirname "$0")\n{script}\n')
    path.chmod(0o755)
