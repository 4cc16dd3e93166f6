"""The machine: room, names, clocks, permissions, the state folder."""

from collections.abc import Iterator
from datetime import timedelta

from tests.acceptance.stacks.pages import OLLAMA, Page, served
from tests.acceptance.stacks.scene import Scene
from tests.acceptance.stacks.stack import broken, seems

NO_OVERRIDE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")


def mounted(scene: Scene, options: str, then: str) -> None:
    """Run the doctor with a small file system for its state, after `then` was done in it."""
    state = scene.folder("state")
    script = f'mount -t tmpfs -o {options} none "$0" && cd "$0" && {{ {then}; }}; cd "$OLDPWD" && exec "$@"'
    scene.prefix = ["unshare", "--mount", "sh", "-c", script, str(state)]


@broken("disk-full", also=("state-unusable",))
def disk_without_a_byte(scene: Scene) -> Iterator[None]:
    """The disk of the state folder is full to the last byte."""
    mounted(scene, "size=1m", "head -c 2000000 /dev/zero > fill 2> /dev/null")
    scene.config = {"watch": {"memory_percent": 100, "disk_percent": 90}}
    yield


@broken("disk-full", also=("state-unusable",))
def disk_without_a_file_more(scene: Scene) -> Iterator[None]:
    """The disk has room and no inode left: no file can be made."""
    mounted(
        scene,
        "size=4m,nr_inodes=20",
        "mkdir -p opskit; i=0; while echo > f$i; do i=$((i+1)); done 2> /dev/null",
    )
    scene.config = {"watch": {"memory_percent": 100, "disk_percent": 90}}
    yield


@broken("localhost-unresolved", also=("node-unreachable:ollama",))
def hosts_file_was_emptied(scene: Scene) -> Iterator[None]:
    """A script emptied /etc/hosts: localhost has no address."""
    server = scene.ollama()
    scene.env["OLLAMA_API_URL"] = server.url.replace("127.0.0.1", "localhost")
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    (scene.home / "hosts").write_text("# nothing\n")
    scene.prefix = ["unshare", "--mount", "sh", "-c", script, str(scene.home / "hosts")]
    yield


@broken("clock-skew")
def clock_of_a_node_is_off(scene: Scene) -> Iterator[None]:
    """The clock of the node's machine is two hours slow."""
    scene.ollama()
    pages = {path: Page(page) for path, page in OLLAMA.items()}
    pages["/api/tags"] = Page(
        {"models": [{"name": "m:1b", "model": "m:1b", "size": 1, "digest": "d", "details": {}}]}
    )
    port = scene.closing.enter_context(served(pages, clock=timedelta(hours=-2)))
    scene.node("lab", f"http://127.0.0.1:{port}")
    yield


@broken("config-invalid")
def configuration_of_root(scene: Scene) -> Iterator[None]:
    """opskit.yaml was written with sudo and can be read by root alone."""
    path = scene.home / "config/opskit/config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("nodes: {}\n")
    path.chmod(0)
    scene.prefix = NO_OVERRIDE
    scene.env["OPSKIT_CONFIG"] = str(path)
    yield


@broken("env-file-missing|secret-empty")
def env_file_of_root(scene: Scene) -> Iterator[None]:
    """The .env of the stack can be read by root alone."""
    path = scene.home / "stack.env"
    path.write_text("DB_PASSWORD=abcdefgh\n")
    path.chmod(0)
    scene.stack(env_files=["stack.env"])
    scene.prefix = NO_OVERRIDE
    yield


@broken("state-unusable")
def state_folder_of_root(scene: Scene) -> Iterator[None]:
    """The state folder belongs to root since opskit was run with sudo: nothing can be written."""
    scene.folder("state/opskit").chmod(0o500)
    scene.prefix = NO_OVERRIDE
    yield


@seems()
def lock_file_left_behind(scene: Scene) -> Iterator[None]:
    """A recovery was killed: its lock file is there, and nobody holds it."""
    (scene.folder("state/opskit") / "recover.lock").write_text("99999\n")
    scene.ollama()
    yield
