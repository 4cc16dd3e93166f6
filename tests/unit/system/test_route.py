"""The default route, out of what the systems tell of it."""

from opskit.system.network import NetworkRoute, linux_route, linux_route_6, mac_route

LINUX = """Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth1 00000000 0100A8C0 0003 0 0 600 00000000 0 0 0
eth0 00000000 010200C0 0003 0 0 100 00000000 0 0 0
tun0 00000000 00000000 0001 0 0 700 00000000 0 0 0
eth0 000200C0 00000000 0001 0 0 100 00FFFFFF 0 0 0
eth2 00000000 010200C0 0002 0 0 1 00000000 0 0 0
"""
MACOS = """   route to: default
destination: default
       mask: default
    gateway: 192.168.1.1
  interface: en1
      flags: <UP,GATEWAY,DONE,STATIC,PRCLONING,GLOBAL>
"""


def test_the_route_linux_route_with_the_lowest_metric_counts():
    """One that is down does not, whatever its metric."""
    assert linux_route(LINUX) == NetworkRoute("eth0", "192.0.2.1")
    assert linux_route(LINUX.splitlines()[0]) is None


def test_the_route_of_ipv6_is_read():
    """The kernel's route to nowhere on `lo` is none."""
    row = "{} 00 {} 00 {} 00000400 00000001 00000000 {} {}"
    zero, gateway = "0" * 32, "fe80" + "0" * 27 + "1"
    assert linux_route_6(row.format(zero, zero, zero, "00200200", "lo")) is None
    assert linux_route_6(row.format(zero, zero, gateway, "00000003", "eth0")) == NetworkRoute(
        "eth0", "fe80::1"
    )


def test_the_route_of_a_mac_is_read():
    """A VPN has no gateway."""
    assert mac_route(MACOS) == NetworkRoute("en1", "192.168.1.1")
    assert mac_route("interface: utun4\n") == NetworkRoute("utun4", None)
    assert mac_route("route: writing to routing socket: not in table\n") is None
