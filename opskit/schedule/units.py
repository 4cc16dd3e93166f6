"""The systemd service and timer as unit files, written and read back. Pure."""

import re
from collections.abc import Iterator

from opskit.schedule.job import GOOD_EXITS, Job

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@,+-]+")


def service(job: Job) -> str:
    """The service (ops facts 11).

    KillMode=process, or systemd would end with the run the servers that it started: they live in its control
    group. 4 (repaired) and 75 (another run holds the lock) are no failures.
    """
    good = " ".join(str(status) for status in GOOD_EXITS if status)
    environment = "".join(
        f"Environment={_word(f'{name}={value}')}\n" for name, value in job.environment.items()
    )
    return (
        "[Unit]\n"
        "Description=Find what is broken in the local LLM stack and mend it (opskit recover)\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        f"ExecStart={_command(job.arguments)}\n"
        f"{environment}"
        f"TimeoutStartSec={job.limit_s}\n"
        f"SuccessExitStatus={good}\n"
        "KillMode=process\n"
    )


def timer(job: Job) -> str:
    """The timer. It counts from the end of a run, so runs never overlap; the default accuracy is a minute."""
    return (
        "[Unit]\n"
        f"Description=opskit recover every {_span(job.every)}\n"
        "\n"
        "[Timer]\n"
        "OnBootSec=2min\n"
        f"OnUnitInactiveSec={_span(job.every)}\n"
        "AccuracySec=15s\n"
        "\n"
        "[Install]\n"
        "WantedBy=timers.target\n"
    )


def read(service_text: str, timer_text: str) -> Job | None:
    """The job of units that we wrote, or a person changed; None when they are none of ours any more."""
    values = list(_settings(service_text))
    command = next((value for name, value in values if name == "ExecStart"), None)
    every = next((value for name, value in _settings(timer_text) if name == "OnUnitInactiveSec"), "")
    limit = next((value for name, value in values if name == "TimeoutStartSec"), "")
    if not command or not (span := re.fullmatch(r"(\d+)(min|h)", every)):
        return None
    environment: dict[str, str] = {}
    for name, value in values:
        if name == "Environment":
            environment |= {key: text for key, _, text in (word.partition("=") for word in _words(value))}
    program, *rest = _words(command)
    arguments = (program, *(word.replace("$$", "$") for word in rest))
    minutes = int(span[1]) * (60 if span[2] == "h" else 1)
    return Job(arguments, environment, minutes, int(limit) if limit.isdigit() else 280)


def _span(minutes: int) -> str:
    return "1h" if minutes == 60 else f"{minutes}min"


def _command(arguments: tuple[str, ...]) -> str:
    """A command line. Variables are expanded in every word but the first: there a dollar is doubled."""
    program, *rest = arguments
    return " ".join((_word(program), *(_word(one.replace("$", "$$")) for one in rest)))


def _word(text: str) -> str:
    """One word of a setting: `%` begins a specifier, and quotes take the C escapes (systemd.syntax)."""
    escaped = text.replace("%", "%%")
    if _PLAIN.fullmatch(text):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _settings(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith(("#", ";")):
            yield name.strip(), value.strip()


def _words(value: str) -> list[str]:
    return [
        (re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2]).replace("%%", "%")
        for found in _WORD.finditer(value)
    ]
