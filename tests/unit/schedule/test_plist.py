"""The LaunchAgent."""

import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.schedule.job import ARGUMENTS, LABEL, MINUTES, Job
from opskit.schedule.launchd import plist_text, read_plist
from tests.parts.launchd_examples import examples

_LOGS = Path("/Users/me/Library/Logs/opskit")
_TEXT = st.text(max_size=30).filter(str.isprintable)
_NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True)


def test_the_keys_of_the_agent() -> None:
    """Twelve calendar times, absolute paths, strings only, and nothing that restarts the job."""
    job = Job(("/opt/py", *ARGUMENTS), {"PATH": "/usr/bin"})
    found = plistlib.loads(plist_text(job, _LOGS).encode())
    assert found == {
        "Label": LABEL,
        "ProgramArguments": ["/opt/py", "-m", "opskit", "recover", "--json", "--quiet-lock"],
        "EnvironmentVariables": {"PATH": "/usr/bin"},
        "StartCalendarInterval": [{"Minute": minute} for minute in range(0, 60, 5)],
        "StandardOutPath": "/Users/me/Library/Logs/opskit/recover.out.log",
        "StandardErrorPath": "/Users/me/Library/Logs/opskit/recover.err.log",
        "ProcessType": "Standard",
        "AbandonProcessGroup": True,
    }


@given(
    st.lists(_TEXT, min_size=1, max_size=4),
    st.dictionaries(_NAMES, _TEXT, max_size=4),
    st.sampled_from(MINUTES),
)
def test_what_is_written_is_read_back(arguments: list[str], environment: dict[str, str], every: int) -> None:
    """Whatever can be printed survives XML."""
    job = Job(tuple(arguments), environment, every)
    assert read_plist(plist_text(job, _LOGS)) == job


@pytest.mark.parametrize(
    "text",
    ["", "no xml", "<plist", "<plist version='1.0'><array/></plist>", "<plist version='1.0'><dict/></plist>"],
)
def test_plists_of_others_are_not_understood(text: str) -> None:
    """What cannot be read is told apart from a job, and is no traceback."""
    assert read_plist(text) is None


def test_the_shipped_examples_are_what_the_code_writes() -> None:
    """The files of launchd/ are never edited by hand."""
    folder = Path(__file__).parents[3] / "launchd"
    shipped = {str(one.relative_to(folder)): one.read_text() for one in folder.rglob("*") if one.is_file()}
    assert shipped == examples()


def test_another_reader_takes_the_plist(tmp_path: Path) -> None:
    """Where libplist is installed, it reads the same content."""
    path = tmp_path / "job.plist"
    path.write_text(plist_text(Job(("/a & <b>", *ARGUMENTS), {"PATH": "/ü b"}), _LOGS))
    program = shutil.which("plistutil")
    content = path.read_bytes()
    if program is not None:
        content = subprocess.run([program, "-i", path, "-f", "xml"], capture_output=True, check=True).stdout
    assert plistlib.loads(content)["ProgramArguments"][0] == "/a & <b>"
