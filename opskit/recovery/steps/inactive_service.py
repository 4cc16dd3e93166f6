"""The service that should run a server on whose port nothing listens: systemd, launchd, brew or an app."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from opskit.recovery.context import RecoveryContext
from opskit.recovery.steps.subject import RepairSubject
from opskit.system.program import NotStarted, run
from opskit.system.services import Domain, Service, at_rest
from opskit.system.systemctl import instant, unit_properties

_WANTED = ("LoadState", "ActiveState", "UnitFileState", "Result", "InactiveEnterTimestamp")
#: What a person disabled or masked is not to be started.
_ON = ("enabled", "enabled-runtime", "linked", "static", "alias")
#: Labels of Homebrew: the second since its version 6.
_BREW = ("homebrew.mxcl.", "sh.brew.")
_LAUNCHCTL_S = 3.0


@dataclass(frozen=True, slots=True)
class InactiveService:
    """`state` is systemd's word (inactive, failed, activating), empty elsewhere.

    `stopped_s` is how long ago systemd stopped it cleanly, as after `systemctl stop`; None when it failed or
    never ran.
    """

    service: Service
    state: str = ""
    stopped_s: float | None = None

    @property
    def words(self) -> str:
        return f"{self.service.name}{f' ({self.state})' if self.state else ''}"


async def resting(ground: RecoveryContext, subject: RepairSubject) -> InactiveService | None:
    """None when nothing that is installed on this machine would run it. Starts nothing."""
    for name in subject.services:
        found = await (_on_mac if ground.platform == "darwin" else _on_linux)(ground, name)
        if found is not None:
            return found
    return None


async def _on_linux(ground: RecoveryContext, name: str) -> InactiveService | None:
    unit = f"{name}.service"
    scopes: tuple[tuple[Domain, bool], ...] = (("user", True), ("system", False))
    for domain, user in scopes:
        shown = await unit_properties(ground.environ, unit, *_WANTED, user=user)
        service = at_rest(name, units={unit: domain} if _switched_on(shown) else {})
        if service is None:
            continue
        state, ended = shown.get("ActiveState", ""), instant(shown.get("InactiveEnterTimestamp", ""))
        clean = state == "inactive" and shown.get("Result") == "success" and ended is not None
        ago = max(0.0, ground.clock() - ended.timestamp()) if clean and ended is not None else None
        return InactiveService(service, state, ago)
    return None


def _switched_on(shown: dict[str, str]) -> bool:
    return shown.get("LoadState") == "loaded" and shown.get("UnitFileState") in _ON


async def _on_mac(ground: RecoveryContext, name: str) -> InactiveService | None:
    home = Path(ground.environ.get("HOME", "/"))
    agents = home / "Library" / "LaunchAgents"
    installed = any((agents / f"{prefix}{name}.plist").is_file() for prefix in _BREW)
    brew = (name,) if installed and shutil.which("brew", path=ground.environ.get("PATH")) else ()
    folders = (home / "Applications", Path("/Applications"))
    service = at_rest(
        name,
        brew=brew,
        labels=await _labels(ground),
        applications=[str(one) for folder in folders for one in folder.glob("*.app")],
    )
    return None if service is None else InactiveService(service)


async def _labels(ground: RecoveryContext) -> list[str]:
    """The jobs that launchd has loaded for this user."""
    try:
        async with asyncio.timeout(_LAUNCHCTL_S):
            done = await run(("launchctl", "list"), env=ground.environ)
    except (NotStarted, TimeoutError):
        return []
    return [parts[2] for line in done.out.splitlines()[1:] if len(parts := line.split("\t")) == 3]
