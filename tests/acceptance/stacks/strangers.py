"""Ports that somebody else took."""

import socket
import sys
import threading
from collections.abc import Iterator

from tests.acceptance.stacks.scene import Scene, wait_for_port
from tests.acceptance.stacks.stack import broken
from tests.parts.raw_server import free_port


def file_server(scene: Scene) -> int:
    """`python -m http.server` in the home."""
    port = free_port()
    scene.start(
        sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", cwd=scene.home, port=port
    )
    return port


@broken("port-taken:mlx")
def files_on_the_port_of_mlx(scene: Scene) -> Iterator[None]:
    """The same on the port of the MLX server, whose own web server is Python's too."""
    scene.env["MLX_API_URL"] = f"http://localhost:{file_server(scene)}"
    yield


@broken("port-taken:mlx", needs=("postgres",))
def database_on_the_port_of_mlx(scene: Scene) -> Iterator[None]:
    """PostgreSQL holds the port that the configuration has for MLX."""
    scene.env["MLX_API_URL"] = f"http://127.0.0.1:{scene.parts['postgres'].port}"
    yield


@broken("port-taken:gpu")
def ssh_on_the_port_of_a_node(scene: Scene) -> Iterator[None]:
    """An SSH server answers with its banner where a model server shall be."""
    listener = scene.closing.enter_context(socket.create_server(("127.0.0.1", 0)))

    def greet() -> None:
        try:
            while True:
                client, _ = listener.accept()
                client.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
                threading.Timer(0.3, client.close).start()
        except OSError:
            return

    threading.Thread(target=greet, daemon=True).start()
    scene.node("gpu", f"http://127.0.0.1:{listener.getsockname()[1]}", "llamacpp")
    yield


@broken("two-servers:ollama")
def two_servers_on_one_port(scene: Scene) -> Iterator[None]:
    """Ollama listens on 127.0.0.1, another web server on ::1 of the same port; the address says localhost."""
    port = int(scene.ollama().url.rpartition(":")[2])
    scene.start(sys.executable, "-m", "http.server", str(port), "--bind", "::1", cwd=scene.home)
    wait_for_port(port, "::1")
    scene.env["OLLAMA_API_URL"] = f"http://localhost:{port}"
    yield
