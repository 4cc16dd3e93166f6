"""Notices through real programs: those of the desktop, played by small ones on PATH, and a person's own."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from opskit.config.schema import NoticeConfig, Secret
from opskit.recovery.budget import Level
from opskit.recovery.memory import Memory
from opskit.recovery.notice import Notice, recorded
from opskit.recovery.notifier import Notifier
from tests.parts.loopback import until

NOTICE = Notice(
    Level.CRITICAL, "mlx", 'given up on "mlx"', "$(touch /tmp/x) `id` \u2028 <b>", "2026-11-21T09:30:00.000Z",
    "mac", "r-1", "do shell script",
)  # fmt: skip
KEEP_ARGUMENTS = '#!/bin/sh\nfor one in "$@"; do printf "%s\\n" "$one"; done > "$OUT"\n'


def _program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return folder / name


def _notifier(tmp_path: Path, platform: str = "linux", **config) -> tuple[Notifier, Memory]:
    memory = Memory(tmp_path / "unused")
    environ = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "OUT": str(tmp_path / "out"),
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere",
    }
    settings = NoticeConfig(**{"timeout_s": 30.0, **config})
    return Notifier(settings, memory, environ, platform, lambda: 1_750_000_000.0), memory


@pytest.mark.parametrize(("platform", "name"), [("darwin", "osascript"), ("linux", "notify-send")])
async def test_the_desktop_is_told_with_arguments(tmp_path: Path, platform: str, name: str):
    """The title and the text arrive as two whole arguments, and nothing in them is run."""
    _program(tmp_path / "bin", name, KEEP_ARGUMENTS)
    tell, memory = _notifier(tmp_path, platform)
    await tell(NOTICE)
    *_, title, text = (tmp_path / "out").read_text().splitlines()
    assert title == 'opskit: given up on "mlx"'
    shown = "<b>" if platform == "darwin" else "&lt;b&gt;"
    assert text == f"$(touch /tmp/x) `id` {shown} do shell script"
    assert memory.facts == {}


async def test_a_desktop_program_that_fails_is_quoted(tmp_path: Path):
    """Its own words are the reason."""
    _program(tmp_path / "bin", "notify-send", "#!/bin/sh\necho cannot autolaunch D-Bus >&2\nexit 1\n")
    tell, memory = _notifier(tmp_path)
    await tell(NOTICE)
    (one,) = recorded(memory.facts)
    assert (one.channel, one.why) == ("desktop", "exit 1: cannot autolaunch D-Bus")


async def test_a_command_gets_the_notice_on_its_standard_input(tmp_path: Path):
    """One line of JSON, as the webhook gets it, in the environment of the run."""
    script = _program(tmp_path / "bin", "page", '#!/bin/sh\ncat > "$OUT"\n')
    tell, memory = _notifier(tmp_path, desktop=False, command=(str(script),))
    await tell(NOTICE)
    assert json.loads((tmp_path / "out").read_text()) == NOTICE.as_json()
    assert memory.facts == {}


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("no-such-pager",), "no-such-pager: No such file or directory"),
        (("/bin/sh", "-c", "exit 7"), "exit 7"),
        (("/bin/sh", "-c", "kill -9 $$"), "killed by signal 9"),
        (("/bin/sh", "-c", "echo https://h/T0K3N failed; exit 1"), "exit 1: *** failed"),
    ],
)
async def test_a_command_that_fails_is_told_why(tmp_path: Path, argv: tuple[str, ...], why: str):
    """Missing, failing, killed; and an address that it repeats is hidden."""
    tell, memory = _notifier(tmp_path, desktop=False, command=argv, ping=Secret("https://h/T0K3N"))
    await tell(NOTICE)
    (one,) = recorded(memory.facts)
    assert one.why == why


async def test_a_command_that_reads_nothing_is_no_trouble(tmp_path: Path):
    """It may end before it is told everything."""
    long = Notice(Level.CRITICAL, "mlx", "t", "x" * 500_000, NOTICE.at, "mac", "r-1")
    tell, memory = _notifier(tmp_path, desktop=False, command=("/bin/true",))
    await tell(long)
    assert memory.facts == {}


async def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path: Path):
    """Nothing lives longer than the time allowed."""
    script = f"sleep 1000 & echo $! > {tmp_path}/child; wait"
    tell, memory = _notifier(tmp_path, desktop=False, command=("/bin/sh", "-c", script), timeout_s=0.5)
    async with asyncio.timeout(30):
        await tell(NOTICE)
    (one,) = recorded(memory.facts)
    assert one.why == "no end within 0.5 s; it was killed"
    child = int((tmp_path / "child").read_text())
    await until(lambda: not _lives(child))


async def test_a_channel_that_is_off_says_why(tmp_path: Path):
    """For who tries the channels."""
    tell, _ = _notifier(tmp_path, desktop=False)
    assert {one.target: (one.state, one.detail) for one in await tell.deliver(NOTICE)} == {
        "desktop": ("off", "switched off: notices.desktop"),
        "webhook": ("off", "not configured: notices.webhook"),
        "command": ("off", "not configured: notices.command"),
    }


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
