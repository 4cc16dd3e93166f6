"""Incidents of ordinary weeks: limits that are reached, databases that refuse, faults that come together."""

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.acceptance.stacks.containers import (
    DOCKER,
    RUNS,
    container_of,
    health,
    published_agent,
    started_long_ago,
    until,
)
from tests.acceptance.stacks.pages import Page, served
from tests.acceptance.stacks.proxies import CA, nginx, secured
from tests.acceptance.stacks.scene import Scene, wait_for_port, wait_until
from tests.acceptance.stacks.stack import broken, seems
from tests.parts.docker import IMAGE
from tests.parts.postgres import server
from tests.parts.raw_server import free_port
from tests.parts.tls_server import signed

POSTGRES = ("postgres",)
_AARCH64 = 183
#: PTRACE_ATTACH
_ATTACH = 16
FAILS = "echo 'FATAL: could not open file postgresql.conf' >&2; exit 1"


@broken("container-stopped", "container-restarting", words=("could not open file",), needs=DOCKER)
def database_takes_the_api_with_it(scene: Scene) -> Iterator[None]:
    """The database ended at a broken setting; the API that depends on it crashes since."""
    script = "echo 'could not translate host name base' >&2; exit 1"
    base = {"image": IMAGE, "command": ["sh", "-c", FAILS]}
    api = {"image": IMAGE, "command": ["sh", "-c", script], "restart": "always", "depends_on": ["base"]}
    project = scene.compose({"base": base, "api": api})
    container_of(project, "base").wait()
    until(container_of(project, "api"), lambda seen: seen["RestartCount"] >= 3)
    yield


@broken("process-stopped:tiny", "no-model:ollama", "container-stopped", needs=DOCKER)
def three_faults_of_three_kinds(scene: Scene) -> Iterator[None]:
    """A stopped server, an empty Ollama and a container that has ended have nothing to do with another."""
    scene.ollama(models=())
    urls = scene.sandbox()
    scene.node("tiny", urls["MLX_API_URL"], "mlx")
    os.kill(int(urls["pid"]), signal.SIGSTOP)
    scene.closing.callback(os.kill, int(urls["pid"]), signal.SIGCONT)
    project = scene.compose({"base": {"image": IMAGE, "command": ["sh", "-c", FAILS]}, "web": RUNS})
    container_of(project, "base").wait()
    yield


@broken("agent-down:veronica", words=("0.0.0.0",), needs=DOCKER)
def listens_on_loopback_of_its_container(scene: Scene) -> Iterator[None]:
    """The agent listens on 127.0.0.1 inside of its container: its published port leads to nothing."""
    published_agent(scene, "PORT:8003", ["httpd", "-f", "-p", "127.0.0.1:8003"])
    yield


@broken("container-restarting", words=("Permission denied", "chown"), needs=DOCKER)
def volume_of_another_owner(scene: Scene) -> Iterator[None]:
    """The service runs as user 1000 since the update, and its volume belongs to root."""
    data = scene.folder("data")
    data.chmod(0o700)
    worker = {"image": IMAGE, "user": "1000:1000", "volumes": [f"{data}:/data"], "restart": "always",
              "command": ["sh", "-c", "echo state > /data/state"]}  # fmt: skip
    project = scene.compose({"worker": worker})
    until(container_of(project, "worker"), lambda seen: seen["RestartCount"] >= 3)
    yield


@broken("container-restarting", words=("Read-only file system", "read_only"), needs=DOCKER)
def read_only_root(scene: Scene) -> Iterator[None]:
    """Somebody hardened the service with `read_only`, and it writes a lock file at its start."""
    worker = {"image": IMAGE, "read_only": True, "restart": "always",
              "command": ["sh", "-c", "echo 1 > /run.pid"]}  # fmt: skip
    project = scene.compose({"worker": worker})
    until(container_of(project, "worker"), lambda seen: seen["RestartCount"] >= 3)
    yield


@broken("container-unhealthy", needs=DOCKER)
def container_at_its_limit_of_processes(scene: Scene) -> Iterator[None]:
    """The service has as many processes as `pids_limit` permits: nothing more starts in it."""
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 1000 & done; wait"
    api = {
        **RUNS,
        "command": ["sh", "-c", script],
        "pids_limit": 20,
        "healthcheck": health("true; true | cat"),
    }
    project = scene.compose({"api": api})
    started_long_ago(scene)
    container = container_of(project, "api")
    container.exec_run(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait"], detach=True)
    until(container, lambda seen: seen["State"]["Health"]["Status"] == "unhealthy")
    yield


@broken("container-oom-killed", needs=DOCKER)
def kernel_kills_a_child_in_the_container(scene: Scene) -> Iterator[None]:
    """The limit of memory hits a worker process of the container; its first process starts another one."""
    script = "while :; do head -c 60000000 /dev/zero | tail > /dev/null; done"
    project = scene.compose({"worker": {**RUNS, "command": ["sh", "-c", script], "mem_limit": "16m"}})
    container = container_of(project, "worker")
    until(container, lambda seen: seen["State"]["OOMKilled"])
    yield


@broken("agent-wedged:victoria", words=("open files",))
def agent_without_a_file_descriptor(scene: Scene) -> Iterator[None]:
    """Victoria leaks connections and has as many open files as her limit permits."""
    port = free_port()
    script = (
        f"import socket, time, os\ns = socket.create_server(('127.0.0.1', {port}))\nkept = []\n"
        "try:\n  while True: kept.append(os.dup(0))\nexcept OSError: pass\n"
        "while True:\n  try: s.accept()\n  except OSError: time.sleep(0.05)\n"
    )
    limited = ["prlimit", "--nofile=64:64", sys.executable, "-c", script]
    scene.start(*limited, port=port)
    scene.env["VICTORIA_URL"] = f"http://127.0.0.1:{port}"
    yield


@broken("address-wrong:ollama", words=("not valid yet", "clock"))
def certificate_of_tomorrow(scene: Scene) -> Iterator[None]:
    """The battery of the clock is empty: it shows last year, when no certificate was valid yet."""
    scene.env["SSL_CERT_FILE"] = str(CA.write(scene.home, "ca.pem"))
    scene.env["OLLAMA_API_URL"] = secured(scene, signed("127.0.0.1", by=CA, days=(1, 3)))
    yield


@broken("address-wrong:ollama", words=("expired", "renew"))
def certificate_of_yesterday(scene: Scene) -> Iterator[None]:
    """The certificate of the proxy in front of Ollama expired yesterday."""
    scene.env["SSL_CERT_FILE"] = str(CA.write(scene.home, "ca.pem"))
    scene.env["OLLAMA_API_URL"] = secured(scene, signed("127.0.0.1", by=CA, days=(-9, -1)))
    yield


@broken("check-failed:database", words=("connections are in use", "pg_stat_activity"), needs=POSTGRES)
def database_without_a_free_connection(scene: Scene) -> Iterator[None]:
    """A pool without a limit holds all connections of PostgreSQL."""
    import psycopg

    scene.ollama()
    with server() as base, contextlib.ExitStack() as pool:
        base.run("CREATE ROLE app LOGIN")
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                pool.enter_context(psycopg.connect(base.url.replace("opskit@", "app@")))
        scene.env["DATABASE_URL"] = base.url.replace("opskit@", "app@")
        yield


@broken("check-failed:database", words=("wait for a lock", "pg_terminate_backend"), needs=POSTGRES)
def migration_holds_the_tasks(scene: Scene) -> Iterator[None]:
    """A migration was left open in a terminal: it locks the table of tasks, and every worker waits."""
    import psycopg

    scene.ollama()
    with server() as base, contextlib.ExitStack() as closing:
        base.run("CREATE TABLE tasks (id serial PRIMARY KEY, status text)")

        def ask() -> None:
            with psycopg.connect(base.url, autocommit=True) as worker, contextlib.suppress(psycopg.Error):
                worker.execute("SELECT * FROM tasks")

        workers = [threading.Thread(target=ask) for _ in range(4)]
        for worker in workers:
            # They end once the holder of the lock has.
            closing.callback(worker.join)
        holder = closing.enter_context(psycopg.connect(base.url))
        holder.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        for worker in workers:
            worker.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND"
        waiting += " clock_timestamp() - query_start > interval '5 s'"
        with psycopg.connect(base.url, autocommit=True) as watcher:
            wait_until(lambda: watcher.execute(waiting).fetchone() == (4,))
        scene.env["DATABASE_URL"] = base.url
        yield


def _with_hba(base: Any, *rules: str) -> None:
    """Replace the rules of access of a server of one's own."""
    import psycopg

    with psycopg.connect(base.url, autocommit=True) as connection:
        row = connection.execute("SHOW hba_file").fetchone()
        assert row is not None
        Path(row[0]).write_text("\n".join(rules) + "\n")
        connection.execute("SELECT pg_reload_conf()")


def _refused(url: str, text: str) -> None:
    """Wait until the server refuses with this text."""
    import psycopg

    def refuses() -> bool:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            return text in str(error)
        return False

    wait_until(refuses)


@broken(
    "check-failed:database", words=("pg_hba.conf entry", "host knowledge opskit 127.0.0.1/32"), needs=POSTGRES
)
def database_that_knows_no_such_host(scene: Scene) -> Iterator[None]:
    """The address of the machine changed, and pg_hba.conf has the old one."""
    scene.ollama()
    with server() as base:
        _with_hba(base, "host all all 192.0.2.7/32 trust")
        _refused(base.url, "pg_hba.conf")
        scene.env["DATABASE_URL"] = base.url
        yield


@broken("check-failed:database", words=("CREATE ROLE", "victoria"), needs=POSTGRES)
def role_of_the_database_is_missing(scene: Scene) -> Iterator[None]:
    """The database was restored into a new cluster, which has no role of the agent."""
    scene.ollama()
    scene.env["DATABASE_URL"] = scene.parts["postgres"].url.replace("opskit@", "victoria@")
    yield


@broken("check-failed:database", words=("CREATE DATABASE knowledge_os",), needs=POSTGRES)
def database_of_that_name_is_missing(scene: Scene) -> Iterator[None]:
    """PostgreSQL was installed anew: nobody has made the database."""
    scene.ollama()
    scene.env["DATABASE_URL"] = scene.parts["postgres"].url.replace("/knowledge", "/knowledge_os")
    yield


@broken("check-failed:database", words=("password", "DATABASE_URL"), needs=POSTGRES)
def password_of_the_database_was_changed(scene: Scene) -> Iterator[None]:
    """The password was changed in the database and not in the variable."""
    scene.ollama()
    with server() as base:
        base.run("CREATE ROLE app LOGIN PASSWORD 'right-0815'")
        _with_hba(base, "host all app 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust")
        url = base.url.replace("opskit@", "app:wrong-4711@")
        _refused(url, "authentication failed")
        scene.env["DATABASE_URL"] = url
        yield


@broken("check-failed:database", words=("refused",), needs=POSTGRES)
def driver_of_sqlalchemy_in_the_address(scene: Scene) -> Iterator[None]:
    """The driver of SQLAlchemy stands in DATABASE_URL, and the database that it leads to is down."""
    scene.ollama()
    scene.env["DATABASE_URL"] = f"postgresql+asyncpg://opskit@127.0.0.1:{free_port()}/knowledge"
    yield


@broken("check-failed:database|address-invalid", words=("%",), needs=POSTGRES)
def password_with_signs_of_an_address(scene: Scene) -> Iterator[None]:
    """The password has a /, which ends the address unless it is encoded."""
    scene.ollama()
    port = scene.parts["postgres"].port
    scene.env["DATABASE_URL"] = f"postgresql://opskit:ab/9#x@127.0.0.1:{port}/knowledge"
    yield


@broken("process-stopped:victoria", words=("debugger", "detach"))
def agent_under_a_debugger(scene: Scene) -> Iterator[None]:
    """Somebody attached a debugger to Victoria and went home: she stands still."""
    port = free_port()
    script = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(999)"
    agent = scene.start(sys.executable, "-c", script, port=port)
    attach = f"import ctypes, time; ctypes.CDLL(None).ptrace({_ATTACH}, {agent.pid}, 0, 0); time.sleep(999)"
    scene.start(sys.executable, "-c", attach)
    state = Path(f"/proc/{agent.pid}/stat")
    wait_until(lambda: state.read_text().rpartition(") ")[2][0] == "t")
    scene.env["VICTORIA_URL"] = f"http://127.0.0.1:{port}"
    yield


@broken("port-taken:victoria", words=("nginx",))
def welcome_page_of_nginx(scene: Scene) -> Iterator[None]:
    """nginx was installed on the port of Victoria and shows its welcome page."""
    (scene.folder("www") / "index.html").write_text("<html><title>Welcome to nginx!</title></html>")
    scene.env["VICTORIA_URL"] = nginx(scene, f"root {scene.home}/www; index index.html;")
    yield


@broken("port-taken:gpu|address-wrong:gpu", words=("answers HTTP",))
def captive_portal(scene: Scene) -> Iterator[None]:
    """The network of the hotel answers each request with its own page, and with 200."""
    text = "<html><title>Hotel</title><a href=/accept>Accept</a></html>"
    page = Page(text, 200, {"Content-Type": "text/html"})
    port = scene.closing.enter_context(served({}, otherwise=page))
    scene.node("gpu", f"http://127.0.0.1:{port}")
    yield


@broken("address-wrong:cloud|node-unreachable:cloud|node-failing:cloud", words=("NO_PROXY",))
def proxy_forbids_the_address(scene: Scene) -> Iterator[None]:
    """The proxy of the company permits no connection to the address of the node."""
    page = Page("<html><title>Access denied by policy</title></html>", 403, {"Server": "squid/5.7"})
    port = scene.closing.enter_context(served({}, otherwise=page))
    scene.env |= {"https_proxy": f"http://127.0.0.1:{port}", "CLOUD_KEY": "sk-0123456789"}
    scene.node("cloud", "https://models.example.com/v1", "openai", api_key="${CLOUD_KEY}")
    yield


@seems()
def carriage_return_in_the_variable(scene: Scene) -> Iterator[None]:
    """`export $(cat .env)` of a file from Windows left a carriage return at the end of the address."""
    scene.env["OLLAMA_API_URL"] = f"{scene.ollama().url}\r"
    yield


@broken("secret-empty", words=("OPENROUTER_API_KEY",))
def second_line_empties_the_key(scene: Scene) -> Iterator[None]:
    """The .env has the key twice, and the second line, which counts, has no value."""
    path = scene.home / ".env"
    path.write_bytes(b"\xef\xbb\xbfOPENROUTER_API_KEY=sk-or-0123456789\r\nA=1\r\nOPENROUTER_API_KEY=\r\n")
    scene.stack(env_files=[str(path)])
    scene.ollama()
    yield


@seems()
def env_file_of_windows(scene: Scene) -> Iterator[None]:
    """The .env has a byte order mark, CRLF, `export` and quotes: all of it is well."""
    path = scene.home / ".env"
    path.write_bytes(
        b"\xef\xbb\xbfOPENROUTER_API_KEY=\"sk-or-0123456789\"\r\nexport B_TOKEN='x0123456789'\r\n"
    )
    scene.stack(env_files=[str(path)])
    scene.ollama()
    yield


@broken("container-stopped", words=("platform",), needs=DOCKER)
def program_for_another_platform(scene: Scene) -> Iterator[None]:
    """The image was built on an ARM machine: this one cannot run its program."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, _AARCH64, 1, 0x400078, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 4096, 4096, 4096)
    path = scene.home / "api"
    path.write_bytes(head + segment + bytes(8192))
    path.chmod(0o755)
    api = {"image": IMAGE, "command": ["/api"], "volumes": [f"{path}:/api:ro"]}
    scene.compose({"api": api, "web": RUNS})
    yield


@broken("docker-host-stale|docker-down", words=("export DOCKER_HOST=unix://",), needs=DOCKER)
def docker_runs_rootless(scene: Scene) -> Iterator[None]:
    """Docker runs for this user alone, and nothing says where its socket is."""
    box = scene.engine()
    scene.env.pop("DOCKER_HOST")
    run = scene.folder("run")
    (run / "docker.sock").symlink_to(box.socket)
    scene.env["XDG_RUNTIME_DIR"] = str(run)
    scene.stack(containers={"victoria": ["victoria-agent"]})
    scene.ollama()
    yield


@contextlib.contextmanager
def _far_host(scene: Scene, rule: str) -> Iterator[str]:
    """A host of another network where something listens on Ollama's port, behind a rule of its firewall."""
    port = free_port()
    name, octet = f"op{port}", port % 250
    near, far, inside = f"10.213.{octet}.1", f"10.213.{octet}.2", ("ip", "netns", "exec", name)

    def run(*words: str) -> None:
        subprocess.run(words, check=True, capture_output=True)

    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "addr", "add", f"{near}/30", "dev", name)
        run("ip", "link", "set", name, "up")
        run(*inside, "ip", "addr", "add", f"{far}/30", "dev", "eth0")
        run(*inside, "ip", "link", "set", "eth0", "up")
        scene.start(*inside, sys.executable, "-m", "http.server", "11434", "--bind", far)
        wait_for_port(11434, far)
        run(*inside, "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "11434", "-j", *rule.split())
        yield f"http://{far}:11434"
    finally:
        run("ip", "netns", "del", name)


@broken("node-unreachable:gpu", words=("firewall",))
def firewall_of_the_box_drops_the_port(scene: Scene) -> Iterator[None]:
    """The GPU box is up and answers to ping; its firewall drops what comes to the port."""
    with _far_host(scene, "DROP") as url:
        scene.node("gpu", url)
        yield


@broken("node-unreachable:gpu|node-down:gpu", words=("firewall",))
def firewall_of_the_box_rejects_the_port(scene: Scene) -> Iterator[None]:
    """The firewall of the GPU box tells that it prohibits the port."""
    with _far_host(scene, "REJECT --reject-with icmp-admin-prohibited") as url:
        scene.node("gpu", url)
        yield


@broken("container-stopped", words=("docker start",), also=("agent-down:veronica",), needs=DOCKER)
def person_stopped_the_agent(scene: Scene) -> Iterator[None]:
    """Somebody stopped the container of the agent for an update, and went home."""
    project = published_agent(scene, "PORT:8003")
    container_of(project, "brain").stop(timeout=1)
    yield


@broken("container-stopped", words=("is used by process",), needs=DOCKER)
def published_port_is_taken(scene: Scene) -> Iterator[None]:
    """Another program took the port while the agent's container was stopped: it cannot start again."""
    port = free_port()
    scene.env["VERONICA_URL"] = f"http://127.0.0.1:{port}"
    scene.start(sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", port=port)
    brain = {**RUNS, "ports": [f"127.0.0.1:{port}:8003"], "networks": ["flows"]}
    scene.compose({"brain": brain}, networks={"flows": {}})
    yield


@broken("container-missing", words=("docker volume create",), needs=DOCKER)
def external_volume_was_pruned(scene: Scene) -> Iterator[None]:
    """`docker volume prune` removed the volume that the Compose file calls external."""
    web = {**RUNS, "volumes": ["models:/models"]}
    scene.compose({"web": web}, volumes={"models": {"external": True, "name": f"models-{free_port()}"}})
    yield


@broken("container-missing", words=("docker network create",), needs=DOCKER)
def external_network_was_pruned(scene: Scene) -> Iterator[None]:
    """`docker network prune` removed the network that the Compose file calls external."""
    web = {**RUNS, "networks": ["shared"]}
    scene.compose({"web": web}, networks={"shared": {"external": True, "name": f"shared-{free_port()}"}})
    yield


@broken("container-missing", words=("token.txt",), needs=DOCKER)
def file_of_a_secret_is_missing(scene: Scene) -> Iterator[None]:
    """The secrets are in no repository: the file of one is not there after the clone."""
    web = {**RUNS, "secrets": ["token"]}
    scene.compose({"web": web}, secrets={"token": {"file": "./token.txt"}})
    yield


@broken("node-unreachable:gpu", words=("mDNS",))
def local_name_without_mdns(scene: Scene) -> Iterator[None]:
    """The box is known as gpu.local, and this machine resolves no such names."""
    scene.node("gpu", "http://gpu.local:11434")
    yield
