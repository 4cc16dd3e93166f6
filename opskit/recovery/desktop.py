"""A notice on the desktop of who is logged in: `osascript` on a Mac, `notify-send` elsewhere.

Foreign text is always an argument, never part of a script.
"""

import shutil
from collections.abc import Mapping
from html import escape
from pathlib import Path

from opskit.recovery.budget import Level
from opskit.recovery.notice import Notice

_TITLE_CHARS = 120
_TEXT_CHARS = 600
_SCRIPT = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)
_LOUD = (Level.CRITICAL, Level.ESCALATION, Level.REMINDER)


def command(notice: Notice, platform: str, environ: Mapping[str, str]) -> tuple[str, ...] | str:
    """The program and its arguments, or why there is no desktop to tell."""
    name = "osascript" if platform == "darwin" else "notify-send"
    program = shutil.which(name, path=environ.get("PATH", ""))
    if program is None:
        return f"there is no {name}"
    # No option begins like this title, so that nothing of the text is taken for one.
    title = _plain(f"opskit: {notice.title}", _TITLE_CHARS)
    text = _plain(" ".join(part for part in (notice.text, notice.remedy) if part), _TEXT_CHARS)
    if platform == "darwin":
        script = (part for line in _SCRIPT for part in ("-e", line))
        return (program, *script, title, text)
    if not _has_session(environ):
        return "there is no desktop session (no session bus)"
    urgency = "critical" if notice.level in _LOUD else "normal"
    # Its body is markup, in which notify-send itself replaces escapes such as \n.
    body = escape(text, quote=False).replace("\\", "\\\\")
    return (program, "--app-name=opskit", f"--urgency={urgency}", "--", title, body)


def _has_session(environ: Mapping[str, str]) -> bool:
    """Whether the session bus can be found as libdbus finds it."""
    if environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return True
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return runtime.startswith("/") and (Path(runtime) / "bus").exists()


def _plain(text: str, most: int) -> str:
    """Valid text on one line: desktops refuse what is no UTF-8, arguments a zero byte."""
    clean = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return clean if len(clean) <= most else clean[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"
