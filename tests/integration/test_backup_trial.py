"""One table of what goes wrong with a restore: the tree is as it was, and a person reads what to type."""

import gzip
import json
import lzma
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from opskit.cli.main import status
from tests.parts.backup_faults import killed_at
from tests.parts.backups import entries, entry, file, folder, forged, link, manifest, snapshot
from tests.parts.command import environment

REPOSITORY = Path(__file__).parents[2]
LINK, HARD_LINK, DEVICE, FIFO = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE


class Home:
    """A stack with one backup, after which a file was spoiled and one was lost."""

    def __init__(self, base: Path) -> None:
        self.root, self.archives, self.config = base / "root", base / "archives", base / "opskit.yaml"
        self.root.mkdir()
        self.config.write_text(
            json.dumps(
                {
                    "state_dir": str(base / "state"),
                    "backup": {"root": str(self.root), "folder": str(self.archives)},
                }
            )
        )
        for name in (".env", "compose.yml", "docker-compose.yml"):
            (self.root / name).write_text("old\n")
        self.after = snapshot(self.root)
        assert self.run("create") == 0
        (self.root / ".env").write_text("new\n")
        (self.root / "compose.yml").unlink()
        (self.root / "docker-compose.yml").write_text("new\n")
        self.before = snapshot(self.root)

    def run(self, *arguments: str) -> int:
        return status(["backup", *arguments, "--config", str(self.config)])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def plain(tar: bytes) -> Callable[[Path, str], None]:
    """A tar.gz as other programs write it."""
    return lambda path, root: path.write_bytes(gzip.compress(tar + bytes(1024))) and None


def listed(*members: object) -> Callable[[Path, str], None]:
    """An archive whose manifest agrees with its tar."""
    return lambda path, root: forged(path, manifest(members, root), entries(members)) and None


def zipped(path: Path, root: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(".env", "x")


REFUSED: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "absolute": (plain(entry("/etc/cron.d/x", b"x")), "absolute"),
    "climbs": (plain(entry("../x", b"x")), "leaves the folder"),
    "climbs inside": (plain(entry("a/../../x", b"x")), "leaves the folder"),
    "absolute link": (plain(entry("l", kind=LINK, target="/etc") + entry("l/x", b"x")), "absolute link"),
    "link out": (plain(entry("l", kind=LINK, target="..") + entry("l/x", b"x")), "leads out"),
    "below a link": (plain(entry("l", kind=LINK, target="a") + entry("l/x", b"x")), "below the link"),
    "hard link": (plain(entry("a", kind=HARD_LINK, target=".env")), "hard link"),
    "device": (plain(entry("a", kind=DEVICE)), "device"),
    "FIFO": (plain(entry("a", kind=FIFO)), "FIFO"),
    "twice": (plain(entry("a", b"1") + entry("./a", b"2")), "twice"),
    "control": (plain(entry("a\rb", b"1")), "control"),
    "trace": (plain(entry(".opskit-restore-1.new", b"x")), "left over"),
    "listed absolute": (listed(file("/tmp/x")), "absolute"),
    "listed climbs": (listed(file("../x")), "leaves the folder"),
    "listed chain": (listed(folder("d"), link("d/l", ".."), link("m", "d/l/..")), "`..` behind a name"),
    "listed setuid": (listed(file("a", mode=0o4755)), "setuid"),
    "listed deep": (listed(file("/".join("d" * 102))), "folders deep"),
    "listed long": (listed(file("n" * 300)), "longer than"),
    "zip": (zipped, "it is no backup"),
    "xz": (lambda path, root: path.write_bytes(lzma.compress(bytes(9))) and None, "it is no backup"),
    "text": (lambda path, root: path.write_text("<html>") and None, "it is no backup"),
    "a bare tar": (lambda path, root: path.write_bytes(entry("a", b"1")) and None, "it is no backup"),
    "empty": (lambda path, root: path.write_bytes(b"") and None, "cut off"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_hostile_or_foreign_is_refused_and_changes_nothing(
    home: Home, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`verify` and `restore` exit 1 with the reason, and neither sends anybody to an older backup."""
    write, reason = REFUSED[case]
    path = home.archives / "backup_2099-01-01.tar.gz"
    write(path, str(home.root))
    for arguments in (("verify", "2099"), ("restore", "2099", "--yes"), ("restore", "latest", "--yes")):
        assert home.run(*arguments) == 1
        shown = "".join(capsys.readouterr())
        assert reason in shown.replace("\n", " ")
        assert " older" not in shown
    assert snapshot(home.root) == home.before
    assert not list(home.archives.glob("replaced_*"))


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_backup_is_refused_and_changes_nothing(home: Home, damage: str) -> None:
    """One bit of its content, or its end."""
    (path,) = home.archives.glob("backup_*")
    whole = bytearray(path.read_bytes())
    whole[-60] ^= 1
    path.write_bytes(whole if damage == "flipped" else whole[:-20])
    assert home.run("verify") == home.run("restore", "latest", "--yes") == 1
    assert snapshot(home.root) == home.before


@pytest.mark.parametrize("way", ["list", "restore --rollback", "restore --resume"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_killed_restore_ends_one_way_or_the_other(home: Home, number: int, way: str) -> None:
    """Killed before each file gets its place: all is as it was, or all is restored."""
    killed_at(number, home.config, environment(home.root.parent / "user"))
    assert home.run(*way.split()) == 0
    wanted = home.after if way.endswith("resume") else home.before
    assert snapshot(home.root) == wanted


def test_a_setuid_file_of_a_plain_archive_is_restored_without_its_bit_and_told(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan says so before anybody agrees."""
    plain(entry("tool", b"x", mode=0o4755))(home.archives / "backup_2099-01-01.tar.gz", "")
    assert home.run("restore", "2099", "--yes") == 0
    assert "tool (it will not be setuid)" in capsys.readouterr().out
    assert stat.S_IMODE((home.root / "tool").stat().st_mode) == 0o755


_AS_NOBODY = """
import io, os, sys, contextlib
from opskit.cli.main import status
with contextlib.redirect_stdout(io.StringIO()):
    status(["backup", "restore", "latest", "--dry-run", *sys.argv[1:]])  # to import what nobody may not read
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.exit(status(["backup", "restore", "latest", "--yes", *sys.argv[1:]]))
"""


def test_a_target_that_may_not_be_written_is_left_as_it_was() -> None:
    """The file system's own refusal: exit 1 with its words, the old files, and nothing beside them."""
    with tempfile.TemporaryDirectory() as base:
        home = Home(Path(base))
        (home.root / ".env").chmod(0o666)
        home.before = snapshot(home.root)
        for path in (Path(base), home.archives):
            path.chmod(0o777)
        for path in (home.config, *home.archives.iterdir()):
            path.chmod(0o666)
        home.root.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, "--config", str(home.config)],
            cwd=REPOSITORY,
            env={**os.environ, "HOME": base},
            capture_output=True,
            text=True,
            timeout=60,
        )
        home.root.chmod(0o755)
        assert (done.returncode, "Permission denied" in done.stderr) == (1, True), done.stderr
        assert snapshot(home.root) == home.before
        assert not list(home.archives.glob("replaced_*"))
