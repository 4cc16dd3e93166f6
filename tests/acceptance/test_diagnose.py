"""`opskit diagnose` as a person runs it: areas, formats, bundles, and what cannot be done."""

import json
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.parts.command import environment, opskit

_AREAS = ["system", "containers", "api", "network", "models"]
#: Where no Docker answers; one that answers here has containers that are not ours.
_NO_DOCKER = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}


def test_all_areas_are_shown_of_a_simulated_stack(tmp_path: Path):
    """`all` is the default; without Docker the rest is shown, and the status says so."""
    result = opskit("diagnose", "--sandbox", "--json", home=tmp_path, env=_NO_DOCKER)
    document = result.document
    assert list(document["areas"]) == _AREAS
    assert (document["command"], document["bundle"]) == ("diagnose", None)
    assert document["areas"]["api"]["status"] == "pass"
    assert document["areas"]["models"]["status"] == "pass"
    assert document["areas"]["containers"]["status"] == "inconclusive"
    assert result.status in (1, 3)  # 1 where names do not resolve, which this test cannot know


def test_one_area_that_is_well_is_success(tmp_path: Path):
    """Status 0, and the last line says so."""
    result = opskit("diagnose", "api", "models", "--sandbox", home=tmp_path, env=_NO_DOCKER)
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "nothing is broken"
    assert "phi3.5:3.8b" in result.out
    assert "system:" not in result.out


def test_a_machine_without_docker_is_well(tmp_path: Path):
    """No program, no socket, no Compose project: containers are not missed."""
    result = opskit(
        "diagnose", "api", "containers", "--sandbox", "--json", home=tmp_path, env={"PATH": str(tmp_path)}
    )
    if Path("/var/run/docker.sock").exists():
        pytest.skip("a Docker socket is here")
    assert result.status == 0, result.out
    assert result.document["areas"]["containers"]["docker"] is None


def test_the_system_area_tells_ports_files_and_folders(tmp_path: Path):
    """Ports of the stack, `.env` keys without values, a broken Compose file."""
    (tmp_path / ".env").write_text("API_KEY=abc-geheim-1\nTOKEN=\nnonsense\n")
    (tmp_path / "compose.yml").write_text("services:\n  web:\n    imgae: x\n")
    result = opskit("diagnose", "system", "--json", home=tmp_path, env=_NO_DOCKER)
    area = result.document["areas"]["system"]
    assert {8003, 8010, 8011, 9001, 9002, 11434, 11435} <= {one["port"] for one in area["ports"]}
    (env,) = area["env_files"]
    assert (env["names"], env["without_value"], env["malformed_lines"]) == (
        ["API_KEY", "TOKEN"],
        ["TOKEN"],
        [3],
    )
    (project,) = area["compose_files"]
    assert project["valid"] is False
    assert "imgae" in project["problem"]
    assert result.status == 1
    assert "abc-geheim-1" not in result.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["diagnose", "everything"], "there is no area 'everything'"),
        (["diagnose", "--lines", "-1"], "--lines"),
        (["diagnose", "system", "--force"], "--force replaces a bundle"),
        (["diagnose", "system", "--bundle", "/nonexistent/b.tar.gz"], "No such file or directory"),
        (["diagnose", "system", "--bundle", "/dev/full", "--force"], "not a regular file"),
        (["diagnose", "system", "--bundle", "there.tar.gz"], "exists"),
        (["diagnose", "system", "--bundle", "."], "exists"),
        (["diagnose", "system", "--bundle", "x" * 5000], "too long"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(arguments: list[str], told: str, tmp_path: Path):
    """One line, status 2, and nothing was looked at."""
    (tmp_path / "there.tar.gz").write_text("precious")
    result = opskit(*arguments, home=tmp_path)
    assert (result.status, result.out) == (2, "")
    assert told in result.err
    assert result.err.count("\n") == 1
    assert (tmp_path / "there.tar.gz").read_text() == "precious"


def bundled(folder: Path, *arguments: str) -> dict[str, bytes]:
    path = folder / "b.tar.gz"
    result = opskit(
        "diagnose", "models", *arguments, "--sandbox", "--bundle", str(path), home=folder, env=_NO_DOCKER
    )
    assert result.status == 0, result.err
    with tarfile.open(path) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive.getmembers()}


def test_a_bundle_is_private_complete_and_in_order(tmp_path: Path):
    """Mode 0600; areas as JSON and text, the configuration with origins; the list is printed."""
    found = bundled(tmp_path)
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600
    names = [name.removeprefix("opskit-diagnose/") for name in found]
    assert names[:6] == [
        "README.txt",
        "diagnosis.json",
        "areas/models.json",
        "areas/models.txt",
        "configuration.json",
        "configuration.txt",
    ]
    assert list(bundled(tmp_path, "--force")) == list(found)
    document = json.loads(found["opskit-diagnose/diagnosis.json"])
    assert document["opskit_version"]
    values = json.loads(found["opskit-diagnose/configuration.json"])["values"]
    assert {"key", "value", "origin"} == set(values[0])
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith(".tmp")] == []


def test_a_full_disk_loses_the_bundle_and_not_the_view(tmp_path: Path):
    """What was seen is shown, the bundle is told as not written, and no half of it stays."""
    path = tmp_path / "b.tar.gz"
    # A file may not grow beyond this, as on a full disk.
    done = subprocess.run(
        [sys.executable, "-m", "opskit", "diagnose", "models", "--sandbox", "--bundle", str(path)],
        env=environment(tmp_path, _NO_DOCKER),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512)),
    )
    assert done.returncode == 1, done.stderr
    assert "phi3.5:3.8b" in done.stdout
    assert done.stdout.splitlines()[-1] == f"broken: {path} (not written)"
    assert "Traceback" not in done.stderr
    assert [one for one in tmp_path.iterdir() if "b.tar.gz" in one.name] == []


def test_a_state_folder_that_cannot_be_used_is_told(tmp_path: Path):
    """Only what needs it is unseen: with --ask the request log."""
    (tmp_path / "state").write_text("a file")
    result = opskit(
        "diagnose", "api", "models", "--ask", "--sandbox", "--json", home=tmp_path, env=_NO_DOCKER
    )
    assert result.status == 3, result.out
    assert result.document["areas"]["api"]["status"] == "pass"
    assert result.finding("models", "models")["code"] == "STATE_001"
