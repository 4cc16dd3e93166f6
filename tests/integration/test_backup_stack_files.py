"""What the stack is started from is in the backup, or the backup fails and says which file is not."""

import json
from pathlib import Path

import pytest

from opskit.backup.catalog import CreatedBackup, catalog_of
from opskit.backup.selection import stack_files
from opskit.config.load import load
from opskit.result import Status
from tests.parts.backups import NOW


@pytest.fixture
def home(tmp_path: Path) -> Path:
    root = tmp_path / "home"
    (root / "deploy" / "prod").mkdir(parents=True)
    (root / ".env").write_text("A=1\n")
    return root


def made(home: Path, *, environ: dict[str, str] | None = None, **more: object) -> CreatedBackup:
    """A backup with `home` as the folder of the configuration."""
    content = {"state_dir": str(home.parent / "state"), **more}
    (home / "opskit.yaml").write_text(json.dumps(content))
    config = load(str(home / "opskit.yaml"), environ={}, cwd=home).config
    catalog = catalog_of(config)
    with catalog.lock():
        return catalog.create(now=NOW, stack_files=stack_files(config, environ or {}))


def kept(created: CreatedBackup) -> set[str]:
    return {entry.path for entry in created.manifest.entries if entry.kind != "folder"}


def skipped(created: CreatedBackup) -> dict[str, str]:
    return {one.path: one.reason for one in created.manifest.skipped}


def test_files_that_no_pattern_selects_are_kept(home: Path) -> None:
    """A nested Compose file, the `.env` beside it, its environment files, secrets, includes and bases."""
    deploy = home / "deploy"
    (deploy / "prod" / "stack.yml").write_text(
        json.dumps(
            {
                "include": ["../common.yml"],
                "services": {
                    "a": {"env_file": ["a.env", {"path": "b.env"}], "extends": {"file": "../base.yml"}},
                    "b": {"env_file": "missing.env"},
                },
                "secrets": {"token": {"file": "./token.txt"}},
            }
        )
    )
    (deploy / "common.yml").write_text(json.dumps({"services": {"c": {"env_file": "c.env"}}}))
    (deploy / "base.yml").write_text("services: {}")
    for name in ("prod/.env", "prod/a.env", "prod/b.env", "prod/token.txt", "c.env", "other.txt"):
        (deploy / name).write_text("X=1")
    created = made(home, stack={"compose": {"prod": ["deploy/prod/stack.yml"]}})
    names = {"prod/stack.yml", "prod/.env", "prod/a.env", "prod/b.env", "prod/token.txt"}
    names |= {"common.yml", "base.yml", "c.env"}
    assert kept(created) == {".env", "opskit.yaml", *(f"deploy/{name}" for name in names)}
    assert created.report.status is Status.PASS


def test_files_outside_the_root_fail_the_backup(home: Path) -> None:
    """Each is named with the key that names it; the rest is in the archive."""
    other = home.parent / "other"
    other.mkdir()
    (other / "docker-compose.yml").write_text("services: {}")
    (other / ".env").write_text("SECRET=1")
    created = made(
        home,
        stack={"compose": {"out": [str(other / "docker-compose.yml")]}, "env_files": [str(other / "x.env")]},
    )
    assert created.report.status is Status.FAIL
    reasons = skipped(created)
    assert set(reasons) == {str(other / name) for name in ("docker-compose.yml", ".env", "x.env")}
    assert "lies outside" in reasons[str(other / ".env")]
    assert "(stack.compose.out)" in reasons[str(other / ".env")]
    assert "it is not there (stack.env_files)" in reasons[str(other / "x.env")]
    assert kept(created) == {".env", "opskit.yaml"}


def test_a_root_that_holds_both_keeps_both(home: Path) -> None:
    """`backup.root` above two projects: every file of theirs is kept without a pattern for it."""
    (home / "a").mkdir()
    (home / "b").mkdir()
    for name in ("a/docker-compose.yml", "b/docker-compose.yml"):
        (home / name).write_text("services: {}")
    (home / "b" / ".env").write_text("B=1")
    compose = {"a": ["a/docker-compose.yml"], "b": ["b/docker-compose.yml"]}
    created = made(home, stack={"compose": compose})
    assert {"a/docker-compose.yml", "b/docker-compose.yml", "b/.env"} <= kept(created)
    assert skipped(created) == {}


def test_a_missing_compose_file_fails_the_backup(home: Path) -> None:
    """The stack cannot be started without it."""
    created = made(home, stack={"compose": {"a": ["gone.yml"]}})
    assert skipped(created) == {str(home / "gone.yml"): "it is not there (stack.compose.a)"}


def test_what_a_person_takes_out_stays_out(home: Path) -> None:
    """`!` in `backup.files` is their word: no secrets in the archive, and no failure."""
    (home / "docker-compose.yml").write_text("services: {}")
    created = made(
        home,
        stack={"compose": {"a": ["docker-compose.yml"]}},
        backup={"files": ["*.yml", "*.yaml", "!**/.env"]},
    )
    assert kept(created) == {"docker-compose.yml", "opskit.yaml"}
    assert created.report.status is Status.PASS


@pytest.mark.parametrize(
    ("name", "environ", "expected"),
    [
        ("${WHERE}/a.env", {"WHERE": "deploy"}, {"deploy/a.env"}),
        ("$WHERE/a.env", {"WHERE": "deploy"}, {"deploy/a.env"}),
        ("${WHERE:-deploy}/a.env", {}, {"deploy/a.env"}),
        ("${WHERE-deploy}/a.env", {}, {"deploy/a.env"}),
        ("${FROM_FILE}/a.env", {}, {"deploy/a.env"}),
        ("${WHERE}/a.env", {}, None),
    ],
)
def test_variables_in_names_are_resolved(
    home: Path, name: str, environ: dict[str, str], expected: set[str] | None
) -> None:
    """By the environment, the `.env` beside the file and defaults; one without a value fails."""
    (home / ".env").write_text("FROM_FILE=deploy\n")
    (home / "deploy" / "a.env").write_text("X=1")
    (home / "compose.yml").write_text(json.dumps({"services": {"a": {"env_file": name}}}))
    created = made(home, environ=environ, stack={"compose": {"a": ["compose.yml"]}})
    assert kept(created) - {".env", "opskit.yaml", "compose.yml"} == (expected or set())
    assert bool(skipped(created)) is (expected is None)


def test_a_linked_compose_file_is_kept_as_the_link_that_it_is(home: Path) -> None:
    """`compose.yml -> deploy/prod.yml`: link and file are in the archive."""
    (home / "deploy" / "prod.yml").write_text("services: {}")
    (home / "linked.yml").symlink_to("deploy/prod.yml")
    created = made(home, stack={"compose": {"a": ["linked.yml"]}})
    assert {"linked.yml", "deploy/prod.yml"} <= kept(created)


def test_files_laid_over_one_another_share_a_folder(home: Path) -> None:
    """As for Compose, a name in the second file belongs to the folder of the first."""
    (home / "docker-compose.yml").write_text("services: {}")
    (home / "deploy" / "prod.yml").write_text(json.dumps({"services": {"a": {"env_file": "deploy/a.env"}}}))
    (home / "deploy" / "a.env").write_text("X=1")
    created = made(home, stack={"compose": {"a": ["docker-compose.yml", "deploy/prod.yml"]}})
    assert {"docker-compose.yml", "deploy/prod.yml", "deploy/a.env"} <= kept(created)


def test_what_a_nested_project_is_started_from_is_kept(home: Path) -> None:
    """`include: sub/docker-compose.yml` has its variables in `sub/.env` and names files from there."""
    sub = home / "deploy" / "sub"
    sub.mkdir()
    (home / "docker-compose.yml").write_text(json.dumps({"include": ["deploy/sub/docker-compose.yml"]}))
    (sub / "docker-compose.yml").write_text(json.dumps({"services": {"a": {"env_file": "svc/.env"}}}))
    (sub / "svc").mkdir()
    for name in (".env", "svc/.env"):
        (sub / name).write_text("X=1")
    created = made(home, stack={"compose": {"a": ["docker-compose.yml"]}})
    assert {f"deploy/sub/{name}" for name in ("docker-compose.yml", ".env", "svc/.env")} <= kept(created)


def test_a_compose_file_that_cannot_be_read_is_named(home: Path) -> None:
    """Broken YAML is kept as it is; files that include one another end."""
    (home / "a.yml").write_text("services: [")
    (home / "b.yml").write_text("include: [c.yml]")
    (home / "c.yml").write_text("include: [b.yml]")
    created = made(home, stack={"compose": {"a": ["a.yml"], "b": ["b.yml"]}})
    assert {"a.yml", "b.yml", "c.yml"} <= kept(created)
    assert created.report.status is Status.PASS
