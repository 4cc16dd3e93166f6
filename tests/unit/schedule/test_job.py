"""What the job is given, and what it is refused."""

from pathlib import Path

import pytest

from opskit.errors import OpskitError
from opskit.schedule.environment import check_reach, denied_folder, job_path, withheld
from opskit.schedule.job import Job, SchedulePlace, planned


def program(folder: Path, name: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(folder)


def plan(
    configured, environ: dict[str, str], text: str | None = None, interpreter: str = "/opt/venv/bin/python"
) -> Job:
    place = SchedulePlace(environ, Path("/home/me"), "linux", interpreter=interpreter)
    return planned(configured(text, **environ), place)


def test_the_configuration_is_named_by_its_absolute_path(configured, tmp_path: Path) -> None:
    """A job starts in `/`, where `./opskit.yaml` is not."""
    assert plan(configured, {}, "debug: false\n").environment["OPSKIT_CONFIG"] == str(
        tmp_path / "etc/opskit.yaml"
    )


def test_only_what_is_needed_is_carried(configured) -> None:
    """Addresses and folders are; what else the shell holds, secrets above all, is not."""
    environ = {
        "OLLAMA_API_URL": "http://127.0.0.1:1",
        "XDG_STATE_HOME": "/state",
        "DOCKER_HOST": "ssh://me@box",
        "OLLAMA_API_KEY": "hush",
        "AWS_SECRET_ACCESS_KEY": "hush",
        "EDITOR": "vi",
    }
    environment = dict(plan(configured, environ).environment)
    environment.pop("PATH")
    assert environment == {
        name: environ[name] for name in ("OLLAMA_API_URL", "XDG_STATE_HOME", "DOCKER_HOST")
    }


def test_variables_of_the_file_are_carried_with_it(configured) -> None:
    """A file that refers to a variable would be invalid in the job without it."""
    text = "stack: {env_files: ['${ATRA_HOME}/.env', '${OTHER:-/x}/.env']}\n"
    environ = {"ATRA_HOME": "/srv/atra", "OTHER": "/srv/other"}
    environment = plan(configured, environ, text).environment
    assert {name: environment[name] for name in environ} == environ


def test_secrets_of_the_file_are_withheld_and_named(configured) -> None:
    """A key is not carried; its name is told, its value never."""
    text = "nodes: {router: {url: 'https://openrouter.ai/api', source: openai, api_key: '${ROUTER_KEY}'}}\n"
    environ = {"ROUTER_KEY": "hush", "MLX_API_KEY": "hush"}
    assert "ROUTER_KEY" not in plan(configured, environ, text).environment
    assert withheld(configured(text, **environ), environ) == ("MLX_API_KEY", "ROUTER_KEY")


CLOUD = "nodes: {router: {url: 'https://openrouter.ai/api', source: openai}}\n"
PROXY = {
    "https_proxy": "http://proxy.corp:3128",
    "NO_PROXY": "localhost,.corp",
    "SSL_CERT_FILE": "/etc/corp.pem",
}


def test_the_proxy_of_a_node_on_the_internet_is_carried(configured) -> None:
    """With its exceptions and the authorities to trust: the job asks its nodes as the shell does."""
    environment = plan(configured, PROXY, CLOUD).environment
    assert {name: environment.get(name) for name in PROXY} == PROXY


@pytest.mark.parametrize(
    "text",
    [
        "nodes: {router: {url: 'http://10.0.0.7:8000', source: openai}}\n",
        CLOUD.replace("router.ai", "router.corp"),
    ],
)
def test_a_proxy_that_no_node_needs_is_not_carried(configured, text: str) -> None:
    """A node of a private network, or one among the exceptions, is asked directly."""
    assert "https_proxy" not in plan(configured, PROXY, text).environment


@pytest.mark.parametrize("proxy", ["http://me:hush@proxy.corp:3128", "me:hush@proxy.corp:3128"])
def test_the_password_of_a_proxy_is_withheld(configured, proxy: str) -> None:
    """It does not stand in the file of a scheduler, and does not end the installation: it is named."""
    environ = {"HTTPS_PROXY": proxy}
    assert "HTTPS_PROXY" not in plan(configured, environ, CLOUD).environment
    assert withheld(configured(CLOUD, **environ), environ) == ("HTTPS_PROXY",)


@pytest.mark.parametrize(
    "environ, text",
    [
        ({"DOCKER_HOST": "tcp://me:hush@box:2375"}, None),
        ({"VLLM_TOKEN": "hush"}, "stack: {start: {mlx: [serve, '${VLLM_TOKEN}']}}\n"),
        ({"PLACE": "https://me:hush@box/x"}, "stack: {env_files: ['${PLACE}']}\n"),
    ],
)
def test_a_credential_is_refused(configured, environ: dict[str, str], text: str | None) -> None:
    """What would lie open in a plist or unit ends the installation with SCHEDULE_004, unquoted."""
    with pytest.raises(OpskitError) as raised:
        plan(configured, environ, text)
    assert raised.value.code == "SCHEDULE_004"
    assert next(iter(environ)) in raised.value.message
    assert "hush" not in raised.value.message + raised.value.remedy


def test_the_deadline_follows_the_budget(configured) -> None:
    """systemd waits until recovery has had its budget and time to write down how it ended."""
    assert plan(configured, {}).limit_s == 280
    assert plan(configured, {}, "recovery: {budget_s: 100.5}\n").limit_s == 141


@pytest.mark.parametrize("interpreter", ['/a"b/python', "/a\\b/python", "/a$b/python", "/a\nb/python"])
def test_an_interpreter_that_no_unit_can_name_is_refused(configured, interpreter: str) -> None:
    """systemd would refuse it with a sentence about special characters; we say what to do."""
    with pytest.raises(OpskitError) as raised:
        plan(configured, {}, interpreter=interpreter)
    assert raised.value.code == "CONFIG_001"


def test_path_is_made_of_where_programs_are(tmp_path: Path) -> None:
    """Folders of found programs come first, in the shell's way, then those of the system that exist."""
    docker, mlx = program(tmp_path / "docker bin", "docker"), program(tmp_path / "mlx", "mlx_lm.server")
    program(tmp_path / "unused", "vi")
    shell = f"{tmp_path / 'unused'}:{docker}:relative:{mlx}:{tmp_path / 'gone'}"
    found = job_path(["mlx_lm.server", "/abs/else"], {"PATH": shell}, platform="linux", home=tmp_path).split(
        ":"
    )
    assert docker in found
    assert mlx in found
    assert not {str(tmp_path / "unused"), "relative", str(tmp_path / "gone"), "/abs"} & set(found)
    assert found.index("/usr/bin") > found.index(mlx)
    assert len(found) == len(set(found))
    assert all(Path(one).is_dir() for one in found)


def test_path_finds_what_the_shell_does_not(tmp_path: Path) -> None:
    """OrbStack puts its programs into the home folder, which not every shell has on PATH."""
    orb = program(tmp_path / ".orbstack/bin", "orb")
    found = job_path([], {"PATH": "/usr/bin"}, platform="darwin", home=tmp_path).split(":")
    assert found[0] == orb
    assert "/usr/local/sbin" not in found


@pytest.mark.parametrize(
    "where", ["Documents/x/opskit.yaml", "documents/opskit.yaml", "Desktop/a", "Downloads/b/c", "Desktop"]
)
def test_denied_folders_are_known(tmp_path: Path, where: str) -> None:
    """Capitals make no difference on a Mac, and neither does depth."""
    assert denied_folder(tmp_path / where, tmp_path) is not None


@pytest.mark.parametrize("where", ["opskit.yaml", "Documents2/x", "projects/Documents/x", ".config/opskit"])
def test_other_folders_are_free(tmp_path: Path, where: str) -> None:
    """Only the folders of the home folder itself are denied."""
    assert denied_folder(tmp_path / where, tmp_path) is None


def test_a_link_into_a_denied_folder_is_seen(tmp_path: Path) -> None:
    """The path that the job opens is the one behind the link."""
    (tmp_path / "Documents").mkdir()
    (tmp_path / "stack").symlink_to(tmp_path / "Documents")
    assert denied_folder(tmp_path / "stack/compose.yml", tmp_path) == "Documents"


def test_every_path_of_the_job_is_checked(configured, tmp_path: Path) -> None:
    """Interpreter, compose files and env files are all named in one refusal."""
    text = "stack: {compose: {os: [~/Desktop/os.yml]}, env_files: [~/Downloads/.env]}\n"
    config = configured(text)
    home = Path("~").expanduser()
    with pytest.raises(OpskitError) as raised:
        check_reach(config, str(home / "Documents/venv/bin/python"), home=home)
    assert raised.value.code == "SCHEDULE_003"
    assert all(one in raised.value.message for one in ("Documents/venv", "os.yml", "Downloads/.env"))
