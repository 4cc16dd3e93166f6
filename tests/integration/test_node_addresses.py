"""An address that leads past its node: probe and doctor tell why, and what to write."""

from pathlib import Path

import pytest

from opskit.checks.node_probe import probe_node
from opskit.checks.probe_record import NodeProbe, ProbeOptions
from opskit.checks.state import NodeState
from opskit.config.schema import Config, NodeConfig
from opskit.facts.survey import Survey
from opskit.providers.base import CallError, TlsProblem
from opskit.providers.http import HttpClient
from tests.parts.command import opskit
from tests.parts.examining import cause, examined, keys
from tests.parts.raw_server import Reply, serving
from tests.parts.tls_server import Signed, pages, signed

CA = signed("an authority", authority=True)
NGINX = b"<html><head><title>%d Bad Gateway</title></head><body><hr>nginx/1.22.1</body></html>"


async def probed(url: str, folder: Path) -> NodeProbe:
    node = NodeConfig("ollama", url, "ollama", explicit=True)
    config = Config(state_dir=str(folder), nodes=(node,), agents=())
    async with Survey(config, {}, state_folder=folder, cwd=folder) as survey:
        return await probe_node(survey, node, ProbeOptions())


@pytest.mark.parametrize(
    ("certificate", "trusted", "problem", "words", "advice"),
    [
        (signed("127.0.0.1"), None, TlsProblem.SELF_SIGNED, "is self-signed", "export SSL_CERT_FILE="),
        (
            signed("127.0.0.1", by=CA),
            None,
            TlsProblem.UNKNOWN_AUTHORITY,
            "an authority that is not known here",
            "`export SSL_CERT_FILE=FILE`",
        ),
        (signed("127.0.0.1", by=CA, days=(-9, -2)), CA, TlsProblem.EXPIRED, "has expired", "renew"),
        (signed("127.0.0.1", by=CA, days=(2, 9)), CA, TlsProblem.NOT_YET_VALID, "is not valid yet", "`date`"),
        (
            signed("box.internal", "127.0.0.2", by=CA),
            CA,
            TlsProblem.OTHER_NAME,
            "is for another name: box.internal",
            "write https://box.internal:",
        ),
    ],
)
async def test_each_kind_of_certificate_error_has_its_own_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    certificate: Signed,
    trusted: Signed | None,
    problem: TlsProblem,
    words: str,
    advice: str,
):
    """What is wrong with a certificate is told by what OpenSSL found, on either transport."""
    if trusted is not None:
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted.write(tmp_path, "ca.pem")))
    with pages(tls=certificate.context(tmp_path)) as port:
        url = f"https://127.0.0.1:{port}"
        http = HttpClient(url)
        with pytest.raises(CallError) as raised:
            await http.get_json("/api/version")
        await http.aclose()
        probe = await probed(url, tmp_path)
    assert raised.value.tls is problem
    assert probe.state is NodeState.UNREACHABLE
    assert words in probe.detail
    assert advice in (probe.advice() or "")


def test_a_file_of_authorities_that_cannot_be_read_is_named(tmp_path: Path):
    """It is no bug of ours, and no reason to trust anybody: a certificate that it should vouch for is not."""
    with pages(tls=signed("127.0.0.1", by=CA).context(tmp_path)) as port:
        env = {"OLLAMA_API_URL": f"https://127.0.0.1:{port}", "SSL_CERT_FILE": str(tmp_path / "gone.pem")}
        probe = opskit("probe", "--json", home=tmp_path / "home", env=env)
        run = opskit("run", "--local", "hi", home=tmp_path / "home", env=env)
    assert "SSL_CERT_FILE" in probe.finding("ollama")["detail"]
    assert "BUG_001" not in probe.out + run.err
    assert run.status == 1


async def test_a_certificate_of_a_trusted_authority_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """SSL_CERT_FILE names the authorities, as for every client of OpenSSL."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CA.write(tmp_path, "ca.pem")))
    with pages(tls=signed("127.0.0.1", by=CA).context(tmp_path)) as port:
        probe = await probed(f"https://127.0.0.1:{port}", tmp_path)
    assert probe.facts.version == "Ollama 0.12.6"


async def test_https_to_a_port_without_tls(tmp_path: Path):
    """Probe and doctor tell that the port speaks plain HTTP, and the address to write."""
    with pages() as port:
        probe = await probed(f"https://127.0.0.1:{port}", tmp_path)
        found = await examined(tmp_path, env={"OLLAMA_API_URL": f"https://127.0.0.1:{port}"})
    assert probe.detail == f"127.0.0.1:{port} speaks plain HTTP, not TLS"
    assert probe.advice() == f"set OLLAMA_API_URL to http://127.0.0.1:{port}"
    assert keys(found) == ["address-wrong:ollama"]
    assert cause(found, "address-wrong:ollama").remedy == probe.advice()
    assert "env OLLAMA_API_URL" in cause(found, "address-wrong:ollama").evidence[0]


async def test_https_to_a_server_that_waits_for_a_line(tmp_path: Path):
    """A server that answers no handshake at all is asked without TLS as well."""
    async with serving() as server:
        server.replies["/api/version"] = Reply(
            (b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"version":"0.1"}',)
        )
        probe = await probed(server.url.replace("http:", "https:"), tmp_path)
    assert "speaks plain HTTP" in probe.detail


async def test_http_to_a_port_with_tls(tmp_path: Path):
    """A server that drops a request without TLS speaks TLS, whatever its certificate says."""
    with pages(tls=signed("127.0.0.1").context(tmp_path)) as port:
        probe = await probed(f"http://127.0.0.1:{port}", tmp_path)
    assert probe.detail == f"127.0.0.1:{port} speaks TLS, and the address begins with http://"
    assert probe.advice() == f"set OLLAMA_API_URL to https://127.0.0.1:{port}"


@pytest.mark.parametrize("path", ["/api", "/api/tags", "/v1/chat/completions", "/api/chat/"])
async def test_a_path_too_much(tmp_path: Path, path: str):
    """The path of a page in the place of the address of the server is named."""
    with pages() as port:
        probe = await probed(f"http://127.0.0.1:{port}{path}".rstrip("/"), tmp_path)
        found = await examined(tmp_path, env={"OLLAMA_API_URL": f"http://127.0.0.1:{port}{path}"})
    assert f"the path {path.rstrip('/')} is too much" in probe.detail
    assert probe.advice() == f"set OLLAMA_API_URL to http://127.0.0.1:{port}"
    assert keys(found) == ["address-wrong:ollama"]


async def test_a_path_of_a_stranger_is_not_called_too_much(tmp_path: Path):
    """Where no model server answers above the path either, it explains nothing."""
    async with serving() as server:
        probe = await probed(f"{server.url}/api", tmp_path)
    assert "too much" not in probe.detail


@pytest.mark.parametrize(("server", "url"), [("127.0.0.1", "[::1]"), ("::1", "127.0.0.1")])
async def test_a_server_on_the_other_loopback_address(tmp_path: Path, server: str, url: str):
    """127.0.0.1 and ::1 are two addresses: a server may listen on one of them alone."""
    with pages(host=server) as port:
        probe = await probed(f"http://{url}:{port}", tmp_path)
    right = f"http://{f'[{server}]' if ':' in server else server}:{port}"
    assert probe.state is NodeState.REFUSED
    assert f"nothing listens on {url}:{port}; a model server answers on" in probe.detail
    assert probe.advice() == f"set OLLAMA_API_URL to {right}"


async def test_a_redirect_to_the_server(tmp_path: Path):
    """A redirect is not followed: its target is named, and is the address to write where a server answers."""
    with pages() as port, pages(redirect=f"http://127.0.0.1:{port}") as front:
        probe = await probed(f"http://127.0.0.1:{front}", tmp_path)
    assert f"redirects to http://127.0.0.1:{port}/api/" in probe.detail
    assert probe.advice() == f"set OLLAMA_API_URL to http://127.0.0.1:{port}"


async def test_a_redirect_to_a_page_for_people(tmp_path: Path):
    """A login page is no server, and what stands behind its question mark may be a secret."""
    with pages(redirect="http://127.0.0.1:9/login?token=geheim&next=") as front:
        probe = await probed(f"http://127.0.0.1:{front}", tmp_path)
    assert probe.state is NodeState.FAILING
    assert "redirects to http://127.0.0.1:9/login" in probe.detail
    assert "geheim" not in f"{probe.detail}{probe.advice()}"


@pytest.mark.parametrize(
    ("status", "words"), [(502, "the server behind it cannot be reached"), (504, "does not answer in time")]
)
async def test_a_proxy_in_front_of_a_server_that_is_down(tmp_path: Path, status: int, words: str):
    """The page of nginx is no answer of the server, and the server behind it is what to start."""
    with pages(status=status, body=NGINX % status, headers={"Server": "nginx/1.22.1"}) as port:
        probe = await probed(f"http://127.0.0.1:{port}", tmp_path)
        found = await examined(tmp_path, env={"OLLAMA_API_URL": f"http://127.0.0.1:{port}"})
    assert probe.detail.startswith(f"HTTP {status}: nginx answers in front of the server")
    assert words in probe.detail
    assert "proxy_pass" in (probe.advice() or "")
    assert keys(found) == ["address-wrong:ollama"]


async def test_a_status_below_400_is_no_yes(tmp_path: Path):
    """A page that answers 204 or 304 to everything is no model server."""
    with pages(status=204, body=b"") as port:
        probe = await probed(f"http://127.0.0.1:{port}", tmp_path)
    assert probe.state is NodeState.FAILING


@pytest.mark.parametrize(
    "body",
    [
        b"<html><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n",
        b"upstream connect error or disconnect/reset before headers. reset reason: connection failure",
        b"no available server\n",
    ],
)
async def test_a_balancer_without_a_server(tmp_path: Path, body: bytes):
    """The 503 of HAProxy, Envoy and Traefik is no busy server."""
    with pages(status=503, body=body) as port:
        probe = await probed(f"http://127.0.0.1:{port}", tmp_path)
    assert probe.state is NodeState.FAILING
    assert "the server behind it cannot be reached" in probe.detail


async def test_a_page_in_html_is_told_by_its_title(tmp_path: Path):
    """Markup of a proxy that wants a password is not shown."""
    body = b"<html>\n<head><title>401 Authorization Required</title></head><body>x</body></html>"
    with pages(status=401, body=body) as port:
        probe = await probed(f"http://127.0.0.1:{port}", tmp_path)
    assert probe.detail == "HTTP 401: 401 Authorization Required"


@pytest.mark.parametrize(("server", "advice"), [("", "write localhost"), ("nginx", "proxy_set_header Host")])
async def test_an_ollama_that_refuses_the_name_it_is_asked_by(tmp_path: Path, server: str, advice: str):
    """A bare 403 is Ollama's guard against foreign host names: no key helps (wire facts A1)."""
    with pages(status=403, body=b"", headers={"Server": server}) as port:
        probe = await probed(f"http://127.0.0.1:{port}", tmp_path)
    assert probe.detail == "the server refuses requests for the host name 127.0.0.1 (HTTP 403)"
    assert advice in (probe.advice() or "")


async def test_an_address_without_a_port_leads_to_that_of_its_scheme(tmp_path: Path):
    """Where the usual port of the server answers on the same host, it is the address to write."""
    with pages(host="127.0.0.3", port=11434):
        probe = await probed("http://127.0.0.3", tmp_path)
    assert probe.detail.startswith("no model server answers on 127.0.0.3:80, the port of http")
    assert probe.advice() == "set OLLAMA_API_URL to http://127.0.0.3:11434"


async def test_a_stranger_is_no_ollama_without_a_model(tmp_path: Path):
    """What answers in another way gets no advice for Ollama."""
    with pages(status=200, body=b"welcome") as port:
        probe = await probed(f"http://127.0.0.1:{port}", tmp_path)
    assert f"`opskit verify --add port port={port}`" in (probe.advice() or "")
    assert "OLLAMA_API_URL" in (probe.advice() or "")


async def test_a_redirect_to_https_with_a_certificate_that_is_not_trusted(tmp_path: Path):
    """The whole address is redirected: it is what to write, though its certificate is not trusted yet."""
    with (
        pages(tls=signed("127.0.0.1").context(tmp_path)) as port,
        pages(redirect=f"https://127.0.0.1:{port}") as front,
    ):
        probe = await probed(f"http://127.0.0.1:{front}", tmp_path)
    assert f"write https://127.0.0.1:{port}: a redirect is not followed" in (probe.advice() or "")


def test_a_run_does_not_say_start_the_server_where_the_address_is_wrong(tmp_path: Path):
    """A refusal names the cause, and sends to what tells the address."""
    with pages() as port:
        result = opskit(
            "run", "hi", home=tmp_path, env={"OLLAMA_API_URL": f"https://127.0.0.1:{port}", "MLX_API_URL": ""}
        )
    assert "does not speak TLS" in result.err
    assert "`opskit probe` tells what is wrong with the address of ollama" in result.err
    assert "ollama serve" not in result.err
