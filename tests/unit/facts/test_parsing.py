"""What collectors make of what they read: pure, without a daemon, a server or a program."""

import asyncio
from pathlib import Path

import pytest

from opskit.config.schema import Config
from opskit.facts.environment import read_env_file
from opskit.facts.machine import read_addresses, read_disk
from opskit.facts.model_memory import MAX_WORDS, words_for
from opskit.facts.model_requests import calls_of
from opskit.facts.stack_containers import project_of, stack_projects
from opskit.facts.survey import Survey
from opskit.logs.record import facts
from opskit.system.compose_declaration import unset
from opskit.system.docker_records import ListedContainer

PROJECT = "com.docker.compose.project"
FILES, FOLDER = f"{PROJECT}.config_files", f"{PROJECT}.working_dir"


def survey(folder: Path) -> Survey:
    return Survey(Config(str(folder), (), ()), {}, state_folder=folder, cwd=folder)


def test_compose_tells_unset_variables_in_two_ways():
    """Version 1 writes names bare, version 2 in (escaped) quotes; other warnings are passed over."""
    old = "WARNING: The DB_PASSWORD variable is not set. Defaulting to a blank string.\n"
    new = 'level=warning msg="The \\"TOKEN\\" variable is not set. Defaulting to a blank string."\n'
    other = "WARNING: Found orphan containers (x)\n"
    assert unset(old + new + other + old) == {"DB_PASSWORD", "TOKEN"}


@pytest.mark.parametrize(
    ("num_ctx", "loaded", "words"),
    [
        (None, None, 3072),
        (None, 2048, 1536),
        (8192, 2048, MAX_WORDS),
        (1_000_000, 4096, MAX_WORDS),
        (1, 1, 1),
    ],
)
def test_the_prompt_of_deep_is_bounded(num_ctx: int | None, loaded: int | None, words: int):
    """It fits well into the context that clients count on, and is never longer than the bound."""
    assert words_for(num_ctx, loaded) == words


def test_a_call_is_joined_with_its_end():
    """Each call has the fault of its own end; foreign writers' `source` is a node too."""
    lines = [
        b"[LLM_CALL] correlation_id=1 node=mlx model=d num_ctx=4096",
        b"[LLM_CALL] correlation_id=2 source=ollama model=m",
        b"[LLM_CRASH] correlation_id=1 node=mlx model=d fault=runner_crashed",
        b"[LLM_RESPONSE] correlation_id=2 source=ollama model=m prompt_eval_count=12",
        b"[LLM_RESPONSE] correlation_id=3 node=mlx model=d",
    ]
    calls = calls_of(map(facts, lines))
    assert [(call.node, call.fault, call.num_ctx, call.prompt_tokens) for call in calls] == [
        ("mlx", "runner_crashed", 4096, None),
        ("ollama", None, None, 12),
    ]


@pytest.mark.parametrize(
    ("labels", "project"),
    [
        ({PROJECT: "x", FILES: "/srv/compose.yml"}, "app"),
        ({PROJECT: "x", FILES: "compose.yml, other.yml", FOLDER: "/srv"}, "app"),
        ({PROJECT: "x", FILES: "srv/compose.yml,srv/other.yml", FOLDER: "/srv"}, "app"),
        ({PROJECT: "x", FILES: "../srv/compose.yml", FOLDER: "/srv"}, "app"),
        ({PROJECT: "x", FILES: "/srv/compose.yml", FOLDER: "/srv"}, "app"),
        ({PROJECT: "x", FILES: "./compose.yml", FOLDER: "/srv"}, "app"),
        ({PROJECT: "x", FILES: "srv/compose.yml", FOLDER: "/elsewhere/srv"}, None),
        ({PROJECT: "app", FILES: "/elsewhere/compose.yml"}, None),
        ({PROJECT: "app"}, "app"),
        ({PROJECT: "x"}, None),
        ({FILES: "/srv/compose.yml"}, None),
    ],
)
def test_a_container_belongs_to_a_project_by_its_files(labels: dict[str, str], project: str | None):
    """Its name decides only where it tells no files; without a project's label it belongs to none."""
    assert project_of(labels, {"app": (Path("/srv/compose.yml"),)}) == project


def test_a_project_is_known_through_links(tmp_path: Path):
    """A folder of the configuration may be a link, as /tmp is on a Mac."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    labels = {PROJECT: "x", FILES: "compose.yml", FOLDER: str(tmp_path / "real")}
    assert project_of(labels, {"app": (tmp_path / "link" / "compose.yml",)}) == "app"


def listed(name: str, project: str | None = None) -> ListedContainer:
    labels = {"com.docker.compose.project": project} if project else {}
    return ListedContainer(name, name, "x", "running", labels)


def test_the_stack_is_its_projects_and_names_and_what_shares_a_project():
    """Project names are compared as Compose writes them; what shares a named container's project counts."""
    there = [listed("a", "knowledge-os"), listed("b", "web"), listed("c", "web"), listed("d")]
    files = {"Knowledge-OS": (Path("/srv/compose.yml"),)}
    assert stack_projects(there, files, {"b"}) == {"a": "Knowledge-OS", "b": "web", "c": "web"}
    assert stack_projects(there, {}, {"nobody"}) == {}


def test_an_environment_file_gives_names_alone(tmp_path: Path):
    """Of its values nothing is kept; one that is not there is a problem, not an error."""
    file = tmp_path / ".env"
    file.write_text("API_KEY=\nDB_PASSWORD=changeme\nLEVEL=\nREAL_TOKEN=geheim\n")
    env_file = asyncio.run(read_env_file(survey(tmp_path), file))
    assert (env_file.empty_secrets, env_file.placeholder_secrets) == (("API_KEY",), ("DB_PASSWORD",))
    assert env_file.empty == ("API_KEY", "LEVEL")
    assert "geheim" not in repr(env_file)
    assert asyncio.run(read_env_file(survey(tmp_path), tmp_path / "lost")).problem == "there is no such file"


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path):
    """It is that of the nearest folder above it."""
    disk = asyncio.run(read_disk(survey(tmp_path), "models", tmp_path / "a/b"))
    assert disk is not None
    assert (disk.use, disk.path, disk.device) == ("models", str(tmp_path), tmp_path.stat().st_dev)


def test_a_name_that_does_not_resolve_has_no_address(tmp_path: Path):
    """No resolver knows a name under .invalid; one that is no name at all has none either."""
    assert asyncio.run(read_addresses(survey(tmp_path), "nobody.invalid")) == ()
    assert asyncio.run(read_addresses(survey(tmp_path), "x" * 64)) == ()
