"""Which file is read, what wins over what, and where each value comes from."""

import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from opskit.config.load import InvalidConfigError, load, running_in_docker
from opskit.config.origins import Origin, Setting, default_settings, localhost_settings
from opskit.config.schema import Budgets, RouterConfig
from opskit.errors import ConfigError, Exit

MINIMAL = "limits: {goal_bytes: %d}\n"


def environ_of(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "XDG_STATE_HOME": str(tmp_path / "state"), **more}


def test_nothing_at_all_is_a_valid_configuration(configured):
    """Without a file and without variables the defaults hold."""
    loaded = configured()
    assert loaded.config.path is None
    assert [node.name for node in loaded.config.nodes] == ["ollama", "mlx"]
    assert [agent.name for agent in loaded.config.agents] == ["victoria", "veronica"]
    assert (loaded.config.router, loaded.config.budgets) == (RouterConfig(), Budgets())
    assert not loaded.notes


def test_the_first_file_of_the_search_order_wins(tmp_path: Path):
    """--config, then OPSKIT_CONFIG, then ./opskit.yaml, then the XDG folder."""
    xdg = tmp_path / "xdg" / "opskit" / "config.yaml"
    xdg.parent.mkdir(parents=True)
    places = [tmp_path / "flag.yaml", tmp_path / "variable.yaml", tmp_path / "opskit.yaml", xdg]
    for number, place in enumerate(places, 1):
        place.write_text(MINIMAL % number)
    environ = environ_of(tmp_path, OPSKIT_CONFIG=str(places[1]))
    found = [load("flag.yaml", environ=environ, cwd=tmp_path)]
    found.append(load(environ=environ, cwd=tmp_path))
    found.append(load(environ=environ_of(tmp_path, OPSKIT_CONFIG=""), cwd=tmp_path))
    places[2].unlink()
    found.append(load(environ=environ_of(tmp_path), cwd=tmp_path))
    assert [one.config.limits.goal_bytes for one in found] == [1, 2, 3, 4]
    assert [one.config.path for one in found] == [str(place) for place in places]


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_named_file_must_exist(tmp_path: Path, how: str):
    """A missing file that was asked for is CONFIG_002 and exit status 78."""
    path = "missing.yaml" if how == "flag" else None
    environ = environ_of(tmp_path, **({} if path else {"OPSKIT_CONFIG": "missing.yaml"}))
    with pytest.raises(ConfigError, match=r"^missing\.yaml: ") as raised:
        load(path, environ=environ, cwd=tmp_path)
    assert (raised.value.code, raised.value.exit) == ("CONFIG_002", Exit.CONFIG)


@pytest.mark.parametrize("path", [".", "", "a\0b"])
def test_a_path_that_is_no_file_is_said_so(tmp_path: Path, path: str):
    """A folder, an empty path and an impossible path are CONFIG_002 in one line."""
    with pytest.raises(ConfigError) as raised:
        load(path, environ=environ_of(tmp_path), cwd=tmp_path)
    assert raised.value.code == "CONFIG_002"
    assert raised.value.message.isprintable()


def test_a_file_beyond_the_size_limit_is_refused(problems):
    """Nothing larger than 1 MiB is even parsed."""
    assert problems(b"#" * (1024 * 1024 + 1))[0].message == "larger than 1048576 bytes"


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(configured):
    """Precedence is environment, file, default, and each value tells which it was."""
    loaded = configured(
        "nodes:\n  ollama:\n    url: http://file:1\n    num_ctx: 4096\n",
        {"OLLAMA_API_URL": "http://env:2/v1/"},
    )
    node = loaded.config.node("ollama")
    assert (node.url, node.num_ctx, node.explicit) == ("http://env:2", 4096, True)
    assert loaded.origins["nodes.ollama.url"] == Origin("env", "OLLAMA_API_URL")
    assert loaded.origins["nodes.ollama.num_ctx"] == Origin("file", "opskit.yaml:4")
    assert loaded.origins["nodes.ollama.protocol"] == Origin("default")
    assert loaded.origins["nodes.mlx.url"] == Origin("default")


def test_the_default_host_depends_on_docker(configured):
    """Outside Docker it is localhost, inside the host's name; neither counts as explicit."""
    outside, inside = configured(in_docker=False).config, configured(in_docker=True).config
    assert [node.url for node in outside.nodes] == ["http://localhost:11434", "http://localhost:11435"]
    assert [one.url for one in outside.agents] == ["http://localhost:8010", "http://localhost:8011"]
    assert inside.node("mlx").url == "http://host.docker.internal:11435"
    assert not any(one.explicit for one in (*outside.nodes, *outside.agents))


def test_a_container_that_does_not_know_its_host_looks_at_localhost(tmp_path: Path):
    """Where host.docker.internal does not resolve, the default addresses are those of the container."""
    try:
        socket.getaddrinfo("host.docker.internal", None)
        host = "host.docker.internal" if running_in_docker() else "localhost"
    except OSError:
        host = "localhost"
    config = load(None, environ=environ_of(tmp_path), cwd=tmp_path).config
    assert {urlsplit(member.url).hostname for member in (*config.nodes, *config.agents)} == {host}


def test_only_default_addresses_in_use_move_to_localhost():
    """What a file or a variable says, and what is switched off, stays."""
    layers = default_settings({}, in_docker=True)
    layers["nodes.ollama.url"] = Setting("http://box:1", Origin("env", "OLLAMA_API_URL"))
    layers["nodes.mlx.enabled"] = Setting(False, Origin("file", "opskit.yaml:1"))
    moved = localhost_settings(layers)
    assert {key: setting.value for key, setting in moved.items()} == {
        "agents.victoria.url": "http://localhost:8010",
        "agents.veronica.url": "http://localhost:8011",
    }


@pytest.mark.parametrize("variable", ["OLLAMA_API_URL", "OLLAMA_BASE_URL"])
def test_the_variable_of_ollama_is_used_where_nothing_else_says_where_it_is(configured, variable: str):
    """OLLAMA_HOST gives the address, with its origin; the file and the other variables win over it."""
    server = {"OLLAMA_HOST": "0.0.0.0:11500"}
    loaded = configured("nodes: {ollama: {num_ctx: 4096}}", server)
    node = loaded.config.node("ollama")
    assert (node.url, node.explicit, loaded.notes) == ("http://127.0.0.1:11500", True, ())
    assert str(loaded.origins["nodes.ollama.url"]) == "env OLLAMA_HOST"
    assert (
        configured(environ={**server, variable: "http://api:1"}).config.node("ollama").url == "http://api:1"
    )
    file = "nodes: {ollama: {url: http://file:1}}"
    assert configured(file, {"OLLAMA_HOST": "me:pw@x"}).config.node("ollama").url == "http://file:1"


def test_an_empty_variable_of_ollama_says_nothing(configured):
    """Ollama takes it for its default address, and so does opskit."""
    assert configured(environ={"OLLAMA_HOST": " "}).config.node("ollama").url == "http://localhost:11434"


def test_a_wrong_variable_of_ollama_is_a_problem(problems):
    """It is named, and its text is not shown."""
    [problem] = problems(environ={"OLLAMA_HOST": "http://me:geheim@box"})
    assert (problem.path, problem.key) == ("OLLAMA_HOST", "nodes.ollama.url")
    assert "geheim" not in str(problem)


def test_ollama_api_url_comes_before_ollama_base_url(configured):
    """The first of the two that is set decides."""
    both = {"OLLAMA_API_URL": "http://api:1", "OLLAMA_BASE_URL": "http://base:1"}
    assert configured(environ=both).config.node("ollama").url == "http://api:1"
    del both["OLLAMA_API_URL"]
    assert configured(environ=both).config.node("ollama").url == "http://base:1"


@pytest.mark.parametrize(
    "variable, key",
    [
        ("OLLAMA_API_URL", "nodes.ollama"),
        ("OLLAMA_BASE_URL", "nodes.ollama"),
        ("MLX_API_URL", "nodes.mlx"),
        ("VICTORIA_URL", "agents.victoria"),
        ("VERONICA_URL", "agents.veronica"),
    ],
)
def test_an_empty_url_variable_switches_off(configured, variable: str, key: str):
    """Set to nothing means not configured, even when the file has an address."""
    group, name = key.split(".")
    loaded = configured(f"{group}: {{{name}: {{url: http://file:1}}}}", {variable: " "})
    assert name not in [one.name for one in getattr(loaded.config, group)]
    assert loaded.origins[f"{key}.enabled"] == Origin("env", variable)


def test_an_empty_variable_that_hides_another_is_noted(configured):
    """Who empties OLLAMA_API_URL while OLLAMA_BASE_URL is set is told that the latter is not read."""
    loaded = configured(environ={"OLLAMA_API_URL": "", "OLLAMA_BASE_URL": "http://base:1"})
    assert loaded.notes == (
        "nodes.ollama.enabled: off, because OLLAMA_API_URL is empty; OLLAMA_BASE_URL is not read",
    )


def test_a_variable_switches_a_node_on_again(configured):
    """An address in the environment wins over a null in the file."""
    assert (
        configured("nodes: {mlx: null}", {"MLX_API_URL": "http://m:1"}).config.node("mlx").url == "http://m:1"
    )


def test_the_other_variables_are_read(configured, tmp_path: Path):
    """Debug, the MLX leg, Victoria's model, the state folder and the keys come from the environment."""
    config = configured(
        environ={
            "USE_MLX_FALLBACK": "No",
            "VICTORIA_DEBUG": "TRUE",
            "VICTORIA_MODEL": "qwen2.5:3b",
            "OPSKIT_STATE_DIR": "here",
            "OLLAMA_API_KEY": "key-o",
            "MLX_API_KEY": "key-m\n",
        },
    ).config
    assert (config.router.use_mlx_fallback, config.debug, config.victoria_model) == (
        False,
        True,
        "qwen2.5:3b",
    )
    assert config.state_dir == str(tmp_path / "here")
    assert [node.api_key for node in config.nodes] == ["key-o", "key-m"]


@pytest.mark.parametrize(
    "variable", ["USE_MLX_FALLBACK", "VICTORIA_DEBUG", "VICTORIA_MODEL", "OPSKIT_STATE_DIR", "OLLAMA_API_KEY"]
)
def test_another_variable_that_is_empty_says_nothing(configured, variable: str):
    """Compose files pass empty variables on; only for an address does that mean something."""
    assert configured(environ={variable: ""}).config == configured().config


@pytest.mark.parametrize(
    "variable, value, key",
    [
        ("USE_MLX_FALLBACK", "maybe", "router.use_mlx_fallback"),
        ("VICTORIA_DEBUG", "2", "debug"),
        ("VICTORIA_MODEL", "a\x1b[31m", "victoria_model"),
        ("OPSKIT_STATE_DIR", "~nobody-has-this-name/x", "state_dir"),
        ("OLLAMA_API_KEY", "clé-secrète", "nodes.ollama.api_key"),
        ("MLX_API_URL", "http://user:pw-secret@host", "nodes.mlx.url"),
    ],
)
def test_a_bad_variable_is_named_without_its_value(problems, variable: str, value: str, key: str):
    """The message has the variable and the key path, never what stands in it."""
    (problem,) = problems(environ={variable: value})
    assert (problem.path, problem.line, problem.key) == (variable, None, key)
    assert value not in f"{problem} {problem.advice}"
    assert "secret" not in f"{problem} {problem.advice}"


def test_every_problem_is_collected(configured):
    """The message shows the first and counts the others; `problems` has all, file before environment."""
    with pytest.raises(InvalidConfigError) as raised:
        configured("debug: 1\nlogs: {}\nrouter: {order: []}\n", {"VICTORIA_URL": "ftp://x"})
    error = raised.value
    assert error.message == "opskit.yaml:1:1: debug: must be true or false (and 3 more: opskit config check)"
    assert [(one.line, one.key, one.code) for one in error.problems] == [
        (1, "debug", "CONFIG_001"),
        (2, "logs", "CONFIG_001"),
        (3, "router.order", "CONFIG_001"),
        (None, "agents.victoria.url", "CONFIG_003"),
    ]
    assert error.exit is Exit.CONFIG


def test_the_xdg_folder_counts_only_when_absolute(tmp_path: Path):
    """A relative XDG_CONFIG_HOME is ignored, as the XDG specification asks."""
    (tmp_path / "rel" / "opskit").mkdir(parents=True)
    (tmp_path / "rel" / "opskit" / "config.yaml").write_text(MINIMAL % 5)
    home = environ_of(tmp_path) | {"XDG_CONFIG_HOME": "rel"}
    assert load(environ=home, cwd=tmp_path).config.limits.goal_bytes != 5


def test_start_up_without_a_file_needs_neither_pydantic_nor_yaml():
    """Import time is paid only when there is something to parse."""
    code = (
        "import sys, pathlib; import opskit.config.schema; from opskit.config.load import load;"
        "load(environ={'XDG_CONFIG_HOME': '/nowhere'}, cwd=pathlib.Path('/nowhere'));"
        "print([name for name in ('pydantic', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
