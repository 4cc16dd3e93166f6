"""What a person meets at midnight: after sleep, after a reboot, after a tidy-up that was too thorough."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from tests.acceptance.stacks.containers import DOCKER, until
from tests.acceptance.stacks.pages import OLLAMA, Page, served
from tests.acceptance.stacks.records import CRASHED, scheduler
from tests.acceptance.stacks.scene import Scene
from tests.acceptance.stacks.stack import broken, seems
from tests.parts.postgres import server
from tests.parts.raw_server import free_port

_TAGS = Page({"models": [{"name": "m:1b", "model": "m:1b", "size": 1, "digest": "d", "details": {}}]})


def shadowed(scene: Scene, path: str, text: str) -> None:
    """Run the doctor where a file of the machine has another content."""
    (scene.home / "shadow").write_text(text)
    scene.prefix = ["unshare", "--mount", "sh", "-c", f'mount --bind "$0" {path} && exec "$@"',
                    str(scene.home / "shadow")]  # fmt: skip


def ollama_page(scene: Scene, clock: timedelta = timedelta()) -> str:
    """The address of a page that says what an Ollama says, by a clock of its own."""
    pages = {**{path: Page(page) for path, page in OLLAMA.items()}, "/api/tags": _TAGS}
    return f"http://127.0.0.1:{scene.closing.enter_context(served(pages, clock=clock))}"


@broken("node-unreachable:gpu", words=("DNS",))
def no_dns_after_sleep(scene: Scene) -> Iterator[None]:
    """The laptop woke up in another network: its name server is not there any more."""
    shadowed(scene, "/etc/resolv.conf", "nameserver 127.0.0.77\noptions timeout:1 attempts:1\n")
    scene.node("gpu", "http://gpu.example.com:11434")
    yield


@broken("clock-skew", words=("this machine",))
def our_own_clock_is_off(scene: Scene) -> Iterator[None]:
    """The clock of the laptop is three hours slow, those of all servers are right."""
    for name in ("lab", "gpu", "attic"):
        scene.node(name, ollama_page(scene, timedelta(hours=3)))
    yield


@broken("node-unreachable:gpu", "node-unreachable:attic", words=("no network",))
def airplane_mode(scene: Scene) -> Iterator[None]:
    """The laptop has no network at all: only its own loopback."""
    scene.node("gpu", "http://192.0.2.7:11434")
    scene.node("attic", "http://198.51.100.9:11434")
    scene.prefix = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
    yield


@broken("no-model:ollama", words=("OLLAMA_MODELS", "/mnt/gone"))
def drive_of_the_models_is_not_mounted(scene: Scene) -> Iterator[None]:
    """OLLAMA_MODELS leads to a drive that is not plugged in: the server has no model."""
    scene.ollama(models=(), env={"OLLAMA_MODELS": "/mnt/gone/ollama"})
    yield


@broken("no-model:ollama", words=("another",))
def second_ollama_has_the_models(scene: Scene) -> Iterator[None]:
    """Two versions of Ollama run: the one that is asked is empty, the other holds the models."""
    other = scene.folder("other")
    from tests.parts.ollama_process import ollama_process

    scene.closing.enter_context(ollama_process(other, env={"OLLAMA_HOST": "127.0.0.1:0"}))
    scene.ollama(models=())
    yield


@broken("address-wrong:ollama|node-down:ollama|localhost-unresolved", words=("127.0.0.1",))
def localhost_is_ipv6_only(scene: Scene) -> Iterator[None]:
    """/etc/hosts gives localhost ::1 alone, and the server listens on 127.0.0.1."""
    server = scene.ollama()
    shadowed(scene, "/etc/hosts", "::1 localhost\n")
    scene.env["OLLAMA_API_URL"] = server.url.replace("127.0.0.1", "localhost")
    yield


class _Paused(BaseHTTPRequestHandler):
    """Docker Desktop while it is paused."""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        text = json.dumps(
            {"message": "Docker Desktop is manually paused. Unpause it through the Whale menu or Dashboard."}
        )
        self.send_response(500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


class _UnixServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("local", 0)


@broken("docker-down|docker-silent", words=("paused", "unpause"))
def docker_desktop_is_paused(scene: Scene) -> Iterator[None]:
    """Docker Desktop was paused to spare the battery: it answers each question with an error."""
    path = f"/tmp/opskit-{os.getpid()}-{free_port()}.sock"
    with _UnixServer(path, _Paused) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        scene.env["DOCKER_HOST"] = f"unix://{path}"
        scene.stack(containers={"web": ["web"]})
        yield
        server.shutdown()
    Path(path).unlink()


@broken("disk-full", words=("talker", "max-size"), needs=DOCKER)
def disk_full_of_docker_logs(scene: Scene) -> Iterator[None]:
    """The log of a chatty container has filled the disk of Docker."""
    box = scene.engine()
    talker = box.run(
        "head -c 110000000 /dev/zero | tr '\\0' x; echo; touch /done; sleep 1000", name=box.name("talker")
    )
    until(talker, lambda _: talker.exec_run(["test", "-e", "/done"]).exit_code == 0)
    scene.stack(containers={"talker": [talker.name]})
    scene.config["watch"] = {"memory_percent": 100, "disk_percent": 1}  # type: ignore[index]
    yield


@seems()
def proxy_of_yesterday_for_a_local_server(scene: Scene) -> Iterator[None]:
    """ALL_PROXY and http_proxy are left over from the office; the server is on this machine."""
    scene.ollama()
    dead = f"http://127.0.0.1:{free_port()}"
    scene.env |= {"http_proxy": dead, "https_proxy": dead, "ALL_PROXY": dead}
    yield


@broken("agent-down:victoria", words=("opskit schedule install victoria",))
def unit_of_victoria_in_a_removed_environment(scene: Scene) -> Iterator[None]:
    """The unit that keeps Victoria is there, the virtual environment that it starts is not."""
    scene.ollama()
    scene.env["VICTORIA_URL"] = f"http://127.0.0.1:{free_port()}"
    made = scheduler(scene)
    made.set("show-opskit-victoria.service", {"NeedDaemonReload": "no"})
    done = scene.opskit("schedule", "install", "victoria")
    assert done.status == 0, done.err
    unit = next(scene.home.rglob("opskit-victoria.service"))
    text = unit.read_text()
    start = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    unit.write_text(text.replace(start.split("=", 1)[1].split()[0], "/opt/old-venv/bin/python"))
    yield


@broken("job-failing|job-not-loaded|job-environment", words=("/opt/old-venv", "opskit schedule install"))
def recovery_job_of_a_removed_environment(scene: Scene) -> Iterator[None]:
    """The recovery job starts an interpreter of a virtual environment that was deleted."""
    scheduler(scene)
    unit = next(path for path in scene.home.rglob("*.service") if "recover" in path.name)
    text = unit.read_text()
    start = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    unit.write_text(text.replace(start.split("=", 1)[1].split()[0], "/opt/old-venv/bin/python"))
    scene.ollama()
    yield


@broken("node-down:ollama", words=("publish",), needs=DOCKER)
def container_of_ollama_publishes_nothing(scene: Scene) -> Iterator[None]:
    """Ollama's container was created anew without `ports`: it runs, and nothing reaches it."""
    box = scene.engine()
    name = f"ollama-{box.mark}"
    box.run("sleep 1000", name=name)
    scene.stack(containers={"ollama": [name]})
    scene.node("ollama", f"http://127.0.0.1:{free_port()}")
    yield


@broken("state-unusable", words=("Read-only",))
def home_was_mounted_read_only(scene: Scene) -> Iterator[None]:
    """After a disk error the file system of the home was mounted read-only."""
    state = scene.folder("state")
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    scene.prefix = ["unshare", "--mount", "sh", "-c", script, str(state)]
    scene.ollama()
    yield


@seems()
def log_from_a_clock_that_was_fast(scene: Scene) -> Iterator[None]:
    """The clock was five hours fast until now: the log holds failures of the future, answered since."""
    scene.ollama()
    scene.log_calls(*[CRASHED] * 3, ago=timedelta(hours=-5))
    scene.log_calls(*[{"node": "ollama", "model": "phi3.5:3.8b"}] * 3, ago=timedelta(hours=-5.01))
    yield


@seems()
def memory_of_recovery_is_half_written(scene: Scene) -> Iterator[None]:
    """The machine lost power while recovery wrote what it remembers."""
    (scene.folder("state/opskit") / "recovery.json").write_text('{"schema_version": 1, "targ')
    scene.ollama()
    yield


@seems()
def file_written_on_windows(scene: Scene) -> Iterator[None]:
    """The configuration was saved by an editor of Windows, with a byte order mark and CRLF."""
    server = scene.ollama()
    scene.config = (
        "\ufeffwatch:\r\n  memory_percent: 100\r\n  disk_percent: 100\r\n"
        f"nodes:\r\n  box:\r\n    url: {server.url}\r\n    source: ollama\r\n"
    )
    yield


@broken("address-wrong:victoria", words=("/run",))
def path_of_a_curl_call_for_victoria(scene: Scene) -> Iterator[None]:
    """VICTORIA_URL ends in /run, as it stands in a curl example."""
    urls = scene.sandbox(nodes=("ollama", "mlx"))
    scene.env["VICTORIA_URL"] = f"{urls['VICTORIA_URL']}/run"
    yield


@broken("check-failed:database", words=("ecovery", "wait"), needs=("postgres",))
def database_in_recovery(scene: Scene) -> Iterator[None]:
    """After a power cut PostgreSQL replays its log; DATABASE_URL leads to it."""
    with _starting_up() as port:
        scene.env["DATABASE_URL"] = f"postgresql://opskit@127.0.0.1:{port}/knowledge"
        scene.ollama()
        yield


@contextmanager
def _starting_up() -> Iterator[int]:
    """A PostgreSQL that refuses each session with its own words while it is in recovery."""
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    head = client.recv(8)
                    if head[4:] == b"\x04\xd2\x16\x2f":
                        client.sendall(b"N")
                        client.recv(4096)
                    fields = (
                        b"SFATAL\0VFATAL\0C57P03\0Mthe database system is not yet accepting connections\0"
                        b"DConsistent recovery state has not been yet reached.\0\0"
                    )
                    client.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)

    threading.Thread(target=refuse, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


@broken("check-failed:database", words=("refused",), needs=("postgres",))
def database_is_down(scene: Scene) -> Iterator[None]:
    """DATABASE_URL leads to a PostgreSQL that does not run."""
    scene.env["DATABASE_URL"] = f"postgresql://opskit@127.0.0.1:{free_port()}/knowledge"
    scene.ollama()
    yield


@broken("check-failed:database", words=("takes no writes",), needs=("postgres",))
def database_is_a_standby(scene: Scene) -> Iterator[None]:
    """After a failover DATABASE_URL still leads to the old host, which is a standby now."""
    with server(is_standby=True) as standby:
        scene.env["DATABASE_URL"] = standby.url
        scene.ollama()
        yield


@seems(needs=("postgres",))
def database_is_well(scene: Scene) -> Iterator[None]:
    """DATABASE_URL leads to a PostgreSQL that is well."""
    scene.env["DATABASE_URL"] = scene.parts["postgres"].url
    scene.ollama()
    yield


@broken("proxy-in-container", words=("HTTP_PROXY", "NO_PROXY"), needs=DOCKER)
def proxy_inside_of_the_container(scene: Scene) -> Iterator[None]:
    """Docker gives its containers the proxy of the office: the agent asks it for the host's Ollama."""
    box = scene.engine()
    server = scene.ollama()
    port = server.url.rpartition(":")[2]
    name = f"agent-{box.mark}"
    box.run(
        "sleep 1000",
        name=name,
        environment={
            "OLLAMA_API_URL": f"http://host.docker.internal:{port}",
            "HTTP_PROXY": "http://proxy.office:3128",
        },
    )
    scene.stack(containers={"victoria": [name]})
    yield


@broken("memory-full", words=("swap",))
def swapping_machine(scene: Scene) -> Iterator[None]:
    """A model that is too big: the machine swaps, and every answer takes minutes."""
    stalls = (
        "some avg10=63.12 avg60=50.00 avg300=9.00 total=9\nfull avg10=41.00 avg60=9.00 avg300=1.00 total=5\n"
    )
    shadowed(scene, "/proc/pressure/memory", stalls)
    scene.config = {"watch": {"memory_percent": 90, "disk_percent": 100}}
    scene.ollama()
    yield


@broken("state-unusable", words=("not a folder",))
def state_folder_is_a_file(scene: Scene) -> Iterator[None]:
    """A redirect made a file where the state folder belongs."""
    scene.folder("state").joinpath("opskit").write_text("")
    scene.ollama()
    yield
