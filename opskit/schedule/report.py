"""The state of the schedule as findings, for people and for other commands. Pure."""

from collections.abc import Iterator
from datetime import datetime

from opskit.result import Finding, Report, Status
from opskit.schedule.comparison import Difference
from opskit.schedule.status import Inside
from opskit.schedule.status import ScheduleStatus as Schedule

TARGET = "opskit-recover"


def report(schedule: Schedule, now: datetime) -> Report:
    """Exit 0 when the job is loaded and well, 1 when not, 3 when nobody can tell."""
    findings = [_job(schedule)]
    if schedule.known and schedule.installed:
        findings.append(_runs(schedule, now))
    if schedule.inside is not None:
        findings += _inside(schedule.inside)
    return Report("schedule status", findings)


def _job(schedule: Schedule) -> Finding:
    if not schedule.known:
        detail = schedule.problem + ("; its files are there" if schedule.installed else "")
        return Finding(
            "job", TARGET, Status.INCONCLUSIVE, "no scheduler", detail, "SCHEDULE_001", schedule.remedy
        )
    evidence = {"files": list(schedule.files), "scheduler": schedule.scheduler}
    if schedule.problem:
        state = (
            "not installed"
            if not schedule.installed
            else "disabled"
            if schedule.disabled
            else "not loaded"
            if not schedule.loaded
            else "differs"
            if not schedule.current
            else "failing"
        )
        return Finding(
            "job",
            TARGET,
            Status.FAIL,
            state,
            schedule.problem,
            "SCHEDULE_002",
            f"{schedule.remedy}; `{schedule.log}`" if state == "failing" else schedule.remedy,
            evidence=evidence,
        )
    detail = f"{schedule.scheduler} starts it every {_minutes(schedule.every)}"
    return Finding("job", TARGET, Status.PASS, "loaded", detail, evidence=evidence)


def _runs(schedule: Schedule, now: datetime) -> Finding:
    parts = []
    if schedule.running:
        parts.append("it runs now")
    if schedule.last_exit is None:
        parts.append("no run has ended yet")
    else:
        end = f"signal {-schedule.last_exit}" if schedule.last_exit < 0 else f"exit {schedule.last_exit}"
        when = "" if schedule.last_run is None else f" {_span((now - schedule.last_run).total_seconds())} ago"
        parts.append(f"last run ended{when} with {end}")
    if schedule.next_run is not None:
        ahead = (schedule.next_run - now).total_seconds()
        parts.append(f"next in {_span(ahead)}" if ahead > 0 else "the next is due")
    evidence = {
        "last_exit": schedule.last_exit,
        "last_run": None if schedule.last_run is None else schedule.last_run.isoformat(),
        "next_run": None if schedule.next_run is None else schedule.next_run.isoformat(),
        "running": schedule.running,
        "log": schedule.log,
    }
    state = "running" if schedule.running else "waiting" if schedule.loaded else "idle"
    return Finding("runs", TARGET, Status.PASS, state, "; ".join(parts), evidence=evidence)


def _inside(inside: Inside) -> Iterator[Finding]:
    where = "its environment, emulated" if inside.emulated else "the scheduler"
    evidence = {
        "emulated": inside.emulated,
        "shell": None if inside.shell is None else inside.shell.as_json(),
        "job": None if inside.job is None else inside.job.as_json(),
    }
    if inside.job is None:
        yield Finding(
            "inside",
            TARGET,
            Status.INCONCLUSIVE,
            "not seen",
            inside.problem,
            remedy="`--no-inside` leaves it out",
            evidence=evidence,
        )
        return
    looked = (
        f"{len(inside.job.files)} paths, {len(inside.job.servers)} servers, Docker, programs, configuration"
    )
    detail = (
        f"seen from {where}: {looked}; {len(inside.found)} differ from this shell"
        if inside.found
        else f"seen from {where}, all is as in this shell: {looked}"
    )
    yield Finding(
        "inside", TARGET, Status.PASS, "compared", detail, seconds=inside.seconds, evidence=evidence
    )
    yield from map(_difference, inside.found)


def _difference(one: Difference) -> Finding:
    status = Status.FAIL if one.harmful else Status.WARN
    return Finding("inside", one.topic, status, "differs", one.text, remedy=one.remedy)


def _minutes(every: int | None) -> str:
    return "hour" if every == 60 else f"{every} min"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"
