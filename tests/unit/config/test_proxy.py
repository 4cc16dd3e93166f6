"""Which proxy leads to a node on the internet."""

import pytest

from opskit.config.schema import NodeConfig, Source
from opskit.config.url import proxy_of, without_password

PROXY = "http://proxy.corp:3128"


def proxy(url: str, source: Source = "openai", **environ: str) -> str | None:
    return proxy_of(NodeConfig("it", url, source), environ)


@pytest.mark.parametrize(
    ("url", "environ", "wanted"),
    [
        ("https://openrouter.ai/api", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://openrouter.ai/api", {"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, PROXY),
        ("https://openrouter.ai/api", {"ALL_PROXY": "proxy.corp"}, "http://proxy.corp:1080"),
        ("https://openrouter.ai/api", {"HTTP_PROXY": PROXY, "http_proxy": PROXY}, None),
        ("https://openrouter.ai/api", {"HTTPS_PROXY": ""}, None),
        ("https://openrouter.ai/api", {"ALL_PROXY": "socks5h://proxy.corp"}, "socks5h://proxy.corp:1080"),
        ("https://openrouter.ai/api", {"HTTPS_PROXY": "ftp://proxy.corp"}, None),
        ("https://openrouter.ai/api", {"HTTPS_PROXY": "http://[::1"}, None),
        ("http://models.example", {"http_proxy": PROXY}, PROXY),
        ("http://models.example", {"HTTP_PROXY": PROXY}, None),
        ("https://9.9.9.9:8443", {"HTTPS_PROXY": PROXY}, PROXY),
    ],
)
def test_the_variables_are_those_of_curl(url: str, environ: dict[str, str], wanted: str | None):
    """Lower case comes first, HTTP_PROXY in upper case is not read, and SOCKS is a proxy as well."""
    assert proxy(url, **environ) == wanted


@pytest.mark.parametrize(
    ("exceptions", "is_direct"),
    [
        ("*", True),
        ("openrouter.ai", True),
        (".openrouter.ai", True),
        ("localhost, .ai", True),
        ("router.ai", False),
        ("openrouter.ai:443", True),
        ("openrouter.ai:80", False),
        ("10.0.0.0/8", False),
        ("", False),
    ],
)
def test_exceptions_are_asked_directly(exceptions: str, is_direct: bool):
    """NO_PROXY names hosts with all below them, and ports."""
    found = proxy("https://openrouter.ai/api", HTTPS_PROXY=PROXY, NO_PROXY=exceptions)
    assert (found is None) is is_direct


def test_an_exception_may_be_a_network():
    """An address is compared with networks."""
    assert proxy("https://9.9.9.9", HTTPS_PROXY=PROXY, no_proxy="9.9.0.0/16") is None


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("http://localhost:8080", "openai"),
        ("http://127.0.0.1:8080", "openai"),
        ("http://[::1]:8080", "openai"),
        ("http://192.168.1.20:8000", "openai"),
        ("http://gpu-box:8000", "openai"),
        ("http://gpu-box.local:8000", "openai"),
        ("http://host.docker.internal:8000", "openai"),
        ("https://ollama.example", "ollama"),
    ],
)
def test_nodes_nearby_are_asked_directly(url: str, source: Source):
    """A proxy never stands before this machine, a private network, or a server that people run themselves."""
    assert proxy(url, source, ALL_PROXY=PROXY, http_proxy=PROXY, HTTPS_PROXY=PROXY) is None


def test_the_password_of_a_proxy_is_not_shown(configured):
    """It is a secret inside, and left out of its name."""
    text = "nodes: {cloud: {url: 'https://openrouter.ai/api/v1', source: openai}}"
    loaded = configured(text, {"HTTPS_PROXY": "http://me:geheim@proxy.corp:3128"})
    node = loaded.config.node("cloud")
    assert node.proxy == "http://me:geheim@proxy.corp:3128"
    assert "geheim" not in repr(loaded)
    assert without_password(node.proxy or "") == PROXY


def test_a_proxy_is_no_key_of_a_file(problems):
    """It comes from the environment alone."""
    [problem] = problems("nodes: {cloud: {url: 'https://h.example', source: openai, proxy: 'http://p:1'}}")
    assert "proxy" in problem.key
