"""Foreign text reaches the desktop as an argument, and never as a script, an option or markup."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.recovery.budget import Level
from opskit.recovery.notice import Notice
from opskit.recovery.notifier import ChannelOff, desktop_command


def _notice(title: str = "opskit has given up on mlx", text: str = "it is wedged", **rest) -> Notice:
    return Notice(
        rest.get("level", Level.CRITICAL), "mlx", title, text, "2026-11-21T09:30:00.000Z", "mac", "r-1",
        rest.get("remedy"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Both programs on PATH, and a session bus."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("osascript", "notify-send"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder), "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}


@given(title=st.text(), text=st.text(), remedy=st.none() | st.text())
def test_no_text_becomes_part_of_a_script(environ, title, text, remedy):
    """The AppleScript is always the same, its arguments come after it and begin with our name."""
    argv = desktop_command(_notice(title, text, remedy=remedy), "darwin", environ)
    assert argv[1:7] == (
        "-e", "on run argv", "-e", "display notification (item 2 of argv) with title (item 1 of argv)",
        "-e", "end run",
    )  # fmt: skip
    assert len(argv) == 9
    assert argv[7].startswith("opskit:")


@given(title=st.text(), text=st.text(), remedy=st.none() | st.text())
def test_no_text_is_an_option_or_markup(environ, title, text, remedy):
    """What notify-send gets is valid UTF-8 on one line, bounded, after `--`, with its body escaped."""
    argv = desktop_command(_notice(title, text, remedy=remedy), "linux", environ)
    *options, dashes, head, body = argv[1:]
    assert options == ["--app-name=opskit", "--urgency=critical"]
    assert dashes == "--"
    for part in (head, body):
        assert part.encode().decode() == part
        assert part.isprintable()
    assert not {"<", ">"} & set(body)
    assert len(head) <= 120


def test_a_backslash_stays_one(environ):
    """notify-send replaces escapes in the body; the title it leaves alone."""
    argv = desktop_command(_notice("a\\n", "C:\\new & <b>"), "linux", environ)
    assert argv[-2:] == ("opskit: a\\n", "C:\\\\new &amp; &lt;b&gt;")


def test_only_what_needs_a_person_is_urgent(environ):
    """A repair that helped is no alarm."""
    assert "--urgency=normal" in desktop_command(_notice(level=Level.REPAIRED), "linux", environ)


def test_a_machine_without_a_desktop_has_no_such_channel(environ, tmp_path: Path):
    """No program, or no session: not a failure."""
    with pytest.raises(ChannelOff, match="there is no notify-send"):
        desktop_command(_notice(), "linux", {"PATH": str(tmp_path)})
    with pytest.raises(ChannelOff, match="there is no osascript"):
        desktop_command(_notice(), "darwin", {"PATH": str(tmp_path)})
    with pytest.raises(ChannelOff, match="session"):
        desktop_command(_notice(), "linux", {"PATH": environ["PATH"]})


def test_the_session_bus_is_found_where_libdbus_finds_it(environ, tmp_path: Path):
    """Under systemd only XDG_RUNTIME_DIR may be set."""
    os.mkfifo(tmp_path / "bus")
    runtime = {"PATH": environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path)}
    assert desktop_command(_notice(), "linux", runtime)
