"""A node on the internet is asked through the proxy of the environment, and nothing else is."""

from pathlib import Path
from typing import Any

import pytest

from opskit.providers.base import CallCause, CallError
from opskit.providers.http import HttpClient
from tests.parts.examining import cause, examined, keys
from tests.parts.raw_server import answer, free_port, reply_json, serving
from tests.parts.socks_server import socks

CLOUD = {"cloud": {"url": "http://models.example", "source": "openai"}}
OFF = {"OLLAMA_API_URL": ""}


async def diagnosed(folder: Path, proxy: str, **nodes: Any):
    return await examined(folder, env={**OFF, "http_proxy": proxy}, config={"nodes": nodes or CLOUD})


async def test_a_request_goes_through_the_proxy():
    """The proxy gets the whole address and its password, on either transport."""
    async with serving() as proxy:
        proxy.replies["http://models.example/v1/models"] = reply_json({"data": []})
        url = proxy.url.replace("//", "//me:geheim@")
        http = HttpClient("http://models.example", proxy=url)
        assert await http.get_json("/v1/models") == {"data": []}
        await http.aclose()
    headers = {name.lower(): value for name, value in proxy.seen[0].headers.items()}
    assert headers["proxy-authorization"] == "Basic bWU6Z2VoZWlt"
    assert "authorization" not in headers


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_wants_a_password(scheme: str):
    """Its refusal is its own and not the server's, whether it was asked for a page or for a tunnel."""
    refusal = answer(status="407 Proxy Authentication Required")
    async with serving() as proxy:
        proxy.replies |= {"http://models.example/v1/models": refusal, "models.example:443": refusal}
        url = proxy.url.replace("//", "//me:geheim@")
        http = HttpClient(f"{scheme}://models.example", proxy=url)
        with pytest.raises(CallError) as raised:
            await http.get_json("/v1/models")
        await http.aclose()
    if scheme == "https":
        assert proxy.seen[0].method == "CONNECT"
    assert raised.value.cause is CallCause.PROXY
    assert raised.value.text == f"the proxy {proxy.url} wants a user name and password (HTTP 407)"


async def test_a_proxy_where_nothing_listens():
    """What is refused is the connection to the proxy."""
    proxy = f"http://127.0.0.1:{free_port()}"
    http = HttpClient("https://models.example", proxy=proxy)
    with pytest.raises(CallError) as raised:
        await http.get_json("/v1/models")
    await http.aclose()
    assert raised.value.text == f"the proxy {proxy} cannot be reached: nothing listens there"


async def test_doctor_names_the_proxy_that_is_down(tmp_path: Path):
    """The cause is the proxy, and the remedy names its variable and the exceptions."""
    proxy = f"http://127.0.0.1:{free_port()}"
    found = await diagnosed(tmp_path, proxy)
    assert keys(found) == ["address-wrong:cloud"]
    wrong = cause(found, "address-wrong:cloud")
    assert wrong.title.startswith(f"the proxy {proxy} cannot be reached")
    assert "NO_PROXY" in wrong.remedy


async def test_doctor_reads_a_node_behind_a_proxy(tmp_path: Path):
    """A node that answers through the proxy has no cause, though its name does not resolve here."""
    async with serving() as proxy:
        models = reply_json({"object": "list", "data": [{"id": "m", "owned_by": "x"}]})
        proxy.replies["http://models.example/v1/models"] = models
        found = await diagnosed(tmp_path, proxy.url)
    assert "address-wrong:cloud" not in keys(found)
    assert "node-unreachable:cloud" not in keys(found)
    assert {request.path.partition(".example")[0] for request in proxy.seen} == {"http://models"}


async def test_a_node_of_this_machine_is_asked_directly(tmp_path: Path):
    """No variable puts a proxy before loopback."""
    async with serving() as proxy, serving() as server:
        server.replies["/v1/models"] = reply_json({"object": "list", "data": []})
        await diagnosed(tmp_path, proxy.url, near={"url": server.url, "source": "openai"})
    assert proxy.seen == []
    assert server.seen != []


async def test_a_request_goes_through_a_socks_proxy():
    """The proxy gets the name, which need not resolve here, and its password; the server gets neither."""
    async with serving() as server, socks(int(server.url.rpartition(":")[2]), password=b"geheim") as proxy:
        server.replies["/v1/models"] = reply_json({"data": []})
        url = proxy.url.replace("//", "//me:geheim@")
        http = HttpClient("http://models.example", proxy=url)
        assert await http.get_json("/v1/models") == {"data": []}
        await http.aclose()
    assert (proxy.asked, proxy.logins) == ([("models.example", 80)], [b"me:geheim"])
    assert "geheim" not in str(server.seen[0].headers)


async def test_a_socks_proxy_that_wants_a_password():
    """Its refusal is its own, as that of an HTTP proxy is."""
    async with socks(free_port(), password=b"geheim") as proxy:
        http = HttpClient("http://models.example", proxy=proxy.url)
        with pytest.raises(CallError) as raised:
            await http.get_json("/v1/models")
        await http.aclose()
    assert raised.value.text == f"the proxy {proxy.url} refuses the connection"


async def test_doctor_names_a_proxy_of_another_kind(tmp_path: Path):
    """SOCKS 4 is not passed over in silence: the node would be asked directly, and called unreachable."""
    async with socks(free_port()) as proxy:
        found = await diagnosed(tmp_path, proxy.url.replace("socks5h", "socks4"))
    assert "only SOCKS 5 (`socks5h://`) can be used" in cause(found, "address-wrong:cloud").title


async def test_doctor_reads_a_node_behind_a_socks_proxy(tmp_path: Path):
    """A node that answers through it has no cause."""
    async with serving() as server, socks(int(server.url.rpartition(":")[2])) as proxy:
        server.replies["/v1/models"] = reply_json({"data": [{"id": "m", "owned_by": "x"}]})
        found = await diagnosed(tmp_path, proxy.url)
    assert "address-wrong:cloud" not in keys(found)
    assert set(proxy.asked) == {("models.example", 80)}
