"""Streams that are full, closed or of a narrow locale are no bug of any command."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import typer

from opskit.cli.app import build
from tests.parts.command import NOBODY, Result, environment, opskit

#: Every command with arguments that make it end soon, without touching this machine.
COMMANDS = {
    "probe": "--sandbox",
    "run": "--sandbox Привет",
    "verify": "smoke --sandbox",
    "doctor": "--sandbox",
    "drill": "--list",
    "explain": "MODEL_001",
    "quality": "{file}",
    "diagnose": "system --sandbox",
    "watch": "--sandbox --count 1",
    "status": "",
    "pause": "web --force --for 1h",
    "resume": "",
    "models list": "--sandbox",
    "models loaded": "--sandbox",
    "models test": "--sandbox",
    "models route": "--sandbox",
    "models profile": "phi3.5:3.8b --sandbox",
    "logs show": "{log}",
    "logs stats": "{log}",
    "logs request": "8979fe84 {log}",
    "recover": "--dry-run",
    "recover levels": "--dry-run",
    "recover model": "mlx --dry-run",
    "recover full": "--dry-run",
    "backup create": "",
    "backup list": "",
    "backup verify": "",
    "backup restore": "latest --dry-run",
    "schedule install": "--dry-run",
    "schedule remove": "--dry-run",
    "schedule status": "",
    "schedule run-now": "",
    "sandbox up": "",
    "sandbox faults": "",
    "policy check": "-- uptime",
    "approvals": "",
    "approve": "nobody",
    "trace": "list",
    "chat": "--sandbox --local",
    "serve victoria": "--sandbox --port 0",
    "config show": "",
    "config init": "--path new.yaml --force",
    "config check": "",
    "": "--help",
    "--version": "",
}
#: Those that have nothing to say on stdout where no scheduler, no Compose project and no such server is.
SILENT = ("recover model", "recover full", "schedule run-now", "trace", "chat", "serve victoria", "approve")
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
#: How a shell redirects, and what the environment says beside it.
STREAMS: dict[str, tuple[str, Mapping[str, str]]] = {
    "a full disk": (">/dev/full", {}),
    "all closed": (">&- 2>&- <&-", {}),
    "the C locale and stderr full": ("2>/dev/full", C_LOCALE),
}
LINE = (
    '2026-11-20T08:00:01Z [LLM_CALL] correlation_id=8979fe84-3a15-468c-96c9-758325391ded node=a model="б"\n'
)


def walked() -> Iterator[str]:
    """The names of all commands, as they are typed."""
    stack = [((), typer.main.get_command(build()))]
    while stack:
        names, command = stack.pop()
        children = getattr(command, "commands", {})
        stack += [((*names, name), child) for name, child in children.items()]
        if names and (not children or command.invoke_without_command):
            yield " ".join(names)


def test_every_command_is_tried() -> None:
    """The table above names each command of the application."""
    assert {name for name in COMMANDS if name and not name.startswith("-")} == set(walked())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is a whole stack, small, with a backup of it and a pause in it."""
    home = tmp_path_factory.mktemp("stack")
    (home / "opskit.yaml").write_text("stack: {}\n")
    (home / "a.py").write_text('"""Слова."""\n\n\ndef f(a):\n    return a\n')
    (home / "a.log").write_text(LINE)
    (home / ".env").write_text("A=б\n")
    assert opskit("backup", "create", home=home).status == 0
    assert opskit("pause", "web", "--force", home=home).status == 0
    return home


def run(name: str, streams: str, home: Path) -> Result:
    """Run a command as a shell does; one that would not end gets Ctrl-C once it serves."""
    redirection, extra = STREAMS[streams]
    arguments = COMMANDS[name].format(file="a.py", log="a.log").split()
    process = subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            f'exec "$@" {redirection}',
            "sh",
            sys.executable,
            "-m",
            "opskit",
            *name.split(),
            *arguments,
        ],
        env={**environment(home), "VICTORIA_URL": NOBODY, **extra},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home,
    )
    if name == "serve victoria" or (name == "sandbox up" and streams != "a full disk"):
        while process.poll() is None and not _serves(process.pid):
            time.sleep(0.01)
        process.send_signal(2)
    try:
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
    return Result(process.returncode, out.decode(), err.decode())


def _serves(pid: int) -> bool:
    try:
        return any(one.status == psutil.CONN_LISTEN for one in psutil.Process(pid).net_connections())
    except psutil.Error:
        return False


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("name", COMMANDS, ids=lambda name: name or "help")
def test_no_stream_is_a_bug(name: str, streams: str, home: Path) -> None:
    """No command takes a stream for a bug of its own: no BUG_001, no traceback, no 70."""
    result = run(name, streams, home)
    assert 0 <= result.status != 70, result
    for text in (result.out, result.err):
        assert "BUG_001" not in text
        assert "Traceback" not in text
        assert "Exception ignored" not in text
    if streams == "a full disk" and name not in SILENT:
        assert result.status == 74, result
        assert result.err.count("OUTPUT_001") == 1


@pytest.mark.parametrize("extra", [{}, C_LOCALE], ids=["UTF-8", "the C locale"])
def test_no_locale_loses_an_answer(extra: dict[str, str], home: Path) -> None:
    """Text of any language comes in by arguments, files and standard input, and reaches stdout."""
    assert opskit("logs", "a.log", "--grep", "б", "--raw", home=home, env=extra).out == LINE
    piped = opskit("logs", "-", "--json", home=home, env=extra, stdin=LINE.encode())
    assert piped.document["fields"]["model"] == "б"
    (home / "имя.log").write_text(LINE)
    assert opskit("logs", "stats", "имя.log", "--by", "model", home=home, env=extra).out.count("б") == 1


def test_a_narrow_encoding_escapes_what_it_cannot_say(home: Path) -> None:
    """Where the encoding of stdout lacks a character its escape is printed; JSON stays JSON."""
    env = {"PYTHONIOENCODING": "latin-1:strict"}
    by_model = opskit("logs", "stats", "a.log", "--by", "model", home=home, env=env)
    assert (by_model.status, "\\u0431" in by_model.out) == (0, True), by_model
    assert "б" in str(opskit("logs", "stats", "a.log", "--json", home=home, env=env).document["stats"])


def test_a_command_without_streams_still_tells_by_its_status(home: Path) -> None:
    """Closed streams take nothing of the result but its text."""
    command = [sys.executable, "-m", "opskit", "config", "check", "--config"]
    statuses = [
        subprocess.run(
            ["/bin/sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", *command, name], env=environment(home), cwd=home
        ).returncode
        for name in ("opskit.yaml", "a.py")
    ]
    assert statuses == [0, 78]
