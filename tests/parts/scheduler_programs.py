"""What `launchctl`, `plutil`, `systemctl` and their kin say and do, run as programs of their own.

`schedulers` makes one small program of each, which calls `main`. They speak the texts and exit statuses that
were recorded from macOS 10.15 to 26 and from systemd 252.
"""

import json
import os
import plistlib
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

UID = 501


class State:
    """The folder in which the programs remember things, and in which tests make them behave otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def flag(self, name: str) -> str | None:
        path = self.folder / name
        return path.read_text().strip() if path.exists() else None

    def words(self, name: str) -> set[str]:
        return set((self.flag(name) or "").split())

    def set(self, name: str, value: str) -> None:
        """Write at once: another of the programs may read it at this moment."""
        new = self.folder / f".{name}.{os.getpid()}"
        new.write_text(value)
        new.replace(self.folder / name)

    def bare(self, extra: dict[str, str]) -> dict[str, str]:
        """The environment that a scheduler gives by itself, and what the job asks for."""
        home = str(self.folder.parent)
        given = {"HOME": home, "USER": "me", "LOGNAME": "me", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
        return {**given, **extra}

    def job(self, label: str) -> dict[str, Any] | None:
        text = self.flag(f"job-{label}")
        return None if text is None else json.loads(text)

    def keep(self, label: str, job: dict[str, Any]) -> None:
        self.set(f"job-{label}", json.dumps(job))

    def drop(self, label: str) -> None:
        (self.folder / f"job-{label}").unlink()


def fail(status: int, *lines: str) -> NoReturn:
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(status)


def say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def launchctl(state: State, argv: list[str]) -> None:
    old = state.flag("old") is not None
    verb, *rest = argv
    label = rest[0].split("/")[2] if rest and rest[0].count("/") == 2 else ""
    if state.flag("no-session") is not None and verb not in ("enable", "disable"):
        if old:
            fail(112, f"Could not find domain for user gui: {UID}")
        fail(125, "Domain does not support specified action")
    match verb:
        case "print" if not label:
            say(f"gui/{UID} = {{", "}")
        case "print":
            _print(state, label, old=old)
        case "print-disabled":
            words = ("true", "false") if old else ("disabled", "enabled")
            off = [f'\t"{one}" => {words[0]}' for one in state.words("disabled")]
            say("disabled services = {", f'\t"com.example.other" => {words[1]}', *off, "}")
        case "bootout":
            _bootout(state, label, old=old)
        case "enable":
            state.set("disabled", " ".join(state.words("disabled") - {label}))
        case "disable":
            state.set("disabled", " ".join(state.words("disabled") | {label}))
        case "bootstrap":
            _bootstrap(state, rest[1])
        case "kickstart":
            job = state.job(label) or _missing(label, old=old)
            if job["pid"]:
                fail(37, "Could not kickstart service: 37: Operation already in progress")
            state.keep(label, {**job, "runs": job["runs"] + 1})
        case _:
            fail(64, f"Unrecognized subcommand: {verb}")


def _missing(label: str, *, old: bool) -> NoReturn:
    lines = [] if old else ["Bad request."]
    fail(113, *lines, f'Could not find service "{label}" in domain for user gui: {UID}')


def _print(state: State, label: str, *, old: bool) -> None:
    job = state.job(label) or _missing(label, old=old)
    if job.get("ending") is not None:
        job["ending"] -= 1
        state.keep(label, job)
        if job["ending"] < 0:
            state.drop(label)
            _missing(label, old=old)
    plist, pid = job["plist"], job["pid"]
    idle = "waiting" if old else "not running"
    environment = {"XPC_SERVICE_NAME": label, **plist.get("EnvironmentVariables", {})}
    say(
        f"{label} = {{" if old else f"gui/{UID}/{label} = {{",
        f"\tactive count = {1 if pid else 0}",
        f"\tpath = {job['path']}",
        *([] if old else ["\ttype = LaunchAgent"]),
        f"\tstate = {'running' if pid else idle}",
        "",
        f"\tprogram = {plist['ProgramArguments'][0]}",
        "\targuments = {",
        *(f"\t\t{one}" for one in plist["ProgramArguments"]),
        "\t}",
        "",
        "\tinherited environment = {",
        "\t\tSSH_AUTH_SOCK => /private/tmp/com.apple.launchd.x/Listeners",
        "\t}",
        "",
        "\tdefault environment = {",
        "\t\tPATH => /usr/bin:/bin:/usr/sbin:/sbin",
        "\t}",
        "",
        "\tenvironment = {",
        *(f"\t\t{name} => {value}" for name, value in environment.items()),
        "\t}",
        "",
        f"\tdomain = gui/{UID} [100003]",
        "\tminimum runtime = 10",
        "\texit timeout = 5",
        f"\truns = {job['runs']}",
        *([f"\tpid = {pid}"] if pid else []),
        f"\t{job['end']}",
        "",
        "\tevent triggers = {",
        f"\t\t{label}.268435470 => {{",
        "\t\t\tstate = 1",
        "\t\t\tdescriptor = {",
        '\t\t\t\t"Minute" => 0',
        "\t\t\t}",
        "\t\t}",
        "\t}",
        "",
        "\tresource coalition = {",
        "\t\tstate = active",
        "\t\tlast exit code = 99",
        "\t}",
        "",
        "\tproperties = inferred program",
        "}",
    )


def _bootout(state: State, label: str, *, old: bool) -> None:
    job = state.job(label)
    if job is None:
        if old:
            fail(113, "Could not find specified service")
        fail(3, "Boot-out failed: 3: No such process")
    if slow := state.flag("slow-bootout"):
        state.keep(label, {**job, "ending": int(slow)})
        fail(36, "Boot-out failed: 36: Operation now in progress")
    state.drop(label)


def _bootstrap(state: State, path: str) -> None:
    plist = plistlib.loads(Path(path).read_bytes())
    label = plist["Label"]
    busy = int(state.flag("busy-bootstrap") or 0)
    if busy:
        state.set("busy-bootstrap", str(busy - 1))
        fail(37, "Bootstrap failed: 37: Operation already in progress")
    if state.flag("fail-bootstrap") is not None or state.job(label) or label in state.words("disabled"):
        fail(
            5,
            "Bootstrap failed: 5: Input/output error",
            "Try re-running the command as root for richer errors.",
        )
    job = {"path": path, "plist": plist, "runs": 0, "pid": None, "end": "last exit code = (never exited)"}
    if plist.get("KeepAlive"):
        # A server: it runs, and launchd does not wait for it.
        job |= {"runs": 1, "pid": 4711}
    elif plist.get("RunAtLoad"):
        paths = Path(plist["StandardOutPath"]), Path(plist["StandardErrorPath"])
        with paths[0].open("wb") as out, paths[1].open("wb") as err:
            done = subprocess.run(
                plist["ProgramArguments"],
                env=state.bare(plist.get("EnvironmentVariables", {})),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                check=False,
            )
        job |= {"runs": 1, "end": f"last exit code = {done.returncode}"}
    state.keep(label, job)


def plutil(state: State, argv: list[str]) -> None:
    try:
        plistlib.loads(Path(argv[1]).read_bytes())
    except (OSError, ValueError):
        fail(1, f"{argv[1]}: file does not exist or is not readable or is not a regular file")
    if state.flag("bad-plist") is not None:
        fail(1, f"{argv[1]}: Unexpected character x at line 1")
    say(f"{argv[1]}: OK")


def systemctl(state: State, argv: list[str]) -> None:
    if state.flag("no-bus") is not None:
        fail(1, "Failed to connect to bus: No medium found")
    user, verb, *units = (one for one in argv if one not in ("--now", "--no-block"))
    if user != "--user":
        fail(1, "only the systemd of the user is played here")
    folder = Path(os.environ["HOME"]) / ".config/systemd/user"
    there = {one.name: one.read_text() for one in folder.glob("*.*")} if folder.is_dir() else {}
    seen: dict[str, str] = json.loads(state.flag("seen") or "{}")
    enabled, active = state.words("enabled"), state.words("active")
    if verb in ("enable", "disable", "start", "restart", "reset-failed") and units[0] not in seen:
        fail(5 if verb in ("start", "restart") else 1, f"Failed to {verb} unit: Unit {units[0]} not found.")
    match verb:
        case "daemon-reload":
            state.set("seen", json.dumps(there))
        case "show":
            wanted = units[1].removeprefix("--property=").split(",")
            values = _properties(units[0], there, seen, enabled, active) | json.loads(
                state.flag(f"show-{units[0]}") or "{}"
            )
            say(*(f"{name}={values[name]}" for name in values if name in wanted))
            return
        case "enable":
            enabled.add(units[0])
            sys.stderr.write(f"Created symlink {folder}/timers.target.wants/{units[0]}.\n")
        case "start" | "restart":
            if state.flag("fail-start") is not None:
                fail(
                    1, f"Job for {units[0]} failed.", f'See "systemctl --user status {units[0]}" for details.'
                )
            active |= {one for one in units if one.endswith(".timer") or "Type=exec" in seen[one]}
        case "is-active":
            say("active" if units[0] in active else "inactive")
            sys.exit(0 if units[0] in active else 3)
        case "disable":
            enabled -= set(units)
            active -= set(units)
        case "reset-failed":
            pass
        case _:
            fail(1, f"Unknown command verb {verb}.")
    state.set("enabled", " ".join(enabled))
    state.set("active", " ".join(active))


def _properties(
    unit: str, there: dict[str, str], seen: dict[str, str], enabled: set[str], active: set[str]
) -> dict[str, str]:
    known = unit in seen
    return {
        "LoadState": "loaded" if known else "not-found",
        "ActiveState": "active" if unit in active else "inactive",
        "UnitFileState": ("enabled" if unit in enabled else "disabled") if known else "",
        "FragmentPath": f"{os.environ['HOME']}/.config/systemd/user/{unit}" if known else "",
        "NeedDaemonReload": "yes" if known and there.get(unit) != seen[unit] else "no",
        "Result": "success",
        "ExecMainCode": "0",
        "ExecMainStatus": "0",
        "ExecMainExitTimestamp": "",
        "NextElapseUSecRealtime": "",
        "NextElapseUSecMonotonic": "infinity",
        "Zone": os.environ.get("TZ", ""),
    }


def loginctl(state: State, _argv: list[str]) -> None:
    say("Linger=no" if state.flag("lingers") is None else "Linger=yes")


def systemd_run(state: State, argv: list[str]) -> None:
    if state.flag("no-bus") is not None:
        fail(1, "Failed to connect to bus: No medium found")
    at = next(index for index, one in enumerate(argv) if not one.startswith("--"))
    given = [one.removeprefix("--setenv=") for one in argv[:at] if one.startswith("--setenv=")]
    environment = dict(one.split("=", 1) for one in given)
    done = subprocess.run(argv[at:], env=state.bare(environment), cwd="/", check=False)
    sys.exit(done.returncode)


def main(folder: str) -> None:
    state = State(Path(folder))
    name, argv = Path(sys.argv[0]).name, sys.argv[1:]
    with (state.folder / "calls").open("a") as calls:
        calls.write(json.dumps([name, *argv]) + "\n")
    globals()[name.replace("-", "_")](state, argv)
