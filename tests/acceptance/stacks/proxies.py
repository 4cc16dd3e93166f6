"""Proxies and certificates."""

import shutil
from collections.abc import Iterator

from tests.acceptance.stacks.pages import Page, served
from tests.acceptance.stacks.scene import Scene
from tests.acceptance.stacks.stack import broken, seems
from tests.parts.raw_server import free_port
from tests.parts.tls_server import Signed, pages, signed

CA = signed("House Authority", authority=True)
NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; {server} }}
}}
"""


def nginx(scene: Scene, server: str) -> str:
    """Start nginx with the inner part of one `server` and return its address."""
    folder, port = scene.folder("nginx"), free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, server=server))
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert program, "there is no nginx: apt-get install nginx-light"
    scene.start(program, "-p", str(folder), "-c", str(folder / "nginx.conf"), port=port)
    return f"http://127.0.0.1:{port}"


@broken("address-wrong:ollama|node-failing:ollama", words=("nginx",))
def nothing_behind_nginx(scene: Scene) -> Iterator[None]:
    """nginx answers 502, because the Ollama behind it has ended."""
    scene.env["OLLAMA_API_URL"] = nginx(scene, f"location / {{ proxy_pass http://127.0.0.1:{free_port()}; }}")
    yield


@seems()
def prefix_that_the_proxy_needs(scene: Scene) -> Iterator[None]:
    """nginx serves Ollama below /ollama/, and the address says so."""
    server = scene.ollama()
    inner = f"location /ollama/ {{ proxy_pass {server.url}/; proxy_buffering off; }}"
    scene.env["OLLAMA_API_URL"] = f"{nginx(scene, inner)}/ollama"
    yield


@seems()
def proxy_of_the_company_for_loopback(scene: Scene) -> Iterator[None]:
    """HTTP_PROXY leads to a proxy that is not there; servers here are asked directly."""
    scene.ollama()
    for name in ("HTTP_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        scene.env[name] = f"http://127.0.0.1:{free_port()}"
    yield


@broken("address-wrong:cloud|node-unreachable:cloud|node-unauthorised:cloud", words=("proxy",))
def proxy_wants_a_password(scene: Scene) -> Iterator[None]:
    """A cloud node is asked through a proxy that answers 407."""
    page = Page("denied", 407, {"Proxy-Authenticate": "Basic"})
    port = scene.closing.enter_context(served({}, otherwise=page))
    scene.env |= {"https_proxy": f"http://127.0.0.1:{port}", "CLOUD_KEY": "sk-0123456789"}
    scene.node("cloud", "https://models.example.com/v1", "openai", api_key="${CLOUD_KEY}")
    yield


@broken("address-wrong:cloud|node-unreachable:cloud|node-down:cloud", words=("proxy",))
def proxy_is_gone(scene: Scene) -> Iterator[None]:
    """The variable https_proxy has the proxy of another office."""
    scene.env |= {"https_proxy": f"http://127.0.0.1:{free_port()}", "CLOUD_KEY": "sk-0123456789"}
    scene.node("cloud", "https://models.example.com/v1", "openai", api_key="${CLOUD_KEY}")
    yield


def secured(scene: Scene, certificate: Signed) -> str:
    """An Ollama behind TLS with this certificate."""
    port = scene.closing.enter_context(pages(tls=certificate.context(scene.home)))
    return f"https://127.0.0.1:{port}"


@broken("address-wrong:ollama", words=("self-signed",))
def signed_by_itself(scene: Scene) -> Iterator[None]:
    """The certificate of the proxy in front of Ollama is self-signed."""
    scene.env["OLLAMA_API_URL"] = secured(scene, signed("127.0.0.1"))
    yield


@broken("address-wrong:ollama", words=("llm.home.lan",))
def certificate_for_another_name(scene: Scene) -> Iterator[None]:
    """The certificate is for the name in the house, the address has the number."""
    scene.env["SSL_CERT_FILE"] = str(CA.write(scene.home, "ca.pem"))
    scene.env["OLLAMA_API_URL"] = secured(scene, signed("llm.home.lan", by=CA))
    yield


@broken("address-wrong:ollama", words=("SSL_CERT_FILE",))
def authority_of_the_house_unknown(scene: Scene) -> Iterator[None]:
    """The certificate is of the house's own authority, which this machine does not know."""
    scene.env["OLLAMA_API_URL"] = secured(scene, signed("127.0.0.1", by=CA))
    yield


@broken("no-model:ollama")
def authority_of_the_house_known(scene: Scene) -> Iterator[None]:
    """SSL_CERT_FILE names the authority: TLS is well, only that no model was pulled."""
    scene.env["SSL_CERT_FILE"] = str(CA.write(scene.home, "ca.pem"))
    scene.env["OLLAMA_API_URL"] = secured(scene, signed("127.0.0.1", by=CA))
    yield


@broken("address-wrong:ollama|config-invalid", words=("SSL_CERT_FILE",))
def bundle_that_is_not_there(scene: Scene) -> Iterator[None]:
    """SSL_CERT_FILE names a file that is not there."""
    scene.env["SSL_CERT_FILE"] = str(scene.home / "certs/ca-bundle.pem")
    scene.env["OLLAMA_API_URL"] = secured(scene, signed("127.0.0.1", by=CA))
    yield
