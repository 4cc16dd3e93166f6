"""Addresses that lead past a server that is well."""

from collections.abc import Iterator

from tests.acceptance.stacks.pages import Page, served
from tests.acceptance.stacks.scene import Scene
from tests.acceptance.stacks.stack import broken, seems, written
from tests.parts.raw_server import free_port
from tests.parts.tls_server import pages


@broken("node-down:ollama", also=("address-wrong:ollama",))
def port_of_another_day(scene: Scene) -> Iterator[None]:
    """Ollama was moved to another port, and OLLAMA_API_URL still has the old one."""
    scene.ollama()
    scene.env["OLLAMA_API_URL"] = f"http://127.0.0.1:{free_port()}"
    yield


@broken("address-wrong:ollama")
def path_from_a_curl_example(scene: Scene) -> Iterator[None]:
    """The address ends in /api/generate, as it stands in a curl example."""
    scene.env["OLLAMA_API_URL"] = f"{scene.ollama().url}/api/generate"
    yield


@broken("address-wrong:big")
def https_where_nothing_is_encrypted(scene: Scene) -> Iterator[None]:
    """The file of the configuration says https, and Ollama speaks plain HTTP."""
    server = scene.ollama()
    del scene.env["OLLAMA_API_URL"]
    scene.node("big", server.url.replace("http:", "https:"))
    yield


@broken("address-wrong:ollama|node-down:ollama", words=("::1",))
def only_on_ipv6(scene: Scene) -> Iterator[None]:
    """The server listens on ::1 alone, the address says 127.0.0.1."""
    port = scene.closing.enter_context(pages(host="::1"))
    scene.env["OLLAMA_API_URL"] = f"http://127.0.0.1:{port}"
    yield


@broken("address-wrong:ollama")
def moved_to_another_host(scene: Scene) -> Iterator[None]:
    """The old server answers each page with a redirect to the new one."""
    server = scene.ollama()
    port = scene.closing.enter_context(pages(redirect=f"{server.url}"))
    scene.env["OLLAMA_API_URL"] = f"http://127.0.0.1:{port}"
    yield


@broken("node-unreachable:gpu-box")
def name_that_does_not_resolve(scene: Scene) -> Iterator[None]:
    """The GPU box was renamed: its old name has no address any more."""
    scene.node("gpu-box", "http://gpu-box-2019.invalid:11434")
    yield


@broken("wrong-server:ollama", words=("are swapped",), needs=("real_mlx",))
def two_addresses_swapped(scene: Scene) -> Iterator[None]:
    """OLLAMA_API_URL has the address of the MLX server, MLX_API_URL that of Ollama."""
    scene.env["MLX_API_URL"] = scene.ollama().url
    scene.env["OLLAMA_API_URL"] = scene.parts["real_mlx"].url
    yield


@broken("node-unauthorised:ollama|address-wrong:ollama")
def login_page_in_front(scene: Scene) -> Iterator[None]:
    """A reverse proxy wants a user and a password before anything."""
    wall = Page("<h1>401 Authorization Required</h1>", 401, {"WWW-Authenticate": 'Basic realm="home"'})
    port = scene.closing.enter_context(served({}, otherwise=wall))
    scene.env["OLLAMA_API_URL"] = f"http://127.0.0.1:{port}"
    yield


@seems()
def started_by_hand_on_a_port_of_ones_own(scene: Scene) -> Iterator[None]:
    """`ollama serve` in a terminal, on a port of one's own, named by OLLAMA_HOST alone."""
    server = scene.ollama()
    del scene.env["OLLAMA_API_URL"]
    scene.env["OLLAMA_HOST"] = server.url.removeprefix("http://")
    yield


STACKS = (
    written(
        "address_without_a_scheme",
        "OLLAMA_API_URL is only host and port.",
        "address-invalid",
        env={"OLLAMA_API_URL": "192.168.1.20:11434"},
    ),
    written(
        "quotes_that_the_env_file_kept",
        "docker run --env-file keeps the quotes around a value.",
        "address-invalid",
        env={"MLX_API_URL": '"http://127.0.0.1:8080"'},
    ),
    written(
        "password_in_the_address",
        "User and password stand in the address of the node.",
        "address-invalid|config-invalid",
        env={"OLLAMA_BASE_URL": "http://admin:hunter2@127.0.0.1:11434"},
    ),
)
