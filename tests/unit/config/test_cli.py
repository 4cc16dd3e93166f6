"""`opskit config show`, `init` and `check`, as a person and as a program see them."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from opskit.cli.config import app
from opskit.config import starter
from opskit.config.origins import URLS
from opskit.errors import UsageError

RUNNER = CliRunner()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """An empty current folder and an environment without a word for opskit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    names = [name for names in URLS.values() for name in names]
    for name in (*names, "OPSKIT_CONFIG", "USE_MLX_FALLBACK", "VICTORIA_DEBUG", "OLLAMA_API_KEY", "UNSET"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_show_lists_values_with_their_origin(folder: Path):
    """Each line has key path, value and origin; notes go to stderr."""
    (folder / "opskit.yaml").write_text("nodes:\n  ollama:\n    url: http://0.0.0.0:1\n")
    result = RUNNER.invoke(app, ["show"])
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if line.startswith("nodes.ollama.url"))
    assert line.split() == ["nodes.ollama.url", "http://127.0.0.1:1", "opskit.yaml:3"]
    assert result.stderr.startswith("note: nodes.ollama.url: 0.0.0.0 is a bind address")


def test_show_as_json_hides_secrets(folder: Path, monkeypatch):
    """The document has every value, a secret only as stars or as the name it waits for."""
    monkeypatch.setenv("OLLAMA_API_KEY", "sk-secret")
    (folder / "own.yaml").write_text("nodes: {mlx: {api_key: '${UNSET}'}}")
    result = RUNNER.invoke(app, ["show", "--json", "--config", "own.yaml"])
    document = json.loads(result.stdout)
    assert (document["schema_version"], document["command"], document["ok"]) == (1, "config show", True)
    assert (document["status"], document["findings"]) == ("pass", [])
    values = {one["key"]: (one["value"], one["origin"]) for one in document["values"]}
    assert values["nodes.ollama.api_key"] == ("***", "env OLLAMA_API_KEY")
    assert values["nodes.mlx.api_key"] == ("(unset: UNSET)", "own.yaml:1")
    assert values["router.order"] == (["mlx", "ollama", "llamacpp", "openai"], "default")
    assert "sk-secret" not in result.output


def test_check_passes_a_good_file(folder: Path):
    """Exit status 0 and a passing report, with notes as warnings."""
    (folder / "opskit.yaml").write_text("nodes: {ollama: {url: 'http://0.0.0.0:1'}}")
    result = RUNNER.invoke(app, ["check", "--json"])
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"]) == (0, True)
    assert [(one["target"], one["status"]) for one in document["findings"]] == [
        (str(folder / "opskit.yaml"), "pass"),
        ("nodes.ollama.url", "warn"),
    ]


def test_check_without_a_file_says_so(folder: Path):
    """Having no file is fine."""
    result = RUNNER.invoke(app, ["check"])
    assert (result.exit_code, result.stdout) == (0, "no configuration file: defaults and environment: ok\n")


def test_check_names_every_problem(folder: Path):
    """Exit status 78, and one finding for each problem with file, line, code and remedy."""
    (folder / "opskit.yaml").write_text("debug: 1\nnodes: {mlx: {url: localhost:1}}\n")
    result = RUNNER.invoke(app, ["check"])
    assert result.exit_code == 78
    assert result.stdout.splitlines() == [
        "opskit.yaml:1:1: debug: must be true or false",
        "  correct opskit.yaml, line 1",
        "opskit.yaml:2:15: nodes.mlx.url: the address has no scheme (http:// or https://)",
        "  write http://localhost:1",
    ]
    result = RUNNER.invoke(app, ["check", "--json"])
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"], document["status"]) == (78, False, "fail")
    first, second = document["findings"]
    assert (first["check"], first["target"], first["code"]) == ("config", "debug", "CONFIG_001")
    assert first["evidence"] == {"path": "opskit.yaml", "line": 1, "column": 1}
    assert (second["code"], second["remedy"]) == ("CONFIG_003", "write http://localhost:1")


def test_check_names_a_file_that_is_not_yaml(folder: Path):
    """A mistake of form is a finding too."""
    (folder / "opskit.yaml").write_text("nodes: {\n")
    result = RUNNER.invoke(app, ["check", "--json"])
    (finding,) = json.loads(result.stdout)["findings"]
    assert (result.exit_code, finding["target"], finding["evidence"]["line"]) == (78, "opskit.yaml", 2)


def test_init_writes_a_file_that_check_passes(folder: Path):
    """The starter is a valid configuration, and a second run leaves it alone."""
    assert RUNNER.invoke(app, ["init"]).exit_code == 0
    assert RUNNER.invoke(app, ["check"]).exit_code == 0
    assert isinstance(RUNNER.invoke(app, ["init"]).exception, UsageError)
    assert RUNNER.invoke(app, ["init", "--force"]).exit_code == 0


def test_init_as_json_names_the_file(folder: Path):
    """The document tells where the file is."""
    result = RUNNER.invoke(app, ["init", "--path", "own.yaml", "--json"])
    (finding,) = json.loads(result.stdout)["findings"]
    assert (finding["target"], finding["state"]) == ("own.yaml", "written")
    assert (folder / "own.yaml").is_file()


def test_init_writes_for_the_owner_alone_and_does_not_overwrite(folder: Path):
    """Mode 0600; an existing file stays unless it is forced; nothing unfinished is left."""
    path = folder / "opskit.yaml"
    RUNNER.invoke(app, ["init"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("mine")
    assert "exists" in str(RUNNER.invoke(app, ["init"]).exception)
    assert path.read_text() == "mine"
    RUNNER.invoke(app, ["init", "--force"])
    assert path.read_text() == starter.text()
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/opskit.yaml", "folder", "file/opskit.yaml"])
def test_init_refuses_a_place_that_cannot_be_written(folder: Path, name: str):
    """One line, and nothing unfinished is left."""
    (folder / "folder").mkdir()
    (folder / "file").touch()
    result = RUNNER.invoke(app, ["init", "--force", "--path", name])
    assert isinstance(result.exception, UsageError)
    assert sorted(path.name for path in folder.iterdir()) == ["file", "folder"]
