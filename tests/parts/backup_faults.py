"""Runs a restoration again and again, each time with a fault at the next thing that it does to the disk.

`python -m tests.parts.backup_faults FAULT NEXT FOLDER`: FAULT is kill, full, interrupt or terminate; NEXT is
what is typed afterwards. With FAULT twice it is killed at every fifth point, and what is typed afterwards
is killed at each of its own points before it is typed again. With FAULT moved it is killed too, and the
backup holds an `opskit.yaml` that names another folder of archives. The interpreter's audit events tell of
every file that is about to be opened for writing, renamed, linked, removed or changed. One JSON line for each
run goes to stdout.
"""

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from opskit.cli.main import status
from opskit.config.load import load
from opskit.facts.unfinished_restore import backup_folders, unfinished_restores
from tests.parts.backups import snapshot

_CHANGES = ("rename", "link", "remove", "mkdir", "rmdir", "symlink", "chmod", "utime", "chown", "truncate")
_EVENTS = frozenset(f"os.{name}" for name in _CHANGES)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


#: A restore of the newest backup in a process that is killed before its file NUMBER gets its place.
_KILLED = """
import os, signal, sys
number = sys.argv.pop(1)
def hook(event, arguments):
    if event == "os.rename" and f".opskit-restore-{number}." in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from opskit.cli.main import status
status(["backup", "restore", "latest", "--yes", *sys.argv[1:]])
"""


def killed_at(number: int, config: Path, env: Mapping[str, str]) -> None:
    """Leave the tree of a configuration half restored; files are counted in the order of their paths."""
    command = [sys.executable, "-c", _KILLED, str(number), "--config", str(config)]
    done = subprocess.run(command, env=env, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr


def _build(root: Path) -> None:
    (root / "results" / "deep").mkdir(parents=True)
    (root / "logs").mkdir()
    (root / ".env").write_text("KEY=old\n")
    (root / ".env").chmod(0o600)
    (root / "results" / "deep" / "a.json").write_text("{}")
    (root / "results" / "last").symlink_to("deep/a.json")
    (root / "results" / "locked").mkdir(mode=0o500)
    (root / "logs" / "kept.log").write_text("the same")
    (root / "logs" / "gone.log").write_text("gone")
    (root / "docker-compose.yml").write_text("services: {}\n")


def _spoil(root: Path) -> None:
    (root / ".env").write_text("KEY=new, and longer\n")
    (root / ".env").chmod(0o640)
    (root / "logs" / "gone.log").unlink()
    (root / "logs" / "other.log").write_text("not in the backup")
    (root / "logs").chmod(0o700)
    (root / "docker-compose.yml").unlink()
    (root / "docker-compose.yml").symlink_to("logs/other.log")
    shutil.rmtree(root / "results")


def _arm(fault: str, point: int, fired: int) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event not in _EVENTS and not (event == "open" and int(str(arguments[2] or 0)) & _WRITING):
            return
        seen += 1
        if seen != point:
            return
        os.write(fired, b"x")
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        if fault == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if fault == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)

    sys.addaudithook(hook)


def _run(arguments: list[str], fault: str = "", point: int = 0) -> tuple[int, bool]:
    """The exit status (negative for a signal) of the command in a process of its own, and whether it hit."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        out = os.open(os.devnull, os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if fault:
            _arm(fault, point, writes)
        os._exit(status(arguments))
    os.close(writes)
    hit = os.read(reads, 1) == b"x"
    os.close(reads)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), hit


def main(fault: str, then: str, base: Path) -> None:
    root, archives, others = base / "root", base / "archives", base / "others"
    root.mkdir()
    others.mkdir()
    config = (root if fault == "moved" else base) / "opskit.yaml"
    text = f"state_dir: {base / 'state'}\nbackup: {{root: {root}, folder: {archives}}}\n"
    config.write_text(text)
    given = ["--config", str(config)]
    _build(root)
    after = snapshot(root)
    with contextlib.redirect_stdout(io.StringIO()):
        # In this process, so that its children find every module loaded.
        assert status(["backup", "create", *given]) == 0
        assert status(["backup", "restore", "latest", *given]) == 0
    _spoil(root)
    if fault == "moved":
        config.write_text(text.replace(str(archives), str(others)))
    wanted = str(next(archives.glob("backup_*")))
    before = snapshot(root)
    after = after | {"logs/other.log": before["logs/other.log"]}
    pristine = base / "pristine"
    for one in (root, archives, others):
        shutil.copytree(one, pristine / one.name, symlinks=True)
    twice = fault == "twice"
    point, second, hit = (2, 0, True) if twice else (0, 0, True)
    while hit:
        point, second = (point, second + 1) if twice else (point + 1, 0)
        for one in (root, archives, others):
            shutil.rmtree(one)
            shutil.copytree(pristine / one.name, one, symlinks=True)
        exited, hit = _run(
            ["backup", "restore", wanted, "--yes", *given],
            "kill" if fault in ("twice", "moved") else fault,
            point,
        )
        between = _state(root, before, after)
        interrupted = not twice and _is_interrupted(config)
        if twice and hit and not _run([*then.split(), *given], "kill", second)[1]:
            point, second = point + 5, 0
        next_exit, _ = _run([*then.split(), *given])
        leftovers = [
            str(one)
            for one in (*root.rglob(".opskit-*"), *archives.glob(".*"), *others.glob(".*"))
            if one.name != ".lock"
        ]
        print(
            json.dumps(
                {
                    "point": point,
                    "hit": hit,
                    "exit": exited,
                    "between": between,
                    "interrupted": interrupted,
                    "next": next_exit,
                    "finally": _state(root, before, after),
                    "leftovers": leftovers,
                }
            )
        )


def _is_interrupted(config: Path) -> bool:
    """What `recover`, `status` and `doctor` read, by the configuration as it is now."""
    folders = backup_folders(load(str(config), environ=os.environ, cwd=config.parent).config)
    return any(restore.is_interrupted for restore in unfinished_restores(folders))


def _state(root: Path, before: object, after: object) -> str:
    now = snapshot(root)
    now.pop(".opskit-restore.tmp", None)  # half of a pointer says that nothing was begun
    return "before" if now == before else "after" if now == after else "mixed"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
