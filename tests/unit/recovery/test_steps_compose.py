"""What Compose 1 and 2 write of their files, and which command lines are somebody's work."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.recovery import hands_off
from opskit.recovery.hands_off import ManualCommand, manual_command, manual_commands
from opskit.system.compose_declaration import (
    further_files,
    old_name,
    plain_project,
    project,
    references_of,
    unset,
    variables,
)

RAW = """
services:
  web:
    image: bb
    environment: {TOKEN: "${TOKEN:-}", HOST: $HOST, PRICE: "$$5"}
    env_file: [web.env, {path: more.env}]
    labels: ["opskit.action=none", "other=1"]
    depends_on: [db]
  db:
    build: .
    extends: {file: base.yml, service: db}
  tool: {image: t, profiles: [tools]}
networks:
  shared: {external: true, name: atra-network}
  own: {}
"""
#: `docker-compose config` 1.29.
OLD = """
networks:
  own: {}
  shared: {external: true, name: atra-network}
services:
  db:
    build: {context: /x}
    scale: 2
  tool: {image: t, profiles: [tools]}
  web:
    depends_on:
      db: {condition: service_started}
    image: bb
    labels: {opskit.action: none, other: '1'}
    networks: {own: null, shared: null}
version: '3.9'
"""
#: `docker compose config --format json` 2.27.
NEW = {
    "name": "renamed",
    "networks": {
        "default": {"name": "renamed_default", "ipam": {}},
        "shared": {"name": "atra-network", "ipam": {}, "external": True},
    },
    "services": {
        "db": {
            "build": {"context": "/x"},
            "deploy": {"replicas": 3, "resources": {}},
            "networks": {"default": None},
        },
        "web": {
            "command": None,
            "depends_on": {"db": {"condition": "service_started", "required": True}},
            "entrypoint": None,
            "image": "bb",
            "labels": {"autoheal": "false"},
            "network_mode": "service:db",
        },
    },
}
DIGESTS = "db aaa\nweb bbb\n"


def test_compose_1_is_read():
    """Services of `up`, their images by both ways of naming, replicas, needs, networks and labels."""
    found = project(OLD, DIGESTS, name="p", version="1.29.2")
    assert list(found.services) == ["db", "web"]
    db, web = found.services["db"], found.services["web"]
    assert (db.images, db.built, db.replicas, db.networks) == (("p-db", "p_db"), True, 2, ("p_default",))
    assert (web.images, web.needs, web.labels) == (("bb",), ("db",), {"opskit.action": "none"})
    assert web.networks == ("p_own", "atra-network")
    assert found.own_networks == ("p_own", "p_default")


def test_compose_2_is_read():
    """It tells the project's name itself; a shared network namespace is a need."""
    found = project(json.dumps(NEW), DIGESTS, name=None, version="2.27.0")
    assert (found.name, found.services["db"].replicas) == ("renamed", 3)
    web = found.services["web"]
    assert (web.needs, web.networks, web.labels) == (("db",), (), {"autoheal": "false"})
    assert found.own_networks == ("renamed_default",)


@pytest.mark.parametrize(
    "complaint",
    [
        "WARNING: The HOST variable is not set. Defaulting to a blank string.",
        'level=warning msg="The \\"HOST\\" variable is not set. Defaulting to a blank string."',
        'WARN[0000] The "HOST" variable is not set. Defaulting to a blank string. ',
    ],
)
def test_variables_without_a_value_belong_to_the_services_that_mention_them(complaint: str):
    """In the words of each version of Compose, on a terminal or not."""
    assert unset(complaint) == {"HOST"}
    found = project(OLD, DIGESTS, name="p", version="1.29.2", complaints=complaint, raw=RAW)
    assert (found.services["web"].blank, found.services["db"].blank) == (("HOST",), ())


def test_references_and_files_are_found_in_the_raw_files():
    """`$$` is a dollar sign; environment files, bases and includes are named wherever they stand."""
    assert variables(RAW) == {"TOKEN", "HOST"}
    assert references_of(RAW, ["web", "db"]) == {"web": {"TOKEN", "HOST"}, "db": set()}
    assert further_files(RAW) == {"web.env", "more.env", "base.yml"}


@pytest.mark.parametrize("text", ["", "[]", "services: 5", "{", "services: {web: 5}", "&a [*a]", "a: b: c"])
def test_what_is_no_configuration_is_refused(text: str):
    """Whatever Compose writes, it is a ValueError at worst."""
    with pytest.raises(ValueError, match="cannot be read"):
        project(text, "web aaa", name="p", version="1")


@given(st.text(max_size=200))
def test_no_text_breaks_the_readers(text: str):
    """Raw files may hold anything."""
    variables(text)
    further_files(text)
    references_of(text, ["web"])
    unset(text)
    try:
        project(text, text, name="p", version="2")
    except ValueError:
        return


@pytest.mark.parametrize(
    ("folder", "chosen", "name"),
    [
        ("Knowledge OS", None, "knowledgeos"),
        ("a_b-c.d", None, "a_b-cd"),
        ("x", "My.App", "myapp"),
        ("...", None, "default"),
    ],
)
def test_compose_1_names_a_project_by_its_folder(folder: str, chosen: str | None, name: str):
    """Lower case, without what is neither a letter, a digit, `-` nor `_`."""
    assert old_name(folder, chosen) == name


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("docker pull ollama/ollama", ManualCommand("docker pull")),
        ("/usr/local/bin/docker -H tcp://x build --build-arg TOKEN=1 .", ManualCommand("docker build")),
        ("docker image pull x", ManualCommand("docker pull")),
        ("docker buildx build .", ManualCommand("docker build")),
        ("docker buildx bake", ManualCommand("docker build")),
        ("docker buildx ls", None),
        ("sudo docker pull x", ManualCommand("docker pull")),
        ("docker compose -f a.yml -p b up -d", ManualCommand("docker compose up")),
        ("docker compose --profile gpu up", ManualCommand("docker compose up", stays=True)),
        ("/usr/bin/python3 /usr/bin/docker-compose -f a.yml down", ManualCommand("docker compose down")),
        ("/usr/libexec/docker/cli-plugins/docker-compose compose pull", ManualCommand("docker compose pull")),
        ("docker-compose logs -f", None),
        ("docker compose ps", None),
        ("docker ps", None),
        ("docker", None),
        ("ollama pull llama3", ManualCommand("ollama pull")),
        ("ollama serve", None),
        ("grep docker pull", None),
        ("vim docker-compose.yml", None),
        ("", None),
    ],
)
def test_a_command_line_is_known_by_its_verb(line: str, command: ManualCommand | None):
    """Its arguments, which may be secrets, are not kept."""
    assert manual_command(line.split()) == command


@pytest.mark.parametrize("ends", [False, True])
def test_a_command_that_ends_while_it_is_looked_at_is_nobodys_work(
    ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its variables cannot be read any more; one that runs and hides them may be anybody's work."""
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\nread line\n")
    fake.chmod(0o755)
    puller = subprocess.Popen([str(fake), "pull", "big"], stdin=subprocess.PIPE)

    def variables(pid: int) -> None:
        if pid == puller.pid and ends:
            puller.kill()
            puller.wait()

    monkeypatch.setattr(hands_off, "variables_of", variables)
    try:
        found = [running.pid for running in manual_commands(None)]
    finally:
        puller.communicate(b"\n")
    assert (puller.pid in found) is not ends


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_command_line_can_be_looked_at(words: list[str]):
    """Processes have all kinds of arguments."""
    manual_command(words)
    manual_command(["docker", *words])


@pytest.mark.parametrize(
    ("texts", "services", "unknown"),
    [
        (["services: {web: {image: a}, db: {image: b, deploy: {replicas: 0}}}"], ["web"], ()),
        (["services: {web: {image: a}, tool: {image: b, profiles: [tools]}}"], ["web"], ()),
        (["include: [other.yml]\nservices: {web: {image: a}}"], ["web"], ("`include`",)),
        (["services: {web: {extends: {service: x}}}"], ["web"], ("`extends` of web",)),
        (["services: {web: {image: a, scale: '${N}'}}"], ["web"], ("`scale` of web",)),
        (["services: {web: {image: a, profiles: ['${P}']}}"], ["web"], ("`profiles` of web",)),
        (["services: {web: {image: '${TAG}'}}"], ["web"], ()),
        (
            ["services: {web: {image: a}}", "services: {db: {image: b}}"],
            ["web", "db"],
            ("how 2 files are merged",),
        ),
    ],
)
def test_without_compose_the_files_say_what_they_leave_to_it(
    texts: list[str], services: list[str], unknown: tuple[str, ...]
):
    """What only Compose resolves is named; a number that it would fill in is not guessed."""
    read, left = plain_project(texts, "p")
    assert (list(read.wanted), left) == (services, unknown)


@given(st.lists(st.text(max_size=100), max_size=2))
def test_no_text_breaks_the_plain_reader(texts: list[str]):
    """Files may hold anything."""
    try:
        plain_project(texts, "p")
    except ValueError:
        return
