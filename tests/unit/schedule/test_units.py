"""The systemd service and timer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.schedule.job import ARGUMENTS, MINUTES, Job
from opskit.schedule.systemd import read_units, service_unit, timer_unit

_TEXT = st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), exclude_characters="\xa0"), max_size=30)
_PRINTABLE = _TEXT.filter(str.isprintable)
_NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True)


def verify(folder: Path, job: Job, *options: str) -> subprocess.CompletedProcess[str]:
    """`systemd-analyze verify` of both units, which needs no systemd to run."""
    paths = [folder / "opskit-recover.service", folder / "opskit-recover.timer"]
    for path, text in zip(paths, (service_unit(job), timer_unit(job)), strict=True):
        path.write_text(text)
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    return subprocess.run(
        ["systemd-analyze", *options, "verify", *paths],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
    )


@pytest.mark.parametrize("options", [[], ["--user"]], ids=["system", "user"])
@pytest.mark.parametrize("folder", ["plain", "with space", "50%h;ü & x"])
def test_the_units_are_clean(tmp_path: Path, options: list[str], folder: str) -> None:
    """systemd-analyze finds nothing to say, whatever the interpreter's folder is called."""
    interpreter = tmp_path / folder / "python"
    interpreter.parent.mkdir()
    interpreter.symlink_to(sys.executable)
    job = Job((str(interpreter), *ARGUMENTS), {"PATH": f"{interpreter.parent}:/bin", "X": 'a "b" \\ 100% $d'})
    done = verify(tmp_path, job, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_verify_would_find_a_fault(tmp_path: Path) -> None:
    """The check above can fail: an interpreter that is not there is found."""
    done = verify(tmp_path, Job(("/nowhere/python", *ARGUMENTS)))
    assert done.returncode != 0
    assert "/nowhere/python" in done.stderr


@given(
    st.lists(_PRINTABLE, max_size=4),
    st.dictionaries(_NAMES, _PRINTABLE, max_size=4),
    st.sampled_from(MINUTES),
    st.integers(41, 10_000),
)
def test_what_is_written_is_read_back(
    arguments: list[str], environment: dict[str, str], every: int, limit_s: int
) -> None:
    """Quotes, backslashes, per cent and dollar signs survive: the units say exactly what the job is."""
    job = Job(("/opt/a b%c/python", *arguments), environment, every, limit_s)
    assert read_units(service_unit(job), timer_unit(job)) == job


def test_the_settings_of_a_run() -> None:
    """One shot with a deadline; repaired and busy are successes; servers outlive the run."""
    lines = service_unit(Job(("/p", *ARGUMENTS))).splitlines()
    assert {
        "Type=oneshot",
        "TimeoutStartSec=280",
        "SuccessExitStatus=4 75",
        "KillMode=process",
        "ExecStart=/p -m opskit recover --json --quiet-lock",
    } <= set(lines)


def test_the_settings_of_the_timer() -> None:
    """It starts after boot, counts from the end of a run, and is wanted by the timers."""
    lines = timer_unit(Job(("/p",), every=60)).splitlines()
    assert {"OnBootSec=2min", "OnUnitInactiveSec=1h", "AccuracySec=15s", "WantedBy=timers.target"} <= set(
        lines
    )


@pytest.mark.parametrize(
    "service, timer", [("", ""), ("[Service]\nExecStart=/p\n", ""), ("x", "OnUnitInactiveSec=soon")]
)
def test_units_of_others_are_not_understood(service: str, timer: str) -> None:
    """What cannot be read is told apart from a job."""
    assert read_units(service, timer) is None
