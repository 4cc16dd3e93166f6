"""How checks are run: requirements, deadlines, retries, and kinds that misbehave."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from opskit.checks import runner
from opskit.checks.check_shape import compile_expectation
from opskit.checks.spec import Check, CheckContext, Kind, NotHere, Observation, Severity, Unjudged
from opskit.config.values import Parameters
from opskit.errors import OpskitError
from opskit.facts.survey import Survey
from opskit.result import Finding, Report
from tests.parts.checking import configuration, statuses

YIELDS = {"good": "whether it is"}


class Nothing(Parameters):
    """A kind of this test takes none."""


def kind(observe: Callable[[Any, CheckContext], Awaitable[Observation]]) -> Kind:
    return Kind(observe, "a kind of this test", YIELDS, {"good": True}, lambda _: "here", "test")


def check(name: str, observe: Callable[[Any, CheckContext], Awaitable[Observation]], **more: Any) -> Check:
    expect = compile_expectation({"good": True}, YIELDS, (), lambda *_: None)
    return Check(name, kind(observe), Nothing(), expect, **more)


async def good(_params: Any, _scene: CheckContext) -> Observation:
    return Observation({"good": True}, "it is well")


async def bad(_params: Any, _scene: CheckContext) -> Observation:
    return Observation({"good": False}, "it is not well", remedy="mend it")


async def hangs(_params: Any, _scene: CheckContext) -> Observation:
    await asyncio.Event().wait()
    raise AssertionError


async def run(folder: Path, *checks: Check, **options: Any) -> list[Finding]:
    async with Survey(configuration(folder), {}, state_folder=folder, cwd=folder) as survey:
        return await runner.run(checks, survey, **options)


async def test_findings_come_in_the_order_of_the_checklist(tmp_path: Path):
    """The order of the report is the order of the list, whatever ends first."""
    names = [f"c{n}" for n in range(20)]
    found = await run(tmp_path, *(check(name, good) for name in names), max_concurrent=3)
    assert [one.check for one in found] == names


async def test_what_depends_on_a_failure_is_inconclusive_because_of_it(tmp_path: Path):
    """A failed requirement never makes its dependants failed, near or far."""
    found = await run(
        tmp_path, check("a", bad), check("b", good, requires=("a",)), check("c", good, requires=("b",))
    )
    assert statuses(found) == {"a": "fail", "b": "inconclusive", "c": "inconclusive"}
    assert found[1].detail == "because 'a' failed"
    assert found[2].detail == "because 'b' could not be judged"


@pytest.mark.parametrize(
    "more, words", [({"skip": "no time"}, "was skipped"), ({"severity": Severity.INFO}, "failed")]
)
async def test_a_requirement_must_hold_whatever_its_severity(tmp_path: Path, more: Any, words: str):
    """A skipped requirement, and one whose failure only warns, leave their dependants unjudged."""
    found = await run(tmp_path, check("a", bad, **more), check("b", good, requires=("a",)))
    assert found[1].detail == f"because 'a' {words}"


async def test_requirements_run_before_those_that_wait(tmp_path: Path):
    """A check begins only after all it requires, even when it stands above them."""
    ended: list[str] = []

    def noting(name: str) -> Callable[[Any, CheckContext], Awaitable[Observation]]:
        async def observe(params: Any, context: CheckContext) -> Observation:
            ended.append(name)
            return await good(params, context)

        return observe

    await run(
        tmp_path,
        check("last", noting("last"), requires=("a", "b", "a")),
        check("a", noting("a"), requires=("b",)),
        check("b", noting("b")),
    )
    assert ended == ["b", "a", "last"]


async def test_no_more_checks_run_at_once_than_allowed(tmp_path: Path):
    """`max_concurrent` is kept."""
    running, most = 0, 0

    async def observe(params: Any, context: CheckContext) -> Observation:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await good(params, context)

    await run(tmp_path, *(check(f"c{n}", observe) for n in range(20)), max_concurrent=4)
    assert most == 4


async def test_a_check_that_hangs_is_cut_at_its_deadline(tmp_path: Path):
    """It fails with the state timeout, and the others are judged."""
    found = await run(tmp_path, check("a", hangs, timeout_s=0.02), check("b", good))
    assert statuses(found) == {"a": "fail", "b": "pass"}
    assert (found[0].state, found[0].detail) == ("timeout", "no result within 0.02 s")


async def test_a_check_that_refuses_to_be_cancelled_is_left_behind(tmp_path: Path):
    """The run goes on although the check swallows its cancellation."""
    release = asyncio.Event()

    async def stubborn(params: Any, context: CheckContext) -> Observation:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return await good(params, context)

    found = await run(tmp_path, check("a", stubborn, timeout_s=0.02))
    release.set()
    assert found[0].state == "timeout"


async def test_a_thread_that_hangs_is_left_behind(tmp_path: Path):
    """A blocking call that never returns delays neither its check nor the run."""
    release = threading.Event()

    async def blocked(params: Any, context: CheckContext) -> Observation:
        await asyncio.to_thread(release.wait)
        return await good(params, context)

    found = await run(tmp_path, check("a", blocked, timeout_s=0.02))
    release.set()
    assert found[0].state == "timeout"


def test_a_process_ends_although_a_thread_hangs(tmp_path: Path):
    """asyncio.run returns and the interpreter exits while a check still blocks in its thread."""
    code = (
        "import asyncio, threading\n"
        "from opskit.system.threads import use_abandonable_threads\n"
        "async def main():\n"
        "    use_abandonable_threads()\n"
        "    waiting = asyncio.ensure_future(asyncio.to_thread(threading.Event().wait))\n"
        "    await asyncio.wait({waiting}, timeout=0.02)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0


@pytest.mark.parametrize(
    "raised, status, detail",
    [
        (Unjudged("no driver"), "inconclusive", "no driver"),
        (NotHere("no GPU"), "skip", "no GPU"),
        (OpskitError("DOCKER_001", "no daemon"), "inconclusive", "no daemon"),
        (
            ZeroDivisionError("oh"),
            "inconclusive",
            "opskit itself failed in this check: ZeroDivisionError: oh",
        ),
        (asyncio.CancelledError(), "inconclusive", "opskit itself failed in this check: CancelledError: "),
    ],
)
async def test_what_a_kind_raises_becomes_a_finding(
    tmp_path: Path, raised: BaseException, status: str, detail: str
):
    """Missing preconditions and mistakes of ours are answers, not the end of the run."""

    async def observe(_params: Any, _scene: CheckContext) -> Observation:
        raise raised

    found = await run(tmp_path, check("a", observe), check("b", good))
    assert statuses(found) == {"a": status, "b": "pass"}
    assert found[0].detail == detail


async def test_a_mistake_of_ours_is_told_as_one(tmp_path: Path):
    """The finding has the code of a bug and the traceback as evidence."""

    async def observe(_params: Any, _scene: CheckContext) -> Observation:
        return Observation({"good": 1 / 0})

    (found,) = await run(tmp_path, check("a", observe))
    assert found.code == "BUG_001"
    assert "ZeroDivisionError" in found.evidence["traceback"][-1]


def after(attempts: int) -> Callable[[Any, CheckContext], Awaitable[Observation]]:
    """Bad until it has been asked so often."""
    asked = 0

    async def observe(params: Any, context: CheckContext) -> Observation:
        nonlocal asked
        asked += 1
        return await (good if asked > attempts else bad)(params, context)

    return observe


@pytest.mark.parametrize("retries, status", [(2, "pass"), (1, "fail")])
async def test_a_check_is_retried_as_often_as_it_says(tmp_path: Path, retries: int, status: str):
    """`count` attempts come on top of the first, and the evidence says how many there were."""
    (found,) = await run(tmp_path, check("a", after(2), retries=retries, delay_s=0.001))
    assert found.status == status
    assert found.evidence["attempts"] == retries + 1


async def test_a_run_is_repeated_until_all_pass(tmp_path: Path):
    """With --retry-timeout what failed is asked again, and what waited for it is judged at last."""
    found = await run(
        tmp_path,
        check("a", after(3)),
        check("b", good, requires=("a",)),
        retry_timeout_s=30,
        again_s=0.001,
    )
    assert statuses(found) == {"a": "pass", "b": "pass"}


async def test_a_repeated_run_ends_when_its_time_is_over(tmp_path: Path):
    """What never passes keeps its finding, and a check that hangs does not outlast the time."""
    found = await run(
        tmp_path, check("a", bad), check("b", hangs, timeout_s=0.01), retry_timeout_s=0.1, again_s=0.01
    )
    assert statuses(found) == {"a": "fail", "b": "fail"}
    assert found[0].evidence["attempts"] > 1


async def test_a_last_attempt_that_is_cut_short_hides_no_finding(tmp_path: Path):
    """When the time of the whole run ends in the middle of an attempt, the failure seen before is told."""
    asked = 0

    async def once(params: Any, context: CheckContext) -> Observation:
        nonlocal asked
        asked += 1
        return await (bad if asked == 1 else hangs)(params, context)

    (found,) = await run(tmp_path, check("a", once, timeout_s=60), retry_timeout_s=0.1, again_s=0.001)
    assert (asked, found.remedy) == (2, "mend it")


async def test_what_passed_is_not_asked_again(tmp_path: Path):
    """A repeated run leaves alone what is well."""
    asked = 0

    async def counted(params: Any, context: CheckContext) -> Observation:
        nonlocal asked
        asked += 1
        return await good(params, context)

    await run(tmp_path, check("a", counted), check("b", after(2)), retry_timeout_s=30, again_s=0.001)
    assert asked == 1


@pytest.mark.parametrize(
    "severity, status, exit_",
    [("critical", "fail", 1), ("error", "fail", 1), ("warning", "warn", 0), ("info", "warn", 0)],
)
async def test_severity_decides_what_a_failure_means(tmp_path: Path, severity: str, status: str, exit_: int):
    """A failed warning or info is a warning and leaves the exit status 0."""
    found = await run(tmp_path, check("a", bad, severity=Severity(severity)))
    assert found[0].status == status
    assert int(Report("verify", found).exit) == exit_


async def test_the_remedy_of_the_checklist_wins(tmp_path: Path):
    """What the checklist says to do comes before what the kind says; a pass says nothing."""
    found = await run(
        tmp_path, check("a", bad, remedy="call Bob"), check("b", bad), check("c", good, remedy="x")
    )
    assert [one.remedy for one in found] == ["call Bob", "mend it", None]


async def test_a_problem_fails_unless_its_error_is_expected(tmp_path: Path):
    """When nothing could be seen, an expectation of something else does not pass by accident."""

    async def refused(_params: Any, _scene: CheckContext) -> Observation:
        return Observation({"good": True, "error": "refused"}, problem="nothing listens")

    (found,) = await run(tmp_path, check("a", refused))
    assert (found.status, found.detail) == ("fail", "nothing listens")


async def test_an_undecided_mismatch_is_inconclusive(tmp_path: Path):
    """A kind that could not look closely enough does not call it a failure."""

    async def busy(_params: Any, _scene: CheckContext) -> Observation:
        return Observation({"good": False}, "busy", undecided="it is busy")

    (found,) = await run(tmp_path, check("a", busy))
    assert (found.status, found.detail) == ("inconclusive", "it is busy")


async def test_a_cancelled_run_leaves_no_check_behind(tmp_path: Path):
    """Ctrl-C reaches the checks that are on their way."""
    started, ended = asyncio.Event(), asyncio.Event()

    async def observe(_params: Any, _scene: CheckContext) -> Observation:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    task = asyncio.create_task(run(tmp_path, check("a", observe, timeout_s=60)))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
