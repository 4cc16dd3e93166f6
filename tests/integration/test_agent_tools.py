"""The agent's tools on real files, real programs, a real bubblewrap and a real SSH server."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from opskit.agent.policy.decide import decide
from opskit.agent.tools.terminal import command_words
from opskit.agent.tools.tool import NeedsApproval
from opskit.config.schema import PolicyConfig, ToolLimits
from opskit.records import replace
from tests.parts.agent_tools import tools
from tests.parts.loopback import until
from tests.parts.policy import rules
from tests.parts.sshd import sshd

RULES = rules()
LIMITS = ToolLimits(timeout_s=20, output_bytes=2000, entries=50)
#: Programs of tests are put here and allowed by a rule, as a person would.
SCRIPT = "#!/bin/sh\n{}\n"


@pytest.fixture
def box(tmp_path):
    return tools(tmp_path, tools=LIMITS)


def scripted(tmp_path: Path, text: str, **settings):
    """Tools whose person allows the program `probe-script ...`, which runs `text`."""
    folder = tmp_path / "bin"
    folder.mkdir(mode=0o755, exist_ok=True)
    script = folder / "probe-script"
    script.write_text(SCRIPT.format(text))
    script.chmod(0o755)
    environ = {"PATH": f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin", **settings.pop("environ", {})}
    limits = settings.pop("tools", LIMITS)
    return tools(
        tmp_path, environ, tools=limits, policy=PolicyConfig(allow=("probe-script ...",)), **settings
    )


async def test_a_file_of_the_workspace_is_read(box):
    """By its path, by a link inside, and by its absolute path."""
    for path in ("app.log", "to-log", "logs/../app.log", str(box.place / "app.log")):
        result = await box("read_file", path=path)
        assert (result.ok, result.text, result.truncated) == (True, "first\nlast\n", False)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x",
        "to-passwd",
        "to-etc/hostname",
        "to-etc",
        "logs/../../x",
        "~/x",
        "/",
        "..",
        "a\nb",
        "a\0b",
    ],
)
async def test_nothing_outside_is_read_or_listed(box, path):
    """Neither by a path nor by a link; no approval can change that."""
    for tool in ("read_file", "list_directory"):
        result = await box(tool, path=path, approved=(tool, path))
        assert not result.ok
        assert "refused" in result.text
        assert "root:" not in result.text


async def test_without_a_workspace_every_file_is_refused(tmp_path):
    """Unset is nothing, never everything."""
    box = tools(tmp_path, workspace=None)
    for path in ("/etc/passwd", "etc/passwd", ".", "app.log"):
        assert "no-workspace" in (await box("read_file", path=path)).text
        assert "no-workspace" in (await box("list_directory", path=path)).text


async def test_a_secret_needs_the_word_of_a_person(box):
    """Exactly this path is read after the approval, and no other."""
    with pytest.raises(NeedsApproval) as caught:
        await box("read_file", path="notes")
    assert (caught.value.argv, caught.value.rule) == (("read_file", "notes"), "ask.secret")
    assert (await box("read_file", path="notes", approved=caught.value.argv)).text == "key"
    with pytest.raises(NeedsApproval):
        await box("read_file", path="secrets-of-app/.env", approved=caught.value.argv)


async def test_what_is_no_file_is_refused_at_once(box):
    """A FIFO, a socket and a device are never opened; a folder says what to use."""
    import socket

    os.mkfifo(box.place / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(box.place / "socket"))
        for path in ("pipe", "socket"):
            assert "neither a file nor a folder" in (await box("read_file", path=path)).text
    assert "list_directory" in (await box("read_file", path="logs")).text
    assert not (await box("read_file", path="missing")).ok


async def test_a_large_file_is_shown_by_both_ends(box):
    """So is a line of a megabyte; a binary file is named as one."""
    (box.place / "big.log").write_text("BEGIN\n" + "x" * 5_000_000 + "\nEND\n")
    result = await box("read_file", path="big.log")
    assert result.truncated
    assert result.text.startswith("BEGIN")
    assert result.text.endswith("END\n")
    assert "bytes left out" in result.text
    assert len(result.text) < 2100
    (box.place / "image").write_bytes(b"\x89PNG\0\0" * 100)
    assert "binary file of 600 bytes" in (await box("read_file", path="image")).text


async def test_lines_of_a_file_are_counted_and_found(box):
    """Those with a text, whatever its capitals, else those of errors; the same walls as for reading."""
    (box.place / "x.log").write_text("a INFO start\nb ERROR timeout, Timeout\nc INFO timeout\n")
    result = await box("search_file", path="x.log", pattern="TIMEOUT")
    assert result.text.splitlines()[0] == "x.log: 2 of 3 lines contain 'TIMEOUT'"
    assert result.lines == ((2, "b ERROR timeout, Timeout"), (3, "c INFO timeout"))
    assert (result.evidence["lines"], result.evidence["times"]) == (3, 3)
    errors = await box("search_file", path="x.log")
    assert (errors.lines, errors.evidence["levels"]) == (result.lines[:1], {"info": 2, "error": 1})
    assert "outside" in (await box("search_file", path="to-passwd", pattern="root")).text
    assert not (await box("search_file", path="logs")).ok


async def test_only_the_end_of_a_huge_file_is_searched(box):
    """And that is said: its count is no answer."""
    with (box.place / "huge.log").open("wb") as file:
        file.write(b"ERROR first\n" + b"x" * (16 * 1024 * 1024) + b"\nERROR last\n")
    result = await box("search_file", path="huge.log")
    assert [line for _, line in result.lines] == ["ERROR last"]
    assert result.truncated
    assert "only the last" in result.text


async def test_a_bare_name_stands_for_the_one_file_that_is_called_so(box):
    """Two files of a name are not told apart, and a secret asks as under its path."""
    assert (await box("read_file", path="app.log")).text == "first\nlast\n"
    (box.place / "logs" / "only.log").write_text("here\n")
    assert (await box("read_file", path="only.log")).text == "here\n"
    (box.place / "logs" / "twice").write_text("1")
    (box.place / "secrets-of-app" / "twice").write_text("2")
    assert not (await box("read_file", path="twice")).ok
    with pytest.raises(NeedsApproval):
        await box("read_file", path=".env")


async def test_lines_that_are_quoted_are_masked_as_the_text_is(tmp_path):
    """A secret is in neither."""
    box = tools(tmp_path, {"OPENAI_API_KEY": "sk-verysecretvalue123456"})
    (box.place / "x.txt").write_text("a\nkey sk-verysecretvalue123456\n")
    result = await box("read_file", path="x.txt")
    assert "verysecret" not in result.text + str(result.lines)
    assert result.lines[0] == (1, "a")


async def test_a_folder_is_listed_up_to_a_bound(box):
    """Kind, size and name; what has characters of a terminal in its name is shown without them."""
    (box.place / "a\x1b[31mred\n").write_text("")
    text = (await box("list_directory", path=".")).text
    assert "link " in text
    assert "\x1b" not in text
    assert "a?[31mred?" in text
    for number in range(120):
        (box.place / "logs" / f"{number}.log").write_text("")
    result = await box("list_directory", path="logs")
    assert result.truncated
    assert "[... 71 entries left out ...]" in result.text


async def test_a_link_that_comes_while_a_file_is_opened_is_not_followed(box):
    """A folder and a file that are swapped with links all the time never show what lies outside."""
    outside = box.folder / "outside"
    outside.mkdir()
    (outside / "file.txt").write_text("OUTSIDE")
    inside = box.place / "swapped"
    inside.mkdir()
    (inside / "file.txt").write_text("INSIDE")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            inside.rename(box.place / "real")
            inside.symlink_to(outside)
            inside.unlink()
            (box.place / "real").rename(inside)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        texts: list[str] = []
        ends = time.monotonic() + 20
        while time.monotonic() < ends and not (len(texts) >= 300 and "INSIDE" in texts):
            texts.append((await box("read_file", path="swapped/file.txt")).text)
            assert decide(["cat", "swapped/file.txt"], box.place, RULES).ruling in ("allow", "ask")
    finally:
        stop.set()
        swapper.join()
    assert "INSIDE" in texts
    assert not any("OUTSIDE" in text for text in texts)


async def test_a_command_runs_in_the_workspace(box):
    """Its output and its exit status are what the model reads."""
    result = await box.run("cat app.log")
    assert (result.ok, result.text) == (True, "exit 0\nfirst\nlast")
    failed = await box.run("ls missing")
    assert not failed.ok
    assert failed.text.startswith("exit 2\n[stderr]\n")


async def test_a_denied_command_is_not_run(box):
    """The text after it is fixed, names the rule, and an approval changes nothing."""
    argv = ("find", ".", "-name", "app.log", "-delete")
    result = await box.run(list(argv), approved=argv)
    assert result.text == (
        "The host refused this: -delete of find can run another program, write or delete "
        "(rule deny.find.-delete). It was not run. Use other evidence, or finish."
    )
    assert (box.place / "app.log").exists()


async def test_an_approval_holds_for_exactly_one_command(box):
    """The workspace is writable then; other words are asked about again."""
    with pytest.raises(NeedsApproval) as caught:
        await box.run("touch made")
    assert caught.value.argv == ("touch", "made")
    assert not (box.place / "made").exists()
    assert (await box.run("touch made", approved=caught.value.argv)).ok
    assert (box.place / "made").exists()
    with pytest.raises(NeedsApproval):
        await box.run("touch other", approved=caught.value.argv)


async def test_secrets_of_the_server_reach_neither_child_nor_model(tmp_path):
    """The environment of a child is an allow-list, and what a program prints is masked."""
    environ = {"OPENAI_API_KEY": "sk-verysecretvalue123456", "LD_PRELOAD": "/x.so", "GIT_EXTERNAL_DIFF": "/x"}
    box = scripted(tmp_path, "/usr/bin/env; echo sk-verysecretvalue123456", environ=environ)
    text = (await box.run("probe-script")).text
    assert "verysecret" not in text
    for name in ("OPENAI_API_KEY", "LD_PRELOAD", "GIT_EXTERNAL_DIFF"):
        assert f"{name}=" not in text
    assert "PAGER=cat" in text


async def test_standard_input_is_empty(tmp_path):
    """A program that asks a person gets an end of file at once, and there is no terminal."""
    box = scripted(tmp_path, "cat; test -t 0 || echo no terminal; (: </dev/tty) 2>/dev/null || echo no tty")
    assert (await box.run("probe-script")).text == "exit 0\nno terminal\nno tty"


@pytest.mark.parametrize("sandbox", ["off", "auto"])
async def test_a_deadline_kills_all_that_a_command_started(tmp_path, sandbox):
    """What it printed until then is kept."""
    seconds = f"1000.{os.getpid()}{len(sandbox)}"
    box = scripted(
        tmp_path,
        f"echo begun; (sleep {seconds} & sleep {seconds}); wait",
        sandbox=sandbox,
        tools=replace(LIMITS, timeout_s=1.0),
    )
    began = time.monotonic()
    result = await box.run("probe-script")
    assert time.monotonic() - began < 10
    assert result.text == "killed after 1 s, with everything it started\nbegun"
    assert result.evidence["timed_out"]
    await until(lambda: not _runs(seconds))


async def test_output_without_end_is_cut_and_costs_no_memory(tmp_path):
    """Beginning and end are kept, and the program is not blocked."""
    box = scripted(tmp_path, "echo BEGIN; head -c 200000000 /dev/zero | tr '\\0' 'x'; echo; echo END")
    result = await box.run("probe-script")
    assert result.ok
    assert result.truncated
    assert "BEGIN" in result.text
    assert result.text.endswith("END")
    assert len(result.text) < 2200


async def test_a_sandboxed_command_can_write_nothing_and_reach_nobody(box):
    """Under a real bubblewrap: a read-only root, no network, no socket of a daemon."""
    assert shutil.which("bwrap")
    (box.place / ".git").mkdir()
    script = "touch /etc/x 2>&1; touch made 2>&1; ls /run /tmp; cat /proc/net/dev | tail -n +3 | cut -d: -f1"
    command = box.box.tools["run_terminal_cmd"]._child._sandboxed(
        ["/bin/sh", "-c", script], network=False, writes=False
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.stdout.count("Read-only file system") == 2
    assert not (box.place / "made").exists()
    assert done.stdout.split()[-1] == "lo"
    assert "docker.sock" not in done.stdout


async def test_a_required_sandbox_that_is_missing_runs_nothing(tmp_path):
    """It fails closed; `auto` runs and says so once."""
    (tmp_path / "bin").mkdir(mode=0o755)
    for name in ("cat", "ls"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    path = {"PATH": str(tmp_path / "bin")}
    required = tools(tmp_path, path, sandbox="required")
    assert "required" in (await required.run("ls")).text
    result = await required.run("cat app.log")
    assert "`agent.sandbox` is `required`" in result.text
    assert "first" not in result.text
    auto = tools(tmp_path, path, sandbox="auto")
    assert (await auto.run("cat app.log")).ok
    assert (await auto.run("cat b.log")).ok
    assert auto.notes == ["commands run without a sandbox: bubblewrap (`bwrap`) is not installed"]


async def test_a_sandbox_that_does_not_work_is_told_from_one_that_is_missing(tmp_path):
    """A bubblewrap that the kernel refuses is named with its own words."""
    (tmp_path / "bin").mkdir(mode=0o755)
    (tmp_path / "bin" / "bwrap").write_text("#!/bin/sh\necho no namespaces >&2; exit 1\n")
    (tmp_path / "bin" / "bwrap").chmod(0o755)
    box = tools(tmp_path, {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
    assert (await box.run("cat app.log")).ok
    assert box.notes == ["commands run without a sandbox: bubblewrap does not work here: no namespaces"]


async def test_every_call_leaves_lines_in_the_audit(box):
    """What was asked, what was decided, how it ended; also a refusal, a question and nonsense."""
    await box.run("cat app.log")
    await box.run("env x")
    with pytest.raises(NeedsApproval):
        await box.run("rm -rf .")
    await box("no_such_tool")
    await box("finish", answer="done")
    assert [line["event"] for line in box.audit] == ["tool_begins", "tool_ended"] * 5
    ended = [line for line in box.audit if line["event"] == "tool_ended"]
    assert [line["ended"] for line in ended] == ["result", "result", "needs_approval", "result", "result"]
    assert [line.get("rule") for line in ended[:3]] == ["allow.cat", "deny.wrapper", "ask.unknown-program"]
    assert ended[2]["argv"] == ["rm", "-rf", "."]


async def test_a_call_that_is_cut_off_is_in_the_audit(tmp_path):
    """Cancelled in the middle, the call ends there too."""
    box = scripted(tmp_path, "sleep 1000", sandbox="off")
    task = asyncio.create_task(box.run("probe-script"))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert box.audit[-1]["ended"] == "cut_off"


async def test_wrong_arguments_are_a_result_that_says_what_is_right(box):
    """A model that errs gets words that help, and nothing is run."""
    assert (
        "there are: read_file, search_file, list_directory, run_terminal_cmd, finish"
        in (await box("sh", x=1)).text
    )
    assert "path: Missing" in (await box("read_file")).text or "path" in (await box("read_file")).text
    for arguments in ({"path": 3}, {"path": ""}, {"path": "x" * 5000}, {"path": "x", "y": 1}):
        result = await box("read_file", **arguments)
        assert "arguments of read_file are wrong" in result.text
    assert "wrong" in (await box("read_file", path="x" * 1_000_000)).text
    assert len(max((json.dumps(line) for line in box.audit), key=len)) < 10_000
    assert not (await box.run([])).ok
    assert not (await box.run("")).ok


def test_every_text_of_the_schemas_is_bounded(box):
    """A grammar made of them ends."""

    def texts(schema):
        if isinstance(schema, dict):
            if schema.get("type") == "string":
                yield schema
            for value in schema.values():
                yield from texts(value)

    schemas = box.box.schemas()
    assert [schema["name"] for schema in schemas] == [
        "read_file",
        "search_file",
        "list_directory",
        "run_terminal_cmd",
        "finish",
    ]
    for schema in schemas:
        parameters = list(texts(schema["parameters"]))
        assert parameters
        assert all(text["maxLength"] <= 20_000 for text in parameters)


@pytest.mark.parametrize(
    "text",
    [
        "ls | wc", "ls; id", "ls && id", "ls & id", "cat < x", "ls > x", "echo `id`", "echo $(id)",
        "echo $HOME", 'echo "$HOME"', 'echo "`id`"', "ls *.log", "ls a?", "(id)", "ls\nid",
        "cat 'x", "ls [a]",
    ],
)  # fmt: skip
def test_what_only_a_shell_understands_is_refused(text):
    """There is no shell, and nothing is passed on as if there were one."""
    with pytest.raises(ValueError, match=r"shell|quote"):
        command_words(text)


def test_quoted_words_are_taken_as_they_are():
    """Quotes and backslashes make one word of what a shell would obey."""
    assert command_words("grep 'a|b;c$d' app.log") == ("grep", "a|b;c$d", "app.log")
    assert command_words(r"find . \( -name '*.log' \)") == ("find", ".", "(", "-name", "*.log", ")")
    assert command_words('grep "a|b" x') == ("grep", "a|b", "x")
    assert command_words(["ls", "a b"]) == ("ls", "a b")


async def test_git_runs_nothing_of_a_hostile_repository(box):
    """Neither its hooks nor its monitor nor its filters, nor those of a repository inside it, are run."""
    place, canary = box.place, box.folder / "canary"
    evil = box.folder / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {canary}\n")
    evil.chmod(0o755)

    def git(*words: str, at: Path = place) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@y")
        subprocess.run(["git", *identity, *words], cwd=at, check=True, capture_output=True)

    git("init", "-q", ".")
    git("add", "app.log")
    git("commit", "-q", "-m", "x")
    for name in ("post-index-change", "pre-commit"):
        shutil.copy(evil, place / ".git" / "hooks" / name)
    box = tools(box.folder, sandbox="off")
    commands = ("git status", "git diff", "git log -p", "git show", "git branch -a")
    for command in commands:
        os.utime(place / "app.log", (1, 1))
        result = await box.run(command)
        assert result.ok, result.text
        assert not canary.exists(), command
    git("init", "-q", "sub")
    git("commit", "-q", "--allow-empty", "-m", "x", at=place / "sub")
    git("add", "sub")
    git("config", "core.fsmonitor", str(evil), at=place / "sub")
    with pytest.raises(NeedsApproval, match="submodules"):
        await box.run("git status")
    git("update-index", "--force-remove", "sub")
    canary.unlink(missing_ok=True)
    assert (await box.run("git status")).ok
    git("config", "filter.x.clean", str(evil))
    for command in commands:
        with pytest.raises(NeedsApproval, match=r"setting clean"):
            await box.run(command)
    assert not canary.exists()


@pytest.fixture(scope="module")
def ssh_config(tmp_path_factory):
    with sshd(tmp_path_factory.mktemp("ssh") / "sshd") as config:
        yield config


@pytest.fixture
def remote(tmp_path, ssh_config):
    return tools(tmp_path, ssh_hosts=("box", "stranger"), ssh_config=str(ssh_config), tools=LIMITS)


async def test_a_command_runs_on_a_configured_host(remote):
    """Through a real SSH server, by the same rules, with every word as it was written."""
    result = await remote("ssh_run", host="box", command="uname -s")
    assert (result.ok, result.text) == (True, "exit 0\nLinux")
    assert (
        await remote("ssh_run", host="box", command=["date", "+a b;id $HOME"])
    ).text == "exit 0\na b;id $HOME"
    assert result.evidence["argv"] == ["ssh", "box", "uname", "-s"]


async def test_other_hosts_and_denied_commands_are_refused(remote):
    """Before anything is connected."""
    for host in ("127.0.0.1", "box.example", "-oProxyCommand=id", "box -v", "root@box"):
        assert "deny.host" in (await remote("ssh_run", host=host, command="uptime")).text
    for command in ("env id", "sh -c id", "find . -exec id \\;", "python3 -c 1", "sudo id"):
        assert "refused" in (await remote("ssh_run", host="box", command=command)).text


@pytest.mark.parametrize(
    "argv",
    [
        ["cat", "/etc/passwd"], ["cat", "app.log"], ["ls"], ["git", "status"], ["grep", "x", "../y"],
        ["docker", "logs", "a", "--since=/etc"], ["/bin/uptime"], ["date", "+it's"], ["date", "+\\"],
        ["date", "+!x"], ["systemctl", "restart", "x"],
    ],
)  # fmt: skip
async def test_on_another_machine_files_and_odd_words_ask(remote, argv):
    """Its files cannot be looked at from here, and not every shell there reads quotes alike."""
    with pytest.raises(NeedsApproval) as caught:
        await remote("ssh_run", host="box", command=argv)
    assert caught.value.argv == ("ssh", "box", *argv)


async def test_an_approved_remote_command_runs(remote):
    """With the host in the approval: the same words for another host ask again."""
    argv = ("ssh", "box", "cat", str(remote.place / "app.log"))
    assert (
        await remote("ssh_run", approved=argv, host="box", command=list(argv[2:]))
    ).text == "exit 0\nfirst\nlast"
    with pytest.raises(NeedsApproval):
        await remote("ssh_run", approved=argv, host="stranger", command=list(argv[2:]))


async def test_a_host_whose_key_has_changed_is_not_used(remote):
    """Strict host keys: nothing is run, and the reason is ssh's own."""
    result = await remote("ssh_run", host="stranger", command="uptime")
    assert not result.ok
    assert "HOST IDENTIFICATION HAS CHANGED" in result.text or "verification failed" in result.text


def _runs(argument: str) -> bool:
    """Whether a process with this argument lives, in whatever namespace."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if argument.encode() in path.read_bytes().split(b"\0"):
                return True
    return False
