"""Wi-Fi and the internet as recovery sees them: macOS's tools played on a PATH, real sockets on loopback."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.facts.internet import InternetTargets
from opskit.recovery.outcome import Outcome, RepairResult
from opskit.recovery.step import RecoveryContext, Step
from opskit.recovery.steps.network import internet, wifi
from tests.parts import mac
from tests.parts.healing import Healing, configured, outcome

ALLOWED = {"wifi_toggle": True, "wifi_toggle_every_s": 900.0}


def of_mac(tmp_path: Path, tools: Path, *, clock: float | None = None, **rules: object) -> Healing:
    environ = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    made = Healing(
        tmp_path / "state", configured(tmp_path / "config", {"recovery": rules}), environ, "darwin"
    )
    if clock is not None:
        made.clock = lambda: clock
    return made


async def healed(healing: Healing) -> Outcome:
    return outcome(await healing.run(lambda context: [step for step in [wifi(context)] if step]), "wifi")


def calls(tools: Path) -> list[str]:
    path = tools / "calls"
    return path.read_text().splitlines() if path.exists() else []


async def test_wifi_that_is_connected_is_well(tmp_path: Path):
    """Power, an address and a default route: whatever the system says of the network's name."""
    tools = mac.tools(tmp_path / "bin", addresses={"en0": "192.0.2.7"})
    found = await healed(of_mac(tmp_path, tools))
    assert (found.result, found.cause) == (RepairResult.OK, "en0 is connected")


async def test_the_forms_of_an_old_macos_are_read(tmp_path: Path):
    """Until 10.6 the port is called AirPort, and it is not en0."""
    tools = mac.tools(
        tmp_path / "bin", ports=mac.PORTABLE_10_6, word="AirPort", addresses={"en1": "192.0.2.7"}, route="en1"
    )
    found = await healed(of_mac(tmp_path, tools))
    assert (found.result, found.evidence["device"]) == (RepairResult.OK, "en1")


async def test_a_cable_makes_wifi_unimportant(tmp_path: Path):
    """With an address on a cable, Wi-Fi that is off is nothing to mend."""
    tools = mac.tools(tmp_path / "bin", power="Off", addresses={"en6": "192.0.2.8"}, route="en6")
    found = await healed(of_mac(tmp_path, tools, **ALLOWED))
    assert (found.result, calls(tools)) == (RepairResult.OK, [])


async def test_a_mac_without_wifi_has_no_such_step(tmp_path: Path):
    """What the machine does not have is absent."""
    tools = mac.tools(tmp_path / "bin", ports=mac.WITHOUT_WIFI)
    assert (await healed(of_mac(tmp_path, tools))).result is RepairResult.ABSENT


@pytest.mark.parametrize(
    ("power", "address", "route", "state"),
    [
        ("Off", None, None, "off"),
        ("On", None, None, "no address"),
        ("On", "169.254.7.7", None, "no address"),
        ("On", "192.0.2.7", None, "no route"),
    ],
)
async def test_what_is_missing_is_told_and_not_touched(
    tmp_path: Path, power: str, address: str | None, route: str | None, state: str
):
    """Unless the configuration allows it, Wi-Fi is not switched; the remedy says what a person types."""
    given = {"en0": address} if address else {}
    tools = mac.tools(tmp_path / "bin", power=power, addresses=given, route=route)
    found = await healed(of_mac(tmp_path, tools))
    assert (found.result, found.state, calls(tools)) == (RepairResult.MANUAL, state, [])
    assert "networksetup -setairportpower en0" in (found.remedy or "")


async def test_wifi_is_switched_off_and_on_where_allowed_and_not_again_soon(tmp_path: Path):
    """A toggle mends it; a second one within `wifi_toggle_every_s` is not made."""
    tools = mac.tools(tmp_path / "bin", addresses={"en0": "169.254.7.7"})
    healing = of_mac(tmp_path, tools, clock=1000.0, **ALLOWED)
    found = await healed(healing)
    assert found.result is RepairResult.REPAIRED, found
    assert calls(tools) == ["-setairportpower en0 off", "-setairportpower en0 on"]
    (tools / "address-en0").unlink()
    healing.clock = lambda: 1600.0
    assert (await healed(healing)).result is RepairResult.MANUAL
    healing.clock = lambda: 2000.0
    assert (await healed(healing)).result is RepairResult.REPAIRED
    assert len(calls(tools)) == 4


async def test_wifi_that_is_off_is_only_switched_on(tmp_path: Path):
    """There is nothing to switch off first."""
    tools = mac.tools(tmp_path / "bin", power="Off")
    assert (await healed(of_mac(tmp_path, tools, **ALLOWED))).result is RepairResult.REPAIRED
    assert calls(tools) == ["-setairportpower en0 on"]


async def test_a_mac_whose_tools_are_missing_cannot_be_judged(tmp_path: Path):
    """No networksetup is no verdict."""
    healing = of_mac(tmp_path, tmp_path)
    healing.environ["PATH"] = str(tmp_path)
    assert (await healed(healing)).result is RepairResult.INCONCLUSIVE


async def test_linux_has_no_wifi_step(tmp_path: Path):
    """Wi-Fi is switched on a Mac alone; elsewhere the step of the internet tells that there is no way out."""
    healing = Healing(tmp_path / "state", configured(tmp_path / "config", {}), {"PATH": str(tmp_path)})
    async with healing.context() as context:
        assert wifi(context) is None


@pytest.fixture
def listening() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "127.0.0.1", server.getsockname()[1]


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """A host that drops what is sent to it, as a firewall does: its queue is full."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        yield "127.0.0.1", server.getsockname()[1]


NOBODY = ("127.0.0.1", 9)


def online(tmp_path: Path) -> Healing:
    return Healing(tmp_path / "state", configured(tmp_path / "config", {}), {"PATH": os.environ["PATH"]})


async def reached(
    tmp_path: Path, addresses: tuple[tuple[str, int], ...], named: tuple[str, int], limit_s: float = 3.0
) -> Outcome:
    targets = InternetTargets(
        by_name=(f"{named[0]}:{named[1]}",),
        by_address=tuple(f"{host}:{port}" for host, port in addresses),
        limit_s=limit_s,
        until_proven=True,
    )

    def steps(context: RecoveryContext) -> list[Step]:
        return [internet(context, targets=targets)]

    return outcome(await online(tmp_path).run(steps), "internet")


async def test_the_internet_is_there_when_a_named_host_answers(tmp_path: Path, listening: tuple[str, int]):
    """A name that is found and answers settles it, whatever the addresses do."""
    found = await reached(tmp_path, (NOBODY,), ("localhost", listening[1]))
    assert found.result is RepairResult.OK, found


async def test_names_that_are_not_found_are_a_fault_of_dns(tmp_path: Path, listening: tuple[str, int]):
    """An address answers and the name is unknown: the cause says DNS, and nothing is repaired."""
    found = await reached(tmp_path, (NOBODY, listening), ("nobody.invalid", 443))
    assert (found.result, found.state) == (RepairResult.MANUAL, "no names")
    assert "DNS" in found.cause


async def test_addresses_that_do_not_answer_are_a_fault_of_the_route(tmp_path: Path):
    """The name is found, but nothing outside answers."""
    assert (await reached(tmp_path, (NOBODY,), ("localhost", 9))).state == "no route"


async def test_nothing_at_all_is_offline(tmp_path: Path):
    """Neither an address nor a name."""
    assert (await reached(tmp_path, (NOBODY,), ("nobody.invalid", 443))).state == "offline"


async def test_one_answer_is_enough(tmp_path: Path, listening: tuple[str, int], silent: tuple[str, int]):
    """A host that drops everything does not hide that another answers, and the wait has its limit."""
    found = await reached(tmp_path, (silent, listening), ("localhost", silent[1]), limit_s=0.3)
    assert found.result is RepairResult.OK, found
    assert "localhost does not" in found.cause


async def test_a_net_that_drops_everything_is_told_at_the_limit(tmp_path: Path, silent: tuple[str, int]):
    """What hangs is cut off: no answer is no answer."""
    found = await reached(tmp_path, (silent,), ("localhost", silent[1]), limit_s=0.3)
    assert found.state == "no route"
