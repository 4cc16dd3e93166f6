"""Address families as a machine really has them: each test runs in a network namespace of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.parts.command import Result, environment

PORT = 11434
SERVER = f"""
import json, socket, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGES = {{"/api/version": {{"version": "0.12.0"}}, "/api/tags": {{"models": [{{"name": "m:1b", "size": 1}}]}},
         "/api/ps": {{"models": []}}}}

class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(PAGES.get(self.path, {{"error": "no such page"}})).encode()
        self.send_response(200 if self.path in PAGES else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET

server = Server((sys.argv[1], {PORT}), Pages)
print("listening", flush=True)
server.serve_forever()
"""


class Namespace:
    """A network with a loopback interface, and with what `ip` and `sysctl` make of it."""

    def __init__(self, name: str, home: Path) -> None:
        self._name = name
        self._home = home

    def run(self, *command: str) -> None:
        subprocess.run(["ip", "netns", "exec", self._name, *command], check=True, timeout=20)

    @contextmanager
    def server(self, host: str) -> Iterator[None]:
        command = ["ip", "netns", "exec", self._name, sys.executable, "-c", SERVER, host]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == "listening\n"
                yield
            finally:
                process.kill()

    def probe(self, url: str) -> Result:
        done = subprocess.run(
            ["ip", "netns", "exec", self._name, sys.executable, "-m", "opskit", "probe", "--json"],
            env=environment(self._home, {"OLLAMA_API_URL": url, "MLX_API_URL": ""}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Namespace]:
    """`two.test` has an address of each family there, and only the one of IPv4 leads anywhere."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network of its own needs root and ip (iproute2)")
    name = f"opskit-{os.getpid()}-{uuid4().hex[:6]}"
    hosts = Path("/etc/netns") / name
    hosts.mkdir(parents=True)
    (hosts / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\nfd00::5 two.test\n127.0.0.1 two.test\n")
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield Namespace(name, tmp_path)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
        (hosts / "hosts").unlink()
        hosts.rmdir()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_localhost_finds_a_server_of_either_family(network: Namespace, host: str):
    """`localhost` has two addresses: the server may listen on one of them alone."""
    with network.server(host):
        finding = network.probe(f"http://localhost:{PORT}").finding("ollama")
    assert (finding["status"], finding["state"]) == ("skip", "ok")
    assert "no model is loaded" in finding["detail"]


def test_an_address_that_leads_nowhere_does_not_hide_the_other(network: Namespace):
    """A name with an IPv6 address without a route is reached by its IPv4 address, and soon."""
    with network.server("127.0.0.1"):
        finding = network.probe(f"http://two.test:{PORT}").finding("ollama")
    assert (finding["status"], finding["state"]) == ("skip", "ok")
    assert finding["seconds"] < 2


def test_a_machine_without_ipv6(network: Namespace):
    """Where the kernel has no IPv6, an address of it is named as wrong, with the one that answers."""
    network.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
    with network.server("127.0.0.1"):
        finding = network.probe(f"http://[::1]:{PORT}").finding("ollama")
    assert finding["state"] in ("refused", "unreachable")
    assert f"http://127.0.0.1:{PORT}" in f"{finding['detail']} {finding['remedy']}"


def test_a_network_that_is_down(network: Namespace):
    """Without any route the node is unreachable, and nothing is said of the server itself."""
    finding = network.probe("http://10.9.8.7:11434").finding("ollama")
    assert (finding["status"], finding["state"]) == ("warn", "unreachable")
