"""A health check that cannot run is told from one that fails, by what Docker's health log holds."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.checks.check_shape import compile_expectation
from opskit.checks.health_check import fault_of, health_check_fault, health_check_remedy
from opskit.checks.kinds import KINDS
from opskit.checks.runner import judged
from opskit.checks.spec import Check, Observation
from opskit.facts.container import Container, HealthCheckRun

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CURL = "curl -f http://localhost || exit 1"
RUNC = "OCI runtime exec failed: exec failed: unable to start container process: "
OLD_RUNC = "OCI runtime exec failed: exec failed: container_linux.go:349: starting container process caused "


def shell(script: str) -> tuple[str, ...]:
    return ("CMD-SHELL", script)


#: The check's command, its exit code, what it wrote (recorded from real images), and what is missing.
CANNOT_RUN = [
    (("CMD", "curl", "-f"), -1, f'{RUNC}exec: "curl": executable file not found in $PATH: unknown', "curl"),
    (
        ("CMD", "/check"),
        -1,
        f'{RUNC}exec: "/check": stat /check: no such file or directory: unknown',
        "/check",
    ),
    (("CMD", "/check"), -1, f'{RUNC}exec: "/check": permission denied: unknown', "/check"),
    (
        ("CMD", "curl"),
        -1,
        f'{OLD_RUNC}"exec: \\"curl\\": executable file not found in $PATH": unknown',
        "curl",
    ),
    (("CMD", "/check"), -1, "", "/check"),
    (("CMD", "/check"), 126, "", "/check"),
    (("CMD", "/check"), 255, "exec /check: no such file or directory", "/check"),
    (
        ("CMD", "/check"),
        1,
        "standard_init_linux.go:228: exec user process caused: no such file or directory",
        "/check",
    ),
    (("CMD", "/check"), 127, "/usr/bin/env: 'python3': No such file or directory", "python3"),
    (("CMD", "/check"), 1, "/usr/bin/env: ‘python3’: No such file or directory", "python3"),
    (("CMD", "/check.sh"), 1, "checking\n/check.sh: line 3: curl: command not found", "curl"),
    (("CMD", "/check.sh"), 1, "/check.sh: 3: curl: not found", "curl"),
    (
        ("CMD", "timeout", "1", "curl"),
        127,
        "timeout: can't execute 'curl': No such file or directory",
        "curl",
    ),
    (("CMD", "sh", "-c", CURL), 1, "sh: curl: not found", "curl"),
    (
        ("CMD", "python", "/c.py"),
        2,
        "python: can't open file '/c.py': [Errno 2] No such file or directory",
        "/c.py",
    ),
    (
        ("CMD", "node", "/c.js"),
        1,
        "  throw err;\n\nError: Cannot find module '/c.js'\n    at x\n\nNode.js v18",
        "/c.js",
    ),
    (shell("curl -f 'x || exit 1"), 2, "/bin/sh: 1: Syntax error: Unterminated quoted string", ""),
    (shell("if curl -f x"), 2, "/bin/sh: syntax error: unexpected end of file", ""),
    (shell("if curl -f x"), 2, "/bin/bash: -c: line 1: syntax error: unexpected end of file", ""),
    (shell("curl -f x"), 127, "/bin/sh: curl: not found", "curl"),
    (shell("curl -f x 2>/dev/null"), 127, "", "curl"),
    (shell(CURL), 1, "curl: not found", "curl"),
    (shell(CURL), 1, "sh: 1: curl: not found", "curl"),
    (shell(CURL), 1, "/bin/sh: 1: curl: not found", "curl"),
    (shell(CURL), 1, "/bin/sh: curl: not found", "curl"),
    (shell(CURL), 1, "/bin/sh: curl: command not found", "curl"),
    (shell(CURL), 1, "/bin/bash: line 1: curl: command not found", "curl"),
    (shell("exec curl x || exit 1"), 1, "/bin/sh: exec: line 0: curl: not found", "curl"),
    (
        shell("timeout 1 curl x || exit 1"),
        1,
        "timeout: failed to run command ‘curl’: No such file or directory",
        "curl",
    ),
    (shell("curl -f x || (echo sick; exit 1)"), 1, "sh: curl: not found\nsick", "curl"),
    (shell("curl x || kill 1"), 1, "sh: curl: not found", "curl"),
    (shell("curl -s x | grep -q ok"), 1, "/bin/sh: curl: not found", "curl"),
    (shell("curl -s x | jq -e .ok || exit 1"), 1, "sh: jq: not found\ncurl: (23) Failed writing body", "jq"),
    (shell("curl x || wget y || exit 1"), 1, "sh: curl: not found\nsh: wget: not found", "curl"),
    (shell('[ "$(curl -s x)" = ok ] || exit 1'), 1, "sh: curl: not found", "curl"),
    (shell('s=$(curl -s x); [ "$s" = ok ] || exit 1'), 1, "sh: curl: not found", "curl"),
    (shell('s=$(curl -s x); echo "$s" | grep -q ok || exit 1'), 1, "sh: curl: not found", "curl"),
    (shell("if curl -f x; then exit 0; else exit 1; fi"), 1, "sh: curl: not found", "curl"),
    (shell("/check.sh || exit 1"), 1, "/bin/sh: /check.sh: not found", "/check.sh"),
    (shell("/check.sh || exit 1"), 1, "/bin/bash: line 1: /check.sh: No such file or directory", "/check.sh"),
    (shell("./check.sh || exit 1"), 1, "/bin/sh: ./check.sh: Permission denied", "./check.sh"),
    (
        shell("/check.sh || exit 1"),
        1,
        "/bin/bash: line 1: /check.sh: cannot execute: required file not found",
        "/check.sh",
    ),
    (
        shell("/check.sh || exit 1"),
        1,
        "/bin/bash: /check.sh: /opt/bash: bad interpreter: No such file or directory",
        "/opt/bash",
    ),
    (
        shell("sh /check.sh || exit 1"),
        1,
        "sh: can't open '/check.sh': No such file or directory",
        "/check.sh",
    ),
    (shell("sh /check.sh || exit 1"), 1, "sh: 0: cannot open /check.sh: No such file", "/check.sh"),
    (shell("bash /check.sh || exit 1"), 1, "bash: /check.sh: No such file or directory", "/check.sh"),
    (
        shell("python -c 'import requests' || exit 1"),
        1,
        "Traceback (most recent call last):\n  File x\nModuleNotFoundError: No module named 'requests'",
        "requests",
    ),
]

#: The check ran, or was too slow: that says something of the service.
RAN = [
    (shell(CURL), 0, "sh: x: not found"),
    (("CMD", "sleep", "9"), -1, "Health check exceeded timeout (600ms)"),
    (shell("sleep 9; curl x"), -1, "Health check exceeded timeout (1s): sh: curl: not found"),
    (("CMD", "true"), -1, f"{RUNC}read init-p: connection reset by peer: unknown"),
    (shell(CURL), 1, ""),
    (shell(CURL), 1, "no disk"),
    (shell(CURL), 1, "curl: (7) Failed to connect to localhost port 80: Connection refused"),
    (shell(CURL), 1, "curl: (22) The requested URL returned error: 404 Not Found"),
    (shell(CURL), 1, "404 page not found"),
    (shell(CURL), 1, "model llama3: not found"),
    (shell(CURL), 22, "error: model not found"),
    (shell("wget -q x || exit 1"), 1, "wget: server returned error: HTTP/1.1 404 Not Found"),
    (shell("curl x || wget y || exit 1"), 1, "sh: curl: not found\nwget: can't connect: Connection refused"),
    (shell("curl x || wget y"), 127, "curl: (7) Connection refused\nsh: wget: not found"),
    (shell("curl -s x || test -f /ready"), 1, "sh: curl: not found"),
    (shell("read x < /run/ready || exit 1"), 1, "/bin/sh: can't open /run/ready: no such file"),
    (shell("read x < /run/ready || exit 1"), 1, "/bin/sh: 1: cannot open /run/ready: No such file"),
    (shell("read x < /run/ready || exit 1"), 1, "/bin/bash: line 1: /run/ready: No such file or directory"),
    (shell("cat /tmp/healthy || exit 1"), 1, "cat: can't open '/tmp/healthy': No such file or directory"),
    (shell("ls /ready"), 1, "ls: /ready: No such file or directory"),
    (("CMD", "pg_isready"), 2, 'server on socket "/run/.s.PGSQL.5432" failed: No such file or directory'),
    (shell("redis-cli ping || exit 1"), 1, "key: not found"),
]


@pytest.mark.parametrize(("test", "exit_code", "output", "program"), CANNOT_RUN)
def test_a_check_that_cannot_run_is_known_with_its_program(test, exit_code: int, output: str, program: str):
    """By Docker's own words, the exit code of a shell, or a shell's complaint behind `|| exit 1`."""
    fault = fault_of(test, HealthCheckRun(exit_code=exit_code, output=output))
    assert fault is not None
    assert fault.program == program


@pytest.mark.parametrize(("test", "exit_code", "output"), RAN)
def test_a_check_that_ran_is_a_verdict_on_the_service(test, exit_code: int, output: str):
    """A failure, a timeout, and a file that the check only reads are no faults of the check."""
    assert fault_of(test, HealthCheckRun(exit_code=exit_code, output=output)) is None


@given(st.text(), st.text(), st.integers(-1, 255))
def test_whatever_a_check_writes_is_read(script: str, output: str, exit_code: int):
    """Nothing raises, and a check that succeeded has no fault."""
    fault = fault_of(shell(script), HealthCheckRun(exit_code=exit_code, output=output))
    assert exit_code or fault is None


def sick(*runs: tuple[int, str], health: str = "unhealthy", service: str | None = "api") -> Container:
    log = tuple(
        HealthCheckRun(ended=NOW + timedelta(seconds=n), exit_code=code, output=output)
        for n, (code, output) in enumerate(runs)
    )
    return Container(
        id="1", name="p_api_1", status="running", health=health, health_log=log, health_test=shell(CURL),
        started=NOW - timedelta(hours=1), service=service,
    )  # fmt: skip


def test_the_latest_check_counts():
    """One that ran and then cannot, cannot be judged; one that runs again can."""
    missing, refused = (1, "sh: curl: not found"), (1, "curl: (7) Connection refused")
    assert health_check_fault(sick(refused, missing)) is not None
    assert health_check_fault(sick((0, ""), missing)) is not None
    assert health_check_fault(sick(missing, refused)) is None
    assert health_check_fault(sick(missing, health="starting")) is None
    assert health_check_fault(sick()) is None


def test_the_remedy_corrects_the_check():
    """It names the program, the service and its Compose file, and no restart."""
    container = sick((1, "sh: curl: not found"))
    fault = health_check_fault(container)
    assert fault is not None
    remedy = health_check_remedy(container, fault)
    assert "`healthcheck` of api in the Compose file (curl is not in its container)" in remedy
    assert "restart" not in remedy
    assert "--health-cmd" in health_check_remedy(sick(service=None), fault)


@pytest.mark.parametrize(
    ("expect", "status"),
    [
        (None, "inconclusive"),
        ({"health": "healthy"}, "inconclusive"),
        ({"health": {"not": "healthy"}}, "inconclusive"),
        ({"state": "running"}, "pass"),
        ({"state": "exited"}, "fail"),
        ({"health": "healthy", "state": "exited"}, "fail"),
    ],
)
def test_a_value_that_was_not_seen_decides_nothing(expect, status: str):
    """Whatever is expected of it; what was seen still passes or fails."""
    kind = KINDS["container"]
    wanted = compile_expectation(expect or kind.expects, kind.yields, (), lambda *_: None)
    values = {"state": "running", "health": "unchecked", "condition": "unchecked"}
    seen = Observation(values, "cannot run", unseen=frozenset({"health", "condition"}))
    finding = judged(Check("it", kind, kind.params(name="x"), wanted), seen, 0.0)
    assert finding.status == status
