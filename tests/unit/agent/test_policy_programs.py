"""A program is what its name or path leads to: links, versions, multi-call programs, and who put it there."""

import shutil
from pathlib import Path

import pytest

from opskit.agent.policy.decide import decide
from tests.parts.policy import SYSTEM_PATH, rules, workspace


@pytest.fixture
def place(tmp_path):
    return workspace(tmp_path / "workspace")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of programs that only its owner may write in."""
    (tmp_path / "bin").mkdir(mode=0o755)
    return tmp_path / "bin"


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
    return path


def decided(line: str, place: Path, path: object):
    return decide(line.split(), place, rules(f"{path}:{SYSTEM_PATH}"))


@pytest.mark.parametrize(
    ("target", "rule"),
    [("python3.11", "interpreter"), ("vim.basic", "pager"), ("mawk", "interpreter"), ("bash", "shell")],
)
def test_a_harmless_name_that_leads_to_a_denied_program_is_denied(target, rule, place, folder):
    """`ls` that is a link to python3.11 is python."""
    (folder / "ls").symlink_to(program(folder / target))
    decision = decided("ls app.log", place, folder)
    assert (decision.ruling, decision.rule) == ("deny", f"deny.{rule}")


def test_every_link_on_the_way_counts(place, folder):
    """ls -> alternatives -> less -> viewer: the name in the middle is denied."""
    program(folder / "viewer")
    (folder / "less").symlink_to("viewer")
    (folder / "alternative").symlink_to("less")
    (folder / "ls").symlink_to("alternative")
    assert decided("ls", place, folder).rule == "deny.pager"


def test_a_link_to_another_program_asks(place, folder):
    """`pkill`, a link to `pgrep`, does what its name says; a harmless name of something unknown asks."""
    (folder / "pkill").symlink_to("/usr/bin/pgrep")
    assert decided("pkill x", place, folder).ruling == "ask"
    (folder / "cat").symlink_to(program(folder / "unknown"))
    decision = decided("cat app.log", place, folder)
    assert (decision.ruling, decision.rule) == ("ask", "ask.other-program")


def test_a_path_is_the_program_that_path_lookup_finds_or_it_asks(place, folder):
    """/bin/ls is ls; another file that is called ls is not."""
    assert decide(["/bin/ls"], place, rules()).ruling == "allow"
    decision = decide([str(program(folder / "ls"))], place, rules())
    assert (decision.ruling, decision.rule) == ("ask", "ask.other-program")


def test_links_to_busybox_are_its_applets(place, folder):
    """With a real busybox `ls` is allowed, `awk` and `sh` are denied, by a link and as a first argument."""
    busybox = folder / "busybox"
    shutil.copy(shutil.which("busybox"), busybox)
    for name in ("ls", "awk", "sh", "find"):
        (folder / name).symlink_to("busybox")
    assert decided("ls -l", place, folder).ruling == "allow"
    assert decided("ls -l", place, folder).program == str(folder / "ls")
    assert decided("busybox ls -l", place, folder).ruling == "allow"
    assert decided("awk x", place, folder).rule == "deny.interpreter"
    assert decided("sh", place, folder).rule == "deny.shell"
    assert decided(f"{busybox} sh", place, folder).rule == "deny.shell"
    assert decided("find . -exec id ;", place, folder).rule == "deny.find.-exec"
    assert decided("busybox busybox env", place, folder).rule == "deny.wrapper"


def test_a_program_of_the_workspace_is_denied(place, folder):
    """By its path, by PATH, and by a link from another folder."""
    assert decided("./ls", place, folder).rule == "deny.program-in-workspace"
    assert decided(f"{place}/ls", place, folder).rule == "deny.program-in-workspace"
    assert decided("ls", place, place).rule == "deny.program-in-workspace"
    (folder / "ls").symlink_to(place / "ls")
    assert decided("ls", place, folder).rule == "deny.program-in-workspace"


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_program_where_everybody_may_write_is_denied(mode, place, folder):
    """In such a folder, and below one that is not sticky, somebody else may have put it there."""
    program(folder / "ls")
    folder.chmod(mode)
    assert decided("ls", place, folder).rule == "deny.program-in-open-folder"
    (folder / "inner").mkdir()
    program(folder / "inner" / "ls")
    expected = "deny" if mode == 0o777 else "allow"
    assert decided("ls", place, folder / "inner").ruling == expected


def test_a_program_that_everybody_may_write_is_denied(place, folder):
    """Its folder is safe, the file is not."""
    program(folder / "ls").chmod(0o777)
    assert decided("ls", place, folder).rule == "deny.program-in-open-folder"


def test_relative_folders_of_path_are_not_searched(place, folder, monkeypatch):
    """`.` and an empty entry of PATH would find what lies in the working folder."""
    monkeypatch.chdir(place)
    assert decide(["ls"], place, rules(f".::{SYSTEM_PATH}")).program in ("/usr/bin/ls", "/bin/ls")


def test_a_repository_with_settings_that_run_programs_asks(place):
    """Git only reads in a plain repository; filters, monitors, includes and links make it ask."""
    git = place / ".git"
    git.mkdir()
    config = git / "config"
    plain = '[core]\n\tbare = false\n# text\n[remote "origin"]\n\turl = https://x/y\n'
    config.write_text(plain)
    assert decide(["git", "status"], place, rules()).ruling == "allow"
    for setting in (
        "[core]\n\tfsmonitor = ./x\n",
        "[core] fsmonitor = ./x\n",
        "[CORE]\n\tFsMonitor = ./x\n",
        '[filter "x"]\n\tclean = ./x\n',
        '[diff "x"]\n\ttextconv = ./x\n',
        "[diff]\n\texternal = ./x\n",
        "[include]\n\tpath = ../x\n",
        "[core]\n\tbare = \\\n false\n",
        "[core]\n\tworktree = /etc\n",
        "[extensions]\n\tworktreeConfig = true\n",
        "[alias]\n\tlog = !id\n",
        "[gpg]\n\tprogram = ./x\n",
    ):
        config.write_text(plain + setting)
        assert decide(["git", "status"], place, rules()).rule == "ask.repository", setting
    config.write_text(plain)
    for index in (b"", b"DIRC", b"DIRC\0\0\0\4\0\0\0\0" + b"x" * 20, b"DIRC\0\0\0\2\0\0\0\3", b"x" * 100):
        (git / "index").write_bytes(index)
        assert decide(["git", "status"], place, rules()).rule == "ask.repository", index
    (git / "index").unlink()
    (git / "config.worktree").write_text("")
    assert decide(["git", "log"], place, rules()).rule == "ask.repository"
    shutil.rmtree(git)
    git.write_text("gitdir: /elsewhere\n")
    assert decide(["git", "log"], place, rules()).rule == "ask.repository"
    git.unlink()
    (place / "HEAD").write_text("ref: x\n")
    (place / "objects").mkdir()
    assert decide(["git", "log"], place, rules()).rule == "ask.repository"


def test_a_nested_repository_is_judged_by_its_own_settings(place):
    """`git -C logs` uses the repository of that folder."""
    (place / "logs" / ".git").mkdir()
    (place / "logs" / ".git" / "config").write_text("[core]\n\tfsmonitor = ./x\n")
    assert decide(["git", "status"], place, rules()).ruling == "allow"
    assert decide(["git", "-C", "logs", "status"], place, rules()).rule == "ask.repository"


@pytest.mark.parametrize(
    "word", ["/proc/self/cwd/../../x", "/proc/thread-self/cwd/x", "/dev/fd/{file}", "link/../x", "again/x"]
)
def test_a_path_that_means_something_else_in_the_child_asks(word, place, folder, monkeypatch):
    """A link of /proc leads into the workspace from here, and out of it from the folder of the command."""
    inner = place / "a" / "b"
    inner.mkdir(parents=True)
    (place / "link").symlink_to("/proc/self/cwd")
    (place / "again").symlink_to("link")
    monkeypatch.chdir(inner)
    with (place / "app.log").open() as file:
        decision = decide(["cat", word.format(file=file.fileno())], place, rules())
    assert decision.rule == "ask.outside-workspace"
