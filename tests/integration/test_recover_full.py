"""`opskit recover full` on a real daemon and a real docker-compose; version 2 by recorded answers."""

import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from opskit.recovery.audit import last
from opskit.system.lock import try_lock
from tests.parts.composed import WAIT, Composed, composed
from tests.parts.docker import IMAGE, LABEL, Engine
from tests.parts.terminal import OnTerminal

BUILT = {"build": "./image", "command": ["sh", "-c", WAIT.replace("$", "$$")], "network_mode": "none"}
PLAIN = {"command": BUILT["command"]}
READY = {"test": ["CMD", "true"], "interval": "0.2s", "retries": 1}


@pytest.fixture
def app(box: Engine, tmp_path: Path) -> Iterator[Composed]:
    with composed(box, tmp_path) as made:
        made.configuration()
        yield made


@pytest.fixture(params=[1, 2], ids=["compose-1", "compose-2"])
def both(request: pytest.FixtureRequest, box: Engine, tmp_path: Path) -> Iterator[Composed]:
    with composed(box, tmp_path, request.param) as made:
        made.configuration()
        yield made


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {one["target"]: one["status"] for one in document["findings"]}


def test_a_project_is_built_anew_and_comes_up_healthy(app: Composed):
    """Containers, images and health are new, the neighbours are untouched, the replaced image is gone."""
    neighbour = app.box.run("sleep 1000")
    plain = {"image": IMAGE, "command": BUILT["command"], "network_mode": "none"}
    app.write({"web": {**BUILT, "healthcheck": READY}, "job": {**plain, "command": ["true"]}, "db": plain})
    app.compose("up", "-d")
    before, image = app.ids(), app.image("web")
    done = app.opskit("recover", "full", "--yes", "--wait", "30s", "--json")
    assert done.status == 0, done
    assert statuses(done.document) == {"web": "pass", "job": "pass", "db": "pass"}
    assert not before & app.ids()
    assert app.image("web") != image
    assert image not in [one.id for one in app.box.client.images.list(all=True)]
    neighbour.reload()
    assert neighbour.status == "running"
    shown = [one["command"] for one in done.document["ran"]]
    assert [command.split(" ")[3] for command in shown[:3]] == ["build", "down", "up"]
    events = [one["event"] for one in last(app.home / "state" / "opskit", 20)]
    assert events[-1] == "procedure_ended"
    assert events.count("command_begins") == len(shown)


def test_a_failed_build_changes_nothing(both: Composed):
    """The second of two builds breaks: exit 1, everything still runs, and no name has moved."""
    both.write({"api": BUILT, "web": {**BUILT, "build": "./other", "depends_on": ["api"]}})
    shutil.copytree(both.folder / "image", both.folder / "other")
    both.compose("up", "-d")
    before, images = both.ids(), [both.image("api"), both.image("web")]
    (both.folder / "other" / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY no-such-file /\n")
    done = both.opskit("recover", "full", "--yes", "--json")
    assert done.status == 1, done
    (finding,) = done.document["findings"]
    assert (finding["target"], finding["status"]) == ("build", "fail")
    assert "no-such-file" in finding["detail"]
    assert (both.ids(), [both.image("api"), both.image("web")]) == (before, images)
    running = both.box.client.containers.list(filters={"label": f"com.docker.compose.project={both.project}"})
    assert {one.id for one in running} == before


def test_containers_of_other_files_are_kept_and_named(both: Composed):
    """The same folder, so the same project name: what these files do not declare still runs."""
    both.write({"web": {"build": "./image", **PLAIN}})
    other = both.folder / "monitoring.yml"
    services = {"grafana": {"image": IMAGE, **PLAIN, "labels": {LABEL: both.box.mark}}}
    other.write_text(yaml.safe_dump({"version": "3.4", "services": services}))
    both.compose("up", "-d")
    both.compose("-f", str(other), "up", "-d", "grafana")
    (grafana,) = both.box.client.containers.list(filters={"label": "com.docker.compose.service=grafana"})
    done = both.opskit("recover", "full", "--yes", "--wait", "20s", "--json")
    assert done.status == 0, done
    assert grafana.name in " ".join(done.document["notes"])
    grafana.reload()
    assert grafana.status == "running"


def test_a_service_that_does_not_stay_up_is_named_with_its_last_words(app: Composed):
    """One is well, one ends: exit 1, with the log lines of the one that ended and none of the other."""
    bad = {**BUILT, "command": ["sh", "-c", "echo no database; exit 3"]}
    app.write({"web": BUILT, "api": bad})
    done = app.opskit("recover", "full", "--yes", "--wait", "20s", "--json")
    assert done.status == 1, done
    assert statuses(done.document) == {"web": "pass", "api": "fail"}
    api = next(one for one in done.document["findings"] if one["target"] == "api")
    assert "exit code 3" in api["detail"]
    assert api["evidence"]["log"] == ["no database"]


def test_a_dry_run_shows_the_commands_and_changes_nothing(app: Composed):
    """Down, build, up, in this order; the containers that ran still run."""
    app.write({"web": BUILT})
    app.compose("up", "-d")
    before = app.ids()
    done = app.opskit("recover", "full", "--dry-run")
    assert done.status == 0, done
    compose = f"docker-compose -f {app.file}"
    assert done.out.splitlines() == [
        f"would run `{compose} build --no-cache web`",
        f"would run `{compose} down`",
        f"would run `{compose} up -d --no-build`",
        "app: 3 commands; nothing was changed",
    ]
    assert app.ids() == before


def test_volumes_stay_unless_their_end_is_typed(app: Composed):
    """Data outlives the rebuild, and `--yes` alone does not delete it: nobody typed the name."""
    app.write({"web": {**BUILT, "volumes": ["data:/data"]}}, volumes={"data": {}})
    app.compose("up", "-d")
    assert app.opskit("recover", "full", "--yes", "--wait", "20s").status == 0
    assert [one.name for one in app.box.client.volumes.list()].count(f"{app.project}_data") == 1
    before = app.ids()
    refused = app.opskit("recover", "full", "--yes", "--prune-volumes")
    assert (refused.status, app.ids()) == (2, before)
    assert "has to be typed on a terminal" in refused.err


@pytest.mark.parametrize(("word", "status"), [("", 0), ("yes", 130)])
def test_the_typed_name_deletes_volumes(app: Composed, word: str, status: int):
    """On a terminal the project's own name is the word; any other changes nothing."""
    app.write({"web": {**BUILT, "volumes": ["data:/data"]}}, volumes={"data": {}})
    app.compose("up", "-d")
    app.compose("exec", "-T", "web", "touch", "/data/kept")
    before = app.ids()
    config = str(app.folder.parent / "opskit.yaml")
    arguments = ("recover", "full", "--prune-volumes", "--wait", "20s", "--config", config)
    with OnTerminal(*arguments, home=app.home, columns=160, env=app.box.environment) as terminal:
        terminal.press(f"y\n{word or app.project}\n")
        assert terminal.ended() == status, terminal.output
    assert (app.ids() == before) is (status != 0)
    assert ("kept" in app.compose("exec", "-T", "web", "ls", "/data")) is (status != 0)


def test_nothing_is_taken_down_when_an_image_is_missing(app: Composed):
    """What is not built here must be here: nothing is pulled, so nothing is begun."""
    app.write({"web": BUILT, "db": {"image": "no-such-image:1", "network_mode": "none"}})
    app.compose("up", "-d", "web")
    before = app.ids()
    done = app.opskit("recover", "full", "--yes", "--json")
    assert (done.status, app.ids()) == (1, before)
    assert done.document["error"]["code"] == "RECOVER_004"
    assert "docker pull no-such-image:1" in done.document["error"]["remedy"]


def test_nothing_is_taken_down_while_it_is_paused(app: Composed):
    """A pause holds for procedures too; the remedy ends it."""
    app.write({"web": BUILT})
    state = app.home / "state" / "opskit"
    state.mkdir(parents=True)
    (state / "pauses.json").write_text(json.dumps({"compose:app": {"since": 1.0, "until": None}}))
    done = app.opskit("recover", "full", "--yes")
    assert done.status == 75, done
    assert "opskit resume compose:app" in done.err


def test_nothing_is_taken_down_while_a_backup_runs(app: Composed):
    """Its files are being read just now."""
    app.write({"web": BUILT})
    folder = app.home / "state" / "opskit" / "backups"
    folder.mkdir(parents=True)
    with try_lock(folder / ".lock") as mine:
        assert mine
        done = app.opskit("recover", "full", "--yes")
    assert done.status == 75, done
    assert "a backup is being made" in done.err


def test_without_a_terminal_and_without_yes_nothing_happens(app: Composed):
    """There is nobody to ask, so the answer is no."""
    app.write({"web": BUILT})
    app.compose("up", "-d")
    before = app.ids()
    done = app.opskit("recover", "full")
    assert (done.status, app.ids()) == (2, before)
    assert "--yes" in done.err


def test_a_project_that_is_not_configured_is_refused(app: Composed):
    """A wrong name lists the right ones."""
    app.write({"web": BUILT})
    done = app.opskit("recover", "full", "--project", "shop", "--yes")
    assert done.status == 2, done
    assert "known: app" in done.err


def test_version_two_is_told_not_to_pull(app: Composed, tmp_path: Path):
    """With the plug-in the commands are `docker compose`, and `up` never pulls."""
    app.write({"web": BUILT})
    folder = tmp_path / "bin"
    folder.mkdir()
    config = {"name": "app", "services": {"web": {"build": {"context": "."}, "networks": {"default": None}}}}
    (folder / "docker").write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '  *"version --short") echo 2.29.1;;\n'
        '  "compose version") echo "Docker Compose version v2.29.1";;\n'
        '  *"config --hash *") echo "web 0123abcd";;\n'
        f"  *\"config --format json\") echo '{json.dumps(config)}';;\n"
        '  *) echo "unexpected: $*" >&2; exit 9;;\n'
        "esac\n"
    )
    (folder / "docker").chmod((folder / "docker").stat().st_mode | stat.S_IXUSR)
    done = app.opskit("recover", "full", "--dry-run", path=folder)
    assert done.status == 0, done
    compose = f"docker compose -f {app.file}"
    assert done.out.splitlines()[:3] == [
        f"would run `{compose} build --no-cache web`",
        f"would run `{compose} down`",
        f"would run `{compose} up -d --no-build --pull never`",
    ]
