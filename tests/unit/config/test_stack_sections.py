"""The sections for recovery, notices and backups, as a person writes them."""

from pathlib import Path

import pytest

from opskit.config.load import InvalidConfigError, load


def test_compose_files_keep_their_case(configured):
    """Only patterns of models are lower-cased; a path stays as it was written."""
    loaded = configured("stack: {compose: {knowledge-os: [/srv/Stack/docker-compose.yml]}}")
    assert loaded.config.stack.compose == {"knowledge-os": ("/srv/Stack/docker-compose.yml",)}


def test_one_container_is_named_and_the_others_stay(configured):
    """Named entries are merged one by one with the defaults."""
    loaded = configured("stack: {containers: {victoria: [vic]}}")
    assert loaded.config.stack.containers == {"victoria": ("vic",), "veronica": ("veronica-agent",)}


def test_an_address_of_notices_is_a_secret(configured):
    """A webhook comes from the environment and is never shown."""
    loaded = configured("notices: {webhook: '${HOOK}'}", {"HOOK": "https://hooks.example/T0/secret"})
    assert loaded.config.notices.webhook == "https://hooks.example/T0/secret"
    assert "secret" not in repr(loaded.config.notices)


def test_an_address_of_notices_is_refused_in_plain_text(configured):
    """Secrets only as ${NAME}, and the value is not quoted."""
    with pytest.raises(InvalidConfigError, match="secrets only as") as caught:
        configured("notices: {ping: 'https://hc.example/abc'}")
    assert "abc" not in str(caught.value)


def test_a_budget_of_no_repairs_is_refused(configured):
    """Zero would switch healing off by accident."""
    with pytest.raises(InvalidConfigError, match="at least 1"):
        configured("recovery: {max_repairs: 0}")


def test_a_relative_path_belongs_to_the_folder_of_the_file(configured, tmp_path):
    """Under a scheduler the working folder is `/`."""
    config = configured("debug: false").config
    assert config.path is not None
    assert str(config.located("a/b.yml")).endswith("/a/b.yml")
    assert config.located("a/b.yml").is_absolute()


@pytest.mark.parametrize("names", [["docker-compose.yml"], ["compose.yaml", "compose.override.yml"]])
def test_a_folder_of_a_project_stands_for_its_files(tmp_path: Path, names: list[str]):
    """They are what Compose itself finds in it."""
    (tmp_path / "app").mkdir()
    for name in names:
        (tmp_path / "app" / name).write_text("services: {}\n")
    (tmp_path / "opskit.yaml").write_text("stack: {compose: {app: [app]}}\n")
    config = load(environ={"HOME": str(tmp_path)}, cwd=tmp_path, in_docker=False).config
    assert config.compose_files() == {"app": tuple(tmp_path / "app" / name for name in names)}
