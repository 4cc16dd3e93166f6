"""Requests of checks to any page: what is sent, and which way a redirect goes."""

from opskit.facts.endpoint import EndpointRequest, fetch
from tests.parts.raw_server import answer, serving

KEY = (("Authorization", "Bearer geheim"),)


def moved(target: str, status: str = "302 Found"):
    return answer(b"", status=status, Location=target)


async def test_a_query_and_a_login_of_an_address_are_sent():
    """The login goes as a header, and is no part of the name of the host."""
    async with serving(**{"/a?b=1": answer(b"yes")}) as server:
        url = server.url.replace("http://", "http://me:p%40ss@") + "/a?b=1"
        reply = await fetch(EndpointRequest(url=url))
        assert reply.body == b"yes"
        headers = server.seen[0].headers
        assert headers["authorization"] == "Basic bWU6cEBzcw=="
        assert "@" not in headers["host"]


async def test_a_redirect_is_followed_with_the_key_on_the_same_server_alone():
    """Another server does not get the key; a POST that was answered elsewhere is asked for by GET."""
    async with serving() as there, serving() as here:
        there.replies["/end"] = answer(b"there")
        here.replies |= {"/a": moved("/b?c=d"), "/b?c=d": moved(f"{there.url}/end", "303 See Other")}
        request = EndpointRequest(url=f"{here.url}/a", method="POST", body=b"{}", headers=KEY, follow=True)
        assert (await fetch(request)).body == b"there"
        assert [(seen.method, "authorization" in seen.headers) for seen in (*here.seen, *there.seen)] == [
            ("POST", True),
            ("GET", True),
            ("GET", False),
        ]


async def test_a_redirect_that_is_not_followed_or_leads_nowhere_is_the_answer():
    """The caller reads its status."""
    async with serving(**{"/a": moved("/b"), "/c": moved("ftp://x/"), "/d": moved("/d")}) as server:
        for path, follow in (("/a", False), ("/c", True), ("/d", True)):
            reply = await fetch(EndpointRequest(url=server.url + path, follow=follow))
            assert reply.status == 302
