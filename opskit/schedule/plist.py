"""The LaunchAgent as a property list, written and read back. Pure."""

import plistlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opskit.schedule.interval import slots
from opskit.schedule.job import LABEL, Job


def text(job: Job, logs: Path) -> str:
    """The plist of the job.

    Calendar times, because launchd drops the firings of an interval while the Mac sleeps and makes one of all
    missed calendar times at wake (ops facts 10). No KeepAlive: the job ends. `Standard`, because background
    jobs are throttled. AbandonProcessGroup, or launchd would end with the job the servers that it started.
    """
    content: dict[str, Any] = {
        "Label": LABEL,
        "ProgramArguments": list(job.arguments),
        "EnvironmentVariables": dict(job.environment),
        "StartCalendarInterval": [{"Minute": minute} for minute in slots(job.every)],
        "StandardOutPath": str(logs / "recover.out.log"),
        "StandardErrorPath": str(logs / "recover.err.log"),
        "ProcessType": "Standard",
        "AbandonProcessGroup": True,
    }
    return _dumped(content)


def one_shot(label: str, arguments: tuple[str, ...], environment: Mapping[str, str], output: Path) -> str:
    """A job that runs once, as soon as it is loaded, and whose output goes to a file."""
    return _dumped(
        {
            "Label": label,
            "ProgramArguments": list(arguments),
            "EnvironmentVariables": dict(environment),
            "RunAtLoad": True,
            "StandardOutPath": str(output),
            "StandardErrorPath": str(output.with_suffix(".err")),
            "ProcessType": "Standard",
        }
    )


def read(content: str) -> Job | None:
    """The job of a plist that `text` wrote, or a person changed; None when it is none of ours any more."""
    try:
        found = plistlib.loads(content.encode())
        starts = found["StartCalendarInterval"]
        arguments = tuple(map(str, found["ProgramArguments"]))
        environment = {str(name): str(value) for name, value in found.get("EnvironmentVariables", {}).items()}
        every = 60 // len(starts) if isinstance(starts, list) and starts else 60
    except (plistlib.InvalidFileException, ValueError, KeyError, TypeError, AttributeError):
        return None
    except Exception as exc:
        # plistlib lets the errors of its XML parser through.
        if type(exc).__name__ != "ExpatError":
            raise
        return None
    return Job(arguments, environment, every) if arguments else None


def _dumped(content: Mapping[str, Any]) -> str:
    return plistlib.dumps(dict(content), sort_keys=False).decode()
