"""The files of `launchd/`: what an installation writes, for somebody who would rather do it by hand. Pure."""

from pathlib import Path

from opskit.schedule.job import ARGUMENTS, LABEL, UNIT, Job
from opskit.schedule.launchd import plist_text
from opskit.schedule.systemd import service_unit, timer_unit

_INTERPRETER = "/opt/opskit/bin/python"
_LOGS = Path("/Users/me/Library/Logs/opskit")


def examples() -> dict[str, str]:
    """Text by path below `launchd/`. The interpreter, PATH and the folder of the log are to be corrected."""
    mac = Job(
        (_INTERPRETER, *ARGUMENTS),
        {"PATH": "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
    )
    linux = Job(
        (_INTERPRETER, *ARGUMENTS), {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    return {
        f"{LABEL}.plist": plist_text(mac, _LOGS),
        f"systemd/{UNIT}.service": service_unit(linux),
        f"systemd/{UNIT}.timer": timer_unit(linux),
    }
