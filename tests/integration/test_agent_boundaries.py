"""What a model, or a file that it obeys, gets to see outside of the workspace without a person's word."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from opskit.agent.evidence import ListContainers, SearchLogs
from opskit.agent.tools.tool import NeedsApproval
from opskit.app import App
from opskit.config.load import load
from tests.parts.agent_tools import Tools, tools
from tests.parts.docker import Engine

SECRET = "swordfish of the neighbour"


@pytest.fixture
def box() -> Iterator[Tools]:
    """Tools over a workspace with a repository and a file beside it; commands do not see /tmp."""
    with TemporaryDirectory(dir="/var/tmp") as folder:
        made = tools(Path(folder))
        (Path(folder) / "private.txt").write_text(f"{SECRET}\n")
        _git(made.place, "init", "-b", "main")
        _git(made.place, "add", "app.log")
        _git(made.place, "commit", "-m", "Begin")
        with contextlib.closing(made.box):
            yield made


def _git(folder: Path, *words: str) -> str:
    names = {
        f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    return subprocess.run(
        ["git", *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **names},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.mark.parametrize(
    "source", ["{folder}/private.txt", "{folder}/p*.txt", "/etc/passwd", "-", "to-passwd"]
)
async def test_logs_are_searched_in_no_file_of_the_machine(
    box: Tools, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model chooses the source of `search_logs`; files are for the tools that know the workspace."""
    monkeypatch.chdir(box.place)
    environ = {"HOME": str(box.folder), "PATH": "/usr/bin:/bin"}
    config = load(None, environ=environ, cwd=box.folder, in_docker=False).config
    async with App(config, environ=environ, cwd=box.folder) as app:
        tool = SearchLogs(app)
        named = source.format(folder=box.folder)
        result = await tool.run(tool.arguments(pattern="o", source=named), None)
    assert not result.ok
    assert "search_file" in result.text


async def test_nobody_is_asked_to_approve_a_program_that_is_not_there(box: Tools) -> None:
    """A small model invents names."""
    result = await box.run("run_trem_cmd_ru --all")
    assert not result.ok
    assert "not installed" in result.text


async def test_all_containers_are_listed(docker_engine: Engine, tmp_path: Path) -> None:
    """With the state that Docker tells; also those that have ended."""
    containers = {
        "running": docker_engine.run("sleep 86400", name=docker_engine.name("up"), start=True),
        "exited": docker_engine.run("exit 3", name=docker_engine.name("down"), start=True),
    }
    containers["exited"].wait()
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **docker_engine.environment}
    config = load(None, environ=environ, cwd=tmp_path, in_docker=False).config
    async with App(config, environ=environ, cwd=tmp_path) as app:
        tool = ListContainers(app)
        result = await tool.run(tool.arguments(), None)
    states = {row["name"]: row["state"] for row in result.evidence["containers"]}
    assert {state: states[container.name] for state, container in containers.items()} == {
        "running": "running",
        "exited": "exited",
    }


def _borrowed_objects(box: Tools) -> str:
    other = box.folder / "other"
    other.mkdir()
    (other / "f").write_text(SECRET)
    _git(other, "init")
    _git(other, "add", "f")
    _git(other, "commit", "-m", "Hidden")
    alternates = box.place / ".git" / "objects" / "info" / "alternates"
    alternates.parent.mkdir(exist_ok=True)
    alternates.write_text(f"{other / '.git' / 'objects'}\n")
    return f"git show {_git(other, 'rev-parse', 'HEAD')}"


def _link(name: str) -> Callable[[Tools], str]:
    def prepare(box: Tools) -> str:
        path = box.place / ".git" / name
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(box.folder / "private.txt")
        return "git log"

    return prepare


def _tracked_secret(command: str) -> Callable[[Tools], str]:
    def prepare(box: Tools) -> str:
        (box.place / "id_rsa").write_text(SECRET)
        _git(box.place, "add", "id_rsa")
        _git(box.place, "commit", "-m", "Add a key")
        return command

    return prepare


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(_link("packed-refs"), id="a link instead of packed-refs"),
        pytest.param(_link("shallow"), id="a link instead of shallow"),
        pytest.param(_link("info/grafts"), id="a link instead of grafts"),
        pytest.param(_borrowed_objects, id="objects of another repository"),
        pytest.param(_tracked_secret("git show HEAD"), id="a key in a commit"),
        pytest.param(_tracked_secret("git log -p"), id="a key in the history"),
        pytest.param(_tracked_secret("git diff HEAD~1 HEAD"), id="a key in a difference"),
        pytest.param(_tracked_secret("git show HEAD -- ':(glob)id_*'"), id="a key by a pattern"),
    ],
)
async def test_git_shows_nothing_that_other_tools_would_ask_about(
    box: Tools, prepare: Callable[[Tools], str]
) -> None:
    """Git prints lines of files that it cannot use, objects of others, and what was committed."""
    command = prepare(box)
    with pytest.raises(NeedsApproval):
        await box.run(command)


@pytest.mark.parametrize("command", ["git log", "git show HEAD", "git diff", "git status", "git log -p"])
async def test_a_plain_repository_is_read_without_asking(box: Tools, command: str) -> None:
    """Hooks may be links, as frameworks for them make them: they are never run."""
    (box.place / ".git" / "hooks").mkdir(exist_ok=True)
    (box.place / ".git" / "hooks" / "pre-commit").symlink_to("../../app.log")
    result = await box.run(command)
    assert result.ok, result.text


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"compose.yaml": "services: {a: {image: x, env_file: ../private.txt}}"}, "docker compose ps"),
        (
            {"compose.yaml": "include: [m.yaml]", "m.yaml": "services: {a: {env_file: /etc/shadow}}"},
            "docker-compose ps",
        ),
        (
            {"x.yaml": "services: {a: {extends: {file: ../private.txt, service: a}}}"},
            "docker compose -f x.yaml ps",
        ),
        ({".env": "COMPOSE_FILE=../private.txt"}, "docker compose config -q"),
    ],
)
async def test_a_compose_project_that_reads_files_outside_asks(
    box: Tools, files: dict[str, str], command: str
) -> None:
    """Compose prints the line of an environment file that it cannot use, such as one of a private key."""
    for name, text in files.items():
        (box.place / name).write_text(text)
    with pytest.raises(NeedsApproval, match=r"private\.txt|shadow"):
        await box.run(command)


async def test_a_compose_project_that_reads_a_link_out_asks(box: Tools) -> None:
    """The `.env` beside the file is read without being named."""
    (box.place / "compose.yaml").write_text("services: {a: {image: x, env_file: web.env}}")
    (box.place / ".env").symlink_to(box.folder / "private.txt")
    with pytest.raises(NeedsApproval, match=r"\.env"):
        await box.run("docker compose ps")
