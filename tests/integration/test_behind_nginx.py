"""A real nginx in front of a real model server and of an agent: what it stands in the way of is named."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from opskit.checks.agent_probe import AgentProbe, probe_agent
from opskit.checks.node_probe import NodeProbe, ProbeOptions, probe_node
from opskit.checks.state import NodeState
from opskit.config.schema import AgentConfig, Config, NodeConfig, ProbeConfig
from opskit.facts.survey import Survey
from tests.parts.examining import cause, examined, keys
from tests.parts.nginx import nginx
from tests.parts.real_llamacpp import RealLlamaCpp
from tests.parts.server_process import free_port
from tests.parts.tls_server import pages, signed

CA = signed("an authority", authority=True)
AGENT = {"/status": {"status": "online", "agent": "victoria"}}
OFF = {"OLLAMA_API_URL": "", "MLX_API_URL": ""}


@dataclass(frozen=True)
class Front:
    """Where nginx listens: `plain` has a path for each way to stand before a server, `tls` ends TLS for it.

    `moved` sends everything to `tls`. `other` is the only one on ::1.
    """

    plain: int
    tls: int
    moved: int
    other: int
    authority: Path

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.plain}{path}"


@pytest.fixture(scope="module")
def front(real_llamacpp: RealLlamaCpp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "users").write_text("me:{PLAIN}geheim\n")
    (folder / "login.html").write_text("<html><title>Sign in</title><input name=p type=password></html>")
    signed("127.0.0.1", by=CA).write(folder)
    with ExitStack() as stack:
        agent = stack.enter_context(pages(content=AGENT))
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        there = Front(free_port(), free_port(), free_port(), free_port(), CA.write(folder, "ca.pem"))
        basic = f"auth_basic team; auth_basic_user_file {folder}/users"
        locations = {
            "/llm/": f"proxy_pass {real_llamacpp.url}/",
            "/agent/": f"proxy_pass http://127.0.0.1:{agent}/",
            "/dead/": f"proxy_pass http://127.0.0.1:{free_port()}/",
            "/silent/": f"proxy_read_timeout 300ms; proxy_pass http://127.0.0.1:{silent.getsockname()[1]}/",
            "/basic/": f"{basic}; proxy_pass {real_llamacpp.url}/",
            "/denied/": "return 403",
            "/sso/": "return 302 https://sso.example/login?token=geheim",
            "/form/": f"default_type text/html; alias {folder}/; try_files /login.html =404",
        }
        shown = " ".join(f"location {path} {{ {what}; }}" for path, what in locations.items())
        certificate = f"ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;"
        both = (
            f"location / {{ proxy_pass {real_llamacpp.url}; }} "
            f"location = /status {{ proxy_pass http://127.0.0.1:{agent}; }}"
        )
        tls = f"https://127.0.0.1:{there.tls}$request_uri"
        stack.enter_context(
            nginx(
                folder,
                f"server {{ listen 127.0.0.1:{there.plain}; {shown} }}",
                f"server {{ listen 127.0.0.1:{there.tls} ssl; {certificate} {both} }}",
                f"server {{ listen 127.0.0.1:{there.moved}; return 301 {tls}; }}",
                f"server {{ listen [::1]:{there.other}; {both} }}",
            )
        )
        yield there


async def node_at(url: str, folder: Path) -> NodeProbe:
    node = NodeConfig("llm", url, "llamacpp")
    config = Config(str(folder), (node,), ())
    async with Survey(config, {}, state_folder=folder, cwd=folder) as survey:
        return await probe_node(survey, node, ProbeOptions())


async def agent_at(url: str, folder: Path) -> AgentProbe:
    agent = AgentConfig("victoria", url)
    config = Config(str(folder), (), (agent,), probe=ProbeConfig(http_s=2.0))
    async with Survey(config, {}, state_folder=folder, cwd=folder) as survey:
        return await probe_agent(survey, agent)


both = pytest.mark.parametrize(
    ("at", "setting"), [(node_at, "`nodes.llm.url`"), (agent_at, "VICTORIA_URL")], ids=["node", "agent"]
)


async def test_a_path_that_the_proxy_needs_is_no_mistake(front: Front, tmp_path: Path):
    """A server below a path gives its token, and doctor accuses nobody."""
    probe = await node_at(front.url("/llm"), tmp_path)
    assert (probe.state, probe.facts.version) == (NodeState.OK, "llama.cpp")
    assert (await agent_at(front.url("/agent"), tmp_path)).state is NodeState.OK
    nodes = {"llm": {"url": front.url("/llm"), "source": "llamacpp"}}
    env = {**OFF, "VICTORIA_URL": front.url("/agent")}
    assert keys(await examined(tmp_path, env=env, config={"nodes": nodes})) == []


@both
@pytest.mark.parametrize(
    ("path", "state", "words", "advice"),
    [
        ("/dead", NodeState.FAILING, "the server behind it cannot be reached", "proxy_pass"),
        ("/silent", NodeState.FAILING, "the server behind it does not answer in time", "proxy_pass"),
        (
            "/basic",
            NodeState.UNAUTHORISED,
            "nginx wants a user name and password (HTTP 401, basic)",
            "the login",
        ),
        ("/denied", NodeState.UNAUTHORISED, "nginx refuses requests (403 Forbidden)", "the login"),
        ("/sso", NodeState.FAILING, "redirects to https://sso.example/login: a login stands", "the login"),
        ("/form", NodeState.FAILING, "a login page answers (HTTP 200: Sign in)", "the login"),
    ],
)
async def test_what_stands_before_a_server_is_named(
    front: Front,
    tmp_path: Path,
    at: Callable,
    setting: str,
    path: str,
    state: NodeState,
    words: str,
    advice: str,
):
    """A server that is down, slow or behind somebody's login is none that is merely ill, or wants a key."""
    del setting
    probe = await at(front.url(path), tmp_path)
    assert probe.state is state
    assert words in probe.detail
    assert advice in (probe.advice() or "")
    assert "geheim" not in f"{probe.detail}{probe.advice()}"


@both
async def test_what_ends_tls_is_asked_by_https(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: Callable, setting: str
):
    """http to its port, and a redirect to it, name the address to write; that one answers."""
    right = f"https://127.0.0.1:{front.tls}"
    untrusted = await at(right, tmp_path)
    assert "signed by an authority that is not known here" in untrusted.detail
    monkeypatch.setenv("SSL_CERT_FILE", str(front.authority))
    assert (await at(right, tmp_path)).is_well
    for port in (front.tls, front.moved):
        probe = await at(f"http://127.0.0.1:{port}", tmp_path)
        assert probe.advice() == f"set {setting} to {right}", probe.detail


@both
async def test_a_path_too_much_behind_a_proxy(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: Callable, setting: str
):
    """The path of a page is too much, the rest of the address is right."""
    monkeypatch.setenv("SSL_CERT_FILE", str(front.authority))
    page = "status" if at is agent_at else "v1/chat/completions"
    probe = await at(f"https://127.0.0.1:{front.tls}/{page}", tmp_path)
    assert probe.advice() == f"set {setting} to https://127.0.0.1:{front.tls}", probe.detail


@both
async def test_the_other_address_family(front: Front, tmp_path: Path, at: Callable, setting: str):
    """A server that listens on ::1 alone is found from 127.0.0.1."""
    probe = await at(f"http://127.0.0.1:{front.other}", tmp_path)
    assert probe.state is NodeState.REFUSED
    assert probe.advice() == f"set {setting} to http://[::1]:{front.other}"


async def test_doctor_has_one_cause_for_an_agent_behind_a_login(front: Front, tmp_path: Path):
    """The address is the cause, with where it comes from; nothing is said of errors of the agent."""
    found = await examined(tmp_path, env={**OFF, "VICTORIA_URL": front.url("/basic")})
    assert keys(found) == ["address-wrong:victoria"]
    assert "env VICTORIA_URL" in cause(found, "address-wrong:victoria").evidence[0]


async def test_a_model_server_is_no_agent(front: Front, real_llamacpp: RealLlamaCpp, tmp_path: Path):
    """Its health page is one, and is not that of an agent."""
    probe = await agent_at(real_llamacpp.url, tmp_path)
    assert probe.state is NodeState.FAILING
    assert probe.detail == "llama.cpp's server answers there, not an agent"
    assert "VICTORIA_URL" in (probe.advice() or "")
