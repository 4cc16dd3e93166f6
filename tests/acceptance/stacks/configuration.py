"""The configuration file, variables and environment files."""

from collections.abc import Iterator

from tests.acceptance.stacks.scene import Scene
from tests.acceptance.stacks.stack import broken, seems, written


@broken("env-file-missing")
def env_file_not_in_the_clone(scene: Scene) -> Iterator[None]:
    """The repository was cloned anew, and .env is in no repository."""
    scene.stack(env_files=["shop/.env"])
    yield


@broken("secret-empty")
def placeholder_left_in(scene: Scene) -> Iterator[None]:
    """.env is the copied example: the key is still a placeholder."""
    (scene.home / ".env").write_text("TZ=Europe/Berlin\nOPENROUTER_API_KEY=changeme\n")
    scene.stack(env_files=[".env"])
    yield


@seems()
def env_file_is_filled_in(scene: Scene) -> Iterator[None]:
    """Quotes, comments, export and an empty value that is no secret."""
    text = "# ours\nexport API_TOKEN='a1b2c3d4e5f6'\nHTTP_PROXY=\nDEBUG=false # later\n"
    (scene.home / ".env").write_text(text)
    scene.stack(env_files=[".env"])
    yield


@broken("secret-unset")
def key_in_no_variable(scene: Scene) -> Iterator[None]:
    """The key of a node stands in a variable of another shell."""
    server = scene.ollama()
    del scene.env["OLLAMA_API_URL"]
    scene.node("work", server.url, api_key="${WORK_OLLAMA_KEY}")
    yield


STACKS = (
    written(
        "tab_in_the_file",
        "A tab in the indentation.",
        "config-invalid",
        config="nodes:\n\tollama: {url: 'http://localhost:11434'}\n",
    ),
    written(
        "key_misspelt",
        "`ndoes` for `nodes`.",
        "config-invalid",
        config="ndoes:\n  ollama: {url: 'http://localhost:11434', source: ollama}\n",
    ),
    written(
        "key_in_the_clear",
        "The key itself stands in the file.",
        "config-invalid",
        config={
            "nodes": {"c": {"url": "https://api.example.com/v1", "source": "openai", "api_key": "sk-12345"}}
        },
    ),
    written(
        "the_same_key_twice",
        "Two sections `nodes`: the first one is lost.",
        "config-invalid",
        config="nodes: {a: {url: 'http://x:1', source: mlx}}\nnodes: {b: {url: 'http://x:2', source: mlx}}\n",
    ),
    written(
        "file_named_by_a_variable_is_gone",
        "OPSKIT_CONFIG names a file that was moved.",
        "config-invalid",
        env={"OPSKIT_CONFIG": "/etc/opskit/opskit.yaml"},
    ),
    written("nothing_configured", "Nothing is configured, and nothing is there.", config={}),
    written(
        "file_from_windows",
        "The file has a byte order mark and CRLF.",
        config="\ufeff# ours\r\nnodes:\r\n  mlx: null\r\nwatch: {memory_percent: 100, disk_percent: 100}\r\n",
    ),
)
