"""Docker and Compose, on a real daemon."""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from docker.models.containers import Container

from tests.acceptance.stacks.scene import LIMIT_S, Scene
from tests.acceptance.stacks.stack import broken, seems
from tests.parts.composed import WAIT, Composed
from tests.parts.docker import IMAGE
from tests.parts.raw_server import free_port

DOCKER = ("docker_engine",)
RUNS = {"image": IMAGE, "command": ["sleep", "1000"], "stop_signal": "SIGKILL"}


def until(container: Container, true: Callable[[Mapping[str, Any]], object]) -> None:
    """Wait until `docker inspect` says so."""
    limit = time.monotonic() + LIMIT_S
    while True:
        container.reload()
        if true(container.attrs):
            return
        assert time.monotonic() < limit, container.attrs["State"]
        time.sleep(0.05)


def container_of(project: Composed, service: str) -> Container:
    """The container of a service."""
    labels = [f"com.docker.compose.project={project.project}", f"com.docker.compose.service={service}"]
    return project.box.client.containers.list(all=True, filters={"label": labels})[0]


def started_long_ago(scene: Scene) -> None:
    """Let nothing count as still starting."""
    assert isinstance(scene.config, dict)
    scene.config["recovery"] = {"startup_grace_s": 0.1}


def health(test: str, **options: Any) -> dict[str, Any]:
    return {"test": ["CMD-SHELL", test], "interval": "0.2s", "timeout": "1s", "retries": 2, **options}


@broken("container-restarting", words=("KeyError: DATABASE_URL",), needs=DOCKER)
def crash_loop_of_a_service(scene: Scene) -> Iterator[None]:
    """The service ends at once because a setting is missing, and Docker restarts it again and again."""
    worker = {"image": IMAGE, "command": ["sh", "-c", "echo 'KeyError: DATABASE_URL' >&2; exit 1"]}
    project = scene.compose({"crashing": {**worker, "restart": "always"}, "web": RUNS})
    container = container_of(project, "crashing")
    until(container, lambda seen: seen["RestartCount"] >= 3)
    yield


@broken("container-restarting", words=("FATAL: password authentication failed", "***@"), needs=DOCKER)
def password_in_the_last_words(scene: Scene) -> Iterator[None]:
    """The database refuses the worker, whose complaint quotes the address with the password."""
    script = (
        "echo INFO: connecting; echo 'ERROR: postgresql://app:hunter2-or-3@db/shop: FATAL: password "
        "authentication failed' >&2; echo INFO: bye; exit 2"
    )
    worker = {"image": IMAGE, "command": ["sh", "-c", script], "restart": "always"}
    container = container_of(scene.compose({"worker": worker}), "worker")
    until(container, lambda seen: seen["RestartCount"] >= 3)
    yield


@broken("container-stopped", words=("uvicorn", "correct that in its Compose file"), needs=DOCKER)
def program_that_the_image_lacks(scene: Scene) -> Iterator[None]:
    """Docker could not start the service: its log is empty, and another start fails as well."""
    scene.compose({"api": {"image": IMAGE, "command": ["uvicorn", "app:app"]}, "web": RUNS})
    yield


@broken("agent-down:veronica", words=("nothing answers at 9999/tcp in container",), needs=DOCKER)
def published_port_without_a_server(scene: Scene) -> Iterator[None]:
    """Docker publishes a port at which nothing listens in the container: it accepts, and closes."""
    published_agent(scene, "PORT:9999")
    yield


@broken("port-published-elsewhere:veronica", needs=DOCKER)
def published_on_another_loopback_address(scene: Scene) -> Iterator[None]:
    """The port is published on 127.0.0.2, and the agent is looked for at 127.0.0.1."""
    published_agent(scene, "127.0.0.2:PORT:8003")
    yield


@broken("container-stopped", words=("docker start",), needs=DOCKER)
def stopped_container_of_an_agent(scene: Scene) -> Iterator[None]:
    """The container that publishes the port of an agent has ended, and bears a name of its own."""
    project = published_agent(scene, "PORT:8003", ["sh", "-c", "exit 1"])
    container_of(project, "brain").wait()
    yield


def published_agent(scene: Scene, binding: str, command: Any = ("httpd", "-f", "-p", "8003")) -> Composed:
    """Start a service whose published port is that of Veronica."""
    port = free_port()
    scene.env["VERONICA_URL"] = f"http://127.0.0.1:{port}"
    brain = {**RUNS, "command": list(command), "ports": [binding.replace("PORT", str(port))]}
    return scene.compose({"brain": {**brain, "networks": ["flows"]}}, networks={"flows": {}})


@broken("container-missing", needs=DOCKER)
def image_that_nobody_has(scene: Scene) -> Iterator[None]:
    """The image of a service is in no registry that can be reached: it was never created."""
    scene.compose({"web": RUNS, "vision": {"image": "registry.invalid/vision:2"}})
    yield


@broken("container-unhealthy", also=("container-missing", "container-stopped"), needs=DOCKER)
def waits_for_an_unhealthy_database(scene: Scene) -> Iterator[None]:
    """The web service depends on a healthy database, which never becomes healthy."""
    web = {**RUNS, "depends_on": {"base": {"condition": "service_healthy"}}}
    project = scene.compose({"base": {**RUNS, "healthcheck": health("exit 1")}, "front": web})
    started_long_ago(scene)
    container = container_of(project, "base")
    until(container, lambda seen: seen["State"]["Health"]["Status"] == "unhealthy")
    yield


@broken("health-check-broken", needs=DOCKER)
def health_check_needs_curl(scene: Scene) -> Iterator[None]:
    """The health check calls curl, and the image has none; the service works."""
    check = {"test": ["CMD", "curl", "-fsS", "http://localhost/"], "interval": "0.2s", "retries": 2}
    project = scene.compose({"api": {**RUNS, "healthcheck": check}})
    container = container_of(project, "api")
    until(container, lambda seen: seen["State"]["Health"]["Status"] == "unhealthy")
    yield


@broken("container-stopped", needs=DOCKER)
def file_of_a_volume_is_missing(scene: Scene) -> Iterator[None]:
    """The file of a volume did not exist, so Docker made a folder of it, and the service cannot start."""
    script = "cat /etc/gateway.yaml || exit 78"
    volumes = [f"{scene.home}/gateway.yaml:/etc/gateway.yaml"]
    worker = {"image": IMAGE, "command": ["sh", "-c", script], "volumes": volumes}
    project = scene.compose({"gateway": worker})
    container = container_of(project, "gateway")
    container.wait()
    yield


@broken("container-oom-killed", also=("container-stopped",), needs=DOCKER)
def killed_for_memory(scene: Scene) -> Iterator[None]:
    """A container needed more than its limit of 12 MB."""
    box = scene.engine()
    hungry = "x=a; while true; do x=$x$x; done"
    for _ in range(8):
        container = box.run(hungry, mem_limit="12m", memswap_limit="12m")
        container.wait(timeout=LIMIT_S)
        container.reload()
        # Docker forgets the kill when the end of the process comes first.
        if container.attrs["State"]["OOMKilled"]:
            break
    scene.stack(containers={"embedder": [container.name]})
    yield


@broken("container-network-lost", needs=DOCKER)
def sidecar_of_a_replaced_container(scene: Scene) -> Iterator[None]:
    """A container shares the network of another one that was replaced by an update."""
    box = scene.engine()
    vpn = box.client.containers.create(
        IMAGE, ["sh", "-c", WAIT], name=box.name("vpn"), labels={"opskit.test": box.mark}, network_mode="none"
    )
    vpn.start()
    client = box.client.containers.create(
        IMAGE,
        ["sh", "-c", WAIT],
        name=box.name("client"),
        labels={"opskit.test": box.mark},
        network_mode=f"container:{vpn.id}",
    )
    client.start()
    vpn.remove(force=True)
    scene.stack(containers={"fetcher": [client.name]})
    yield


@broken("network-missing", needs=DOCKER)
def shared_network_pruned(scene: Scene) -> Iterator[None]:
    """`docker network prune` removed the network that the projects share."""
    scene.engine()
    scene.stack(docker_network="shop-backbone")
    yield


@broken("localhost-in-container", needs=DOCKER, alone=True)
def webui_looks_for_ollama_in_itself(scene: Scene) -> Iterator[None]:
    """A web interface in a container has the address of the host's Ollama as localhost."""
    port = scene.ollama().url.rpartition(":")[2]
    scene.compose({"webui": {**RUNS, "environment": [f"OLLAMA_BASE_URL=http://localhost:{port}"]}})
    yield


@broken("loopback-only", needs=DOCKER)
def container_cannot_reach_loopback(scene: Scene) -> Iterator[None]:
    """A container looks for Ollama at host.docker.internal, and Ollama listens on loopback alone (Linux)."""
    port = scene.ollama().url.rpartition(":")[2]
    client = {
        **RUNS,
        "environment": {"OLLAMA_HOST": f"http://host.docker.internal:{port}"},
        "extra_hosts": ["host.docker.internal:172.17.0.1"],
        "networks": ["flows"],
    }
    scene.compose({"n8n": client}, networks={"flows": {}})
    yield


@broken("compose-broken", needs=DOCKER)
def env_file_of_a_service_is_missing(scene: Scene) -> Iterator[None]:
    """A service names an env_file that is not in the repository."""
    scene.compose({"web": {**RUNS, "env_file": [".env.production"]}}, up=False)
    yield


@broken("compose-variable-unset", also=("container-missing",), needs=DOCKER)
def variable_without_a_value(scene: Scene) -> Iterator[None]:
    """The Compose file takes the password from a variable that is nowhere set."""
    scene.compose({"db": {**RUNS, "environment": {"POSTGRES_PASSWORD": "${SHOP_DB_PASSWORD}"}}})
    yield


@broken("docker-down", also=("container-missing",), needs=DOCKER)
def daemon_not_started(scene: Scene) -> Iterator[None]:
    """The stack lives in Docker, and the daemon does not run."""
    scene.compose({"web": RUNS}, up=False)
    scene.env["DOCKER_HOST"] = f"unix://{scene.home}/run/docker.sock"
    yield


@broken("docker-host-stale", needs=DOCKER)
def docker_host_of_a_removed_virtual_machine(scene: Scene) -> Iterator[None]:
    """DOCKER_HOST leads to a virtual machine that was removed; Docker runs at its usual place."""
    box = scene.engine()
    scene.compose({"web": RUNS})
    script = 'mkdir -p /run/lock && mount -t tmpfs none /run && ln -s "$0" /run/docker.sock && exec "$@"'
    scene.prefix = ["unshare", "--mount", "sh", "-c", script, box.socket]
    scene.env["DOCKER_HOST"] = f"unix://{scene.home}/.lima/docker.sock"
    yield


@broken("docker-context-invalid", needs=DOCKER)
def docker_host_without_a_scheme(scene: Scene) -> Iterator[None]:
    """DOCKER_HOST is a path, without unix://."""
    box = scene.engine()
    scene.stack(containers={"web": [box.run(WAIT).name]})
    scene.env["DOCKER_HOST"] = f"htp://{box.socket}"
    yield


@contextmanager
def silent_socket(path: Path) -> Iterator[Path]:
    """A socket that accepts connections and never answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        # Its whole path may be longer than the address of a socket.
        folder = os.open(path.parent, os.O_DIRECTORY)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
        listener.listen(64)
        yield path


@broken("docker-not-permitted", needs=DOCKER)
def not_in_the_group_docker(scene: Scene) -> Iterator[None]:
    """The user may not open Docker's socket."""
    box = scene.engine()
    scene.stack(containers={"web": [box.run(WAIT).name]})
    gate = scene.closing.enter_context(silent_socket(scene.home / "docker.sock"))
    shutil.chown(gate, "nobody")
    gate.chmod(0o600)
    scene.prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
    scene.env["DOCKER_HOST"] = f"unix://{gate}"
    yield


@broken("docker-silent", needs=DOCKER)
def daemon_hangs(scene: Scene) -> Iterator[None]:
    """After sleep Docker accepts connections and answers nothing."""
    box = scene.engine()
    scene.stack(containers={"web": [box.run(WAIT).name]})
    gate = scene.closing.enter_context(silent_socket(scene.home / "d.sock"))
    scene.env["DOCKER_HOST"] = f"unix://{gate}"
    yield


@broken("compose-missing", needs=DOCKER)
def compose_not_installed(scene: Scene) -> Iterator[None]:
    """Docker came without Compose: no docker-compose on PATH, no plug-in."""
    scene.compose({"web": RUNS})
    programs = scene.folder("programs")
    for name in ("docker", "sh", "ps", "ss"):
        path = shutil.which(name)
        if path is not None:
            (programs / name).symlink_to(path)
    scene.env["PATH"] = str(programs)
    yield


@broken("context-truncated", needs=DOCKER)
def prompts_are_cut(scene: Scene) -> Iterator[None]:
    """Ollama's log in its container says that it cuts prompts."""
    box = scene.engine()
    line = 'level=WARN msg="truncating input prompt" limit=4096 prompt=28904 keep=5 new=4096'
    container = box.run(f"echo time=$(date -u +%FT%TZ) '{line}'; {WAIT}")
    scene.ollama()
    scene.stack(containers={"ollama": [container.name]})
    yield


@seems(needs=DOCKER)
def migration_ended_well(scene: Scene) -> Iterator[None]:
    """A one-shot job of the project ended with status 0, as it shall."""
    done = {"image": IMAGE, "command": ["sh", "-c", "echo migrated"], "restart": "no"}
    project = scene.compose({"migrate": done, "web": RUNS})
    container = container_of(project, "migrate")
    container.wait()
    yield


@seems(needs=DOCKER)
def neighbours_are_broken(scene: Scene) -> Iterator[None]:
    """Containers of somebody else crash, end with errors and are unhealthy; ours are well."""
    box = scene.engine()
    box.run("exit 9", restart_policy={"Name": "always"})
    box.run("exit 1")
    sick = {"test": ["CMD-SHELL", "exit 1"], "interval": 200_000_000, "retries": 1}
    container = box.run(WAIT, healthcheck=sick)
    until(container, lambda seen: seen["State"]["Health"]["Status"] == "unhealthy")
    scene.compose({"web": RUNS})
    yield


@seems(needs=DOCKER)
def still_in_its_start_period(scene: Scene) -> Iterator[None]:
    """A service starts for a minute; its checks fail meanwhile, within its start period."""
    scene.compose({"big": {**RUNS, "healthcheck": health("exit 1", start_period="90s")}})
    yield


@broken("container-stopped", words=("only a person does",), needs=DOCKER)
def paused_by_a_person(scene: Scene) -> Iterator[None]:
    """Somebody paused a container (`docker pause`) to copy its volume: told, as their own doing."""
    project = scene.compose({"web": RUNS, "files": RUNS})
    container = container_of(project, "files")
    container.pause()
    scene.closing.callback(container.unpause)
    yield


@seems(needs=DOCKER)
def restarted_last_week(scene: Scene) -> Iterator[None]:
    """A service crashed twice at its start and runs since."""
    script = "echo x >> /count; [ $(wc -l < /count) -gt 2 ] || exit 1; exec sleep 1000"
    service = {"image": IMAGE, "command": ["sh", "-c", script.replace("$", "$$")], "restart": "always"}
    project = scene.compose({"queue": service})
    container = container_of(project, "queue")
    until(container, lambda seen: seen["RestartCount"] >= 2 and seen["State"]["Running"])
    yield


@seems(needs=DOCKER)
def leftover_of_compose_run(scene: Scene) -> Iterator[None]:
    """`docker-compose run` left a container that ended with status 1: a test run of yesterday."""
    project = scene.compose({"web": RUNS})
    box = project.box
    labels = {
        "com.docker.compose.project": project.project,
        "com.docker.compose.service": "web",
        "com.docker.compose.oneoff": "True",
        "com.docker.compose.container-number": "7",
    }
    box.run("exit 1", labels=labels).wait()
    yield


@seems(needs=DOCKER)
def scaled_to_nothing(scene: Scene) -> Iterator[None]:
    """A service has `scale: 0`: it is declared and not wanted now."""
    scene.compose({"web": RUNS, "batch": {**RUNS, "scale": 0}})
    yield


@seems(needs=DOCKER)
def profile_that_is_not_active(scene: Scene) -> Iterator[None]:
    """A service belongs to a profile that is only used for debugging."""
    scene.compose({"web": RUNS, "pgadmin": {**RUNS, "profiles": ["debug"]}})
    yield


@seems(needs=DOCKER)
def client_with_another_ollama_in_its_project(scene: Scene) -> Iterator[None]:
    """A client finds Ollama as a service of its own project, by the service's name."""
    scene.compose({"ollama": RUNS, "chat": {**RUNS, "environment": ["OLLAMA_BASE_URL=http://ollama:11434"]}})
    yield
