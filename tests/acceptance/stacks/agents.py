"""Agents over HTTP: Victoria, Veronica."""

import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

from tests.acceptance.stacks.pages import Page, served
from tests.acceptance.stacks.scene import Scene, wait_for_port
from tests.acceptance.stacks.stack import broken, seems
from tests.parts.raw_server import free_port

HEALTH = {"status": "ok", "agent": "Veronica"}


def status(**levels: bool) -> dict[str, Any]:
    """What Victoria's status page says."""
    on = {"agent": True, "enhanced": True, "initiative": True}
    return {"status": "online", "agent": "Victoria", "victoria_levels": {**on, **levels}}


@broken("agent-down:victoria", also=("docker-down",))
def nobody_started_victoria(scene: Scene) -> Iterator[None]:
    """VICTORIA_URL is set, and neither the agent nor Docker was started after the reboot."""
    scene.env["VICTORIA_URL"] = f"http://localhost:{free_port()}"
    yield


@broken("agent-wedged:veronica")
def veronica_hangs(scene: Scene) -> Iterator[None]:
    """Veronica accepts connections and never answers: her event loop is blocked."""
    scene.sandbox("veronica=silence", nodes=("veronica", "ollama"))
    yield


@broken("agent-failing:victoria")
def database_of_the_agent_is_away(scene: Scene) -> Iterator[None]:
    """Each page of Victoria is a 500, because she cannot reach her database."""
    page = Page({"detail": "psycopg.OperationalError: connection refused"}, 500)
    port = scene.closing.enter_context(served({}, otherwise=page))
    scene.env["VICTORIA_URL"] = f"http://127.0.0.1:{port}"
    yield


@broken("agent-failing|agent-level-off", words=("initiative",))
def level_switched_off(scene: Scene) -> Iterator[None]:
    """Victoria runs with one of her levels switched off."""
    pages = {"/health": Page(HEALTH), "/status": Page(status(initiative=False))}
    port = scene.closing.enter_context(served(pages))
    scene.env["VICTORIA_URL"] = f"http://127.0.0.1:{port}"
    yield


@broken("agent-queue-stuck:victoria")
def workers_of_the_agent_are_gone(scene: Scene) -> Iterator[None]:
    """Victoria answers and takes runs, and none of her workers is left to do them."""
    page = {**status(), "queue": {"queued": 4, "running": 0, "oldest_queued_s": 754.2}}
    port = scene.closing.enter_context(served({"/health": Page(HEALTH), "/status": Page(page)}))
    scene.env["VICTORIA_URL"] = f"http://127.0.0.1:{port}"
    yield


@broken("agent-unauthorised|address-wrong|agent-failing")
def behind_a_login(scene: Scene) -> Iterator[None]:
    """Somebody put a login in front of the agent: each page redirects to it."""
    login = Page("", 302, {"Location": "https://sso.example.invalid/login"})
    port = scene.closing.enter_context(served({}, otherwise=login))
    scene.env["VERONICA_URL"] = f"http://127.0.0.1:{port}"
    yield


@broken("wrong-server:victoria", words=("leads to veronica",))
def address_of_the_other_agent(scene: Scene) -> Iterator[None]:
    """VICTORIA_URL leads to Veronica, who answers like any agent."""
    port = scene.closing.enter_context(served({}, otherwise=Page({**HEALTH, "status": "online"})))
    scene.env["VICTORIA_URL"] = f"http://127.0.0.1:{port}"
    yield


@broken("agent-failing:victoria", words=("degraded",))
def agent_that_calls_itself_degraded(scene: Scene) -> Iterator[None]:
    """Victoria answers 200 and says that she is not well."""
    page = {**status(), "status": "degraded", "database": "down"}
    port = scene.closing.enter_context(served({}, otherwise=Page(page)))
    scene.env["VICTORIA_URL"] = f"http://127.0.0.1:{port}"
    yield


@broken("port-taken:victoria|address-wrong:victoria", words=("an HTML page",))
def login_page_with_status_200(scene: Scene) -> Iterator[None]:
    """A proxy answers each page with the form of its login, and with 200."""
    page = Page("<html><form action=/login></form></html>", 200, {"Content-Type": "text/html; charset=utf-8"})
    port = scene.closing.enter_context(served({}, otherwise=page))
    scene.env["VICTORIA_URL"] = f"http://127.0.0.1:{port}"
    yield


@broken("process-stopped:victoria", words=("kill -CONT",))
def stopped_agent_whose_queue_is_full(scene: Scene) -> Iterator[None]:
    """Victoria is stopped, and so many wait already that her port accepts nobody any more."""
    port = free_port()
    script = (
        f"import socket, time; s = socket.create_server(('127.0.0.1', {port}), backlog=0); time.sleep(99)"
    )
    agent = scene.start(sys.executable, "-c", script)
    wait_for_port(port)
    agent.send_signal(signal.SIGSTOP)
    scene.closing.callback(agent.send_signal, signal.SIGCONT)
    for _ in range(2):
        client = scene.closing.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
    scene.env["VICTORIA_URL"] = f"http://127.0.0.1:{port}"
    yield


@seems()
def all_agents_well(scene: Scene) -> Iterator[None]:
    """Both agents and both nodes answer."""
    scene.sandbox(nodes=("victoria", "veronica", "ollama", "mlx"))
    yield


@seems()
def agent_is_slow(scene: Scene) -> Iterator[None]:
    """Victoria works on a long task: her pages take 1.4 s."""
    pages = {"/health": Page(HEALTH), "/status": Page(status())}
    port = scene.closing.enter_context(served(pages, wait_s=1.4))
    scene.env["VICTORIA_URL"] = f"http://127.0.0.1:{port}"
    yield
