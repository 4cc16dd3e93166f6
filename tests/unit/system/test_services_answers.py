"""What launchctl and systemctl say, in the forms of several versions."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.schedule.launchd import LaunchdJob, has_no_session, is_absent, is_disabled, loaded_job
from opskit.system import systemctl
from opskit.system.program import ProgramResult

#: The form of macOS 10.15.
OLD = """dev.opskit.recover = {
\tactive count = 0
\tpath = /Users/me/Library/LaunchAgents/dev.opskit.recover.plist
\tstate = waiting

\tprogram = /opt/python
\targuments = {
\t\t/opt/python
\t\t-m
\t\topskit
\t}

\tenvironment = {
\t\tPATH => /usr/bin
\t}

\truns = 12
\tlast exit code = 75

\tevent triggers = {
\t\tdev.opskit.recover.268435470 => {
\t\t\tstate = 1
\t\t}
\t}
}
"""
#: The form of macOS 15 and 26: another first line, and blocks with fields of the same names.
NEW = """gui/501/dev.opskit.recover = {
\tactive count = 1
\tpath = /Users/me/Library/LaunchAgents/dev.opskit.recover.plist
\ttype = LaunchAgent
\tstate = running

\tprogram = /opt/python
\targuments = {
\t\t/opt/python
\t\tdoctor & x
\t\t
\t}

\tdefault environment = {
\t\tPATH => /usr/bin:/bin:/usr/sbin:/sbin
\t}

\tenvironment = {
\t\tOSLogRateLimit => 64
\t\tXPC_SERVICE_NAME => dev.opskit.recover
\t}

\tdomain = gui/501 [100024]
\truns = 2
\tpid = 16090
\timmediate reason = non-ipc demand
\tlast terminating signal = Terminated: 15

\tresource coalition = {
\t\tID = 1114
\t\tstate = active
\t\tlast exit code = 0
\t}

\tproperties = runatload | inferred program
}
"""


def ended(line: str) -> LaunchdJob:
    return loaded_job(f"x = {{\n\tstate = not running\n\truns = 1\n\t{line}\n}}\n")


def test_the_old_form() -> None:
    """Before macOS 13 the first line is the label alone, and a job that rests is waiting."""
    found = loaded_job(OLD)
    assert (found.state, found.pid, found.runs, found.last_exit) == ("waiting", None, 12, 75)
    assert found.arguments == ("/opt/python", "-m", "opskit")
    assert found.environment == {"PATH": "/usr/bin"}
    assert found.path == "/Users/me/Library/LaunchAgents/dev.opskit.recover.plist"


def test_the_new_form() -> None:
    """Fields of nested blocks are not the job's, and empty arguments count."""
    found = loaded_job(NEW)
    assert (found.state, found.pid, found.last_exit) == ("running", 16090, -15)
    assert found.arguments == ("/opt/python", "doctor & x", "")
    assert "PATH" not in found.environment


@pytest.mark.parametrize(
    "line, last_exit, reason",
    [
        ("last exit code = 0", 0, ""),
        ("last exit code = 78: EX_CONFIG", 78, ""),
        ("last exit code = (never exited)", None, ""),
        ("last terminating signal = Segmentation fault: 11", -11, ""),
        ("last terminating signal = Killed: 9", -9, ""),
        ("last exit reason = JETSAM_REASON_MEMORY_IDLE_EXIT", None, "JETSAM_REASON_MEMORY_IDLE_EXIT"),
        ("something = else", None, ""),
    ],
)
def test_every_way_to_end(line: str, last_exit: int | None, reason: str) -> None:
    """A signal takes the place of the code, and a job that never ended has none."""
    found = ended(line)
    assert (found.last_exit, found.reason) == (last_exit, reason)


@given(st.text(max_size=200))
def test_no_answer_is_a_crash(text: str) -> None:
    """Whatever a future version writes, it is read as a job of which little is known."""
    loaded_job(text)
    is_disabled(text, "x")
    systemctl.units(text)
    systemctl.instant(text)
    systemctl.span_s(text)


@pytest.mark.parametrize(
    "status, text, absent, no_session",
    [
        (113, 'Bad request.\nCould not find service "x" in domain for user gui: 501', True, False),
        (113, 'Could not find service "x" in domain for port', True, False),
        (113, "Could not find specified service", True, False),
        (3, "Boot-out failed: 3: No such process", True, False),
        (112, "Could not find domain for user gui: 501", False, True),
        (125, "Domain does not support specified action", False, True),
        (125, "Bootstrap failed: 125: Domain does not support specified action", False, True),
        (5, "Bootstrap failed: 5: Input/output error", False, False),
        (1, "Operation not permitted", False, False),
        (0, "", False, False),
    ],
)
def test_absence_is_told_from_other_failures(status: int, text: str, absent: bool, no_session: bool) -> None:
    """Only a job that is not there is ignored; a missing session has words of its own."""
    done = ProgramResult(status, "", text)
    assert (is_absent(done), has_no_session(done)) == (absent, no_session)


@pytest.mark.parametrize(
    "word, off", [("true", True), ("false", False), ("disabled", True), ("enabled", False)]
)
def test_both_forms_of_disabled_labels(word: str, off: bool) -> None:
    """Until macOS 12 truth values, then words; a label of which nothing is said is on."""
    text = f'disabled services = {{\n\t"dev.x" => {word}\n\t"dev.x.y" => true\n}}\n'
    assert is_disabled(text, "dev.x") is off
    assert is_disabled(text, "dev") is False


def test_units_are_told_apart() -> None:
    """An empty line stands between two units; values may hold equals signs and nothing."""
    text = "LoadState=loaded\nExecStart=a=b\nX=\n\nLoadState=not-found\n"
    assert systemctl.units(text) == [
        {"LoadState": "loaded", "ExecStart": "a=b", "X": ""},
        {"LoadState": "not-found"},
    ]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Fri 2026-11-20 09:39:29 UTC", datetime(2026, 11, 20, 9, 39, 29, tzinfo=UTC)),
        ("Fri 2026-11-20 09:39:29.123456 UTC", datetime(2026, 11, 20, 9, 39, 29, tzinfo=UTC)),
        ("Fri 2026-11-20 09:39:29 CET", None),
        ("Fri 2026-13-45 09:39:29 UTC", None),
        ("n/a", None),
        ("", None),
    ],
)
def test_instants(text: str, expected: datetime | None) -> None:
    """Times are read in UTC, and those of a zone whose name may mean two are not guessed."""
    assert systemctl.instant(text) == expected


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("1h 2min 3.5s", 3723.5),
        ("5min", 300.0),
        ("0", 0.0),
        ("1w 1d", 691200.0),
        ("250ms", 0.25),
        ("infinity", None),
        ("", None),
    ],
)
def test_spans(text: str, seconds: float | None) -> None:
    """The units of systemd, summed; no end is none."""
    assert systemctl.span_s(text) == seconds


def test_the_next_run_of_a_monotonic_timer() -> None:
    """Its time counts from the start of the machine, which was up for an hour."""
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    timer = {"NextElapseUSecMonotonic": "1h 2min", "NextElapseUSecRealtime": ""}
    assert systemctl.next_elapse(timer, now=now, uptime_s=3600.0) == now + timedelta(minutes=2)
    both = {**timer, "NextElapseUSecRealtime": "Fri 2026-11-20 12:01:00 UTC"}
    assert systemctl.next_elapse(both, now=now, uptime_s=3600.0) == now + timedelta(minutes=1)
    never = {"NextElapseUSecMonotonic": "infinity", "NextElapseUSecRealtime": "n/a"}
    assert systemctl.next_elapse(never, now=now, uptime_s=3600.0) is None


@pytest.mark.parametrize(
    "text",
    [
        "Failed to connect to bus: No medium found",
        "System has not been booted with systemd as init system (PID 1). Can't operate.",
    ],
)
def test_a_missing_systemd_is_recognised(text: str) -> None:
    """No bus means no scheduler, not a job that is not there."""
    assert systemctl.no_bus(ProgramResult(1, "", text))
    assert not systemctl.no_bus(ProgramResult(1, "", "Unit x.service not found."))
