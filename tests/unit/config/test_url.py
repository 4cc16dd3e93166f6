"""The one form of an address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config.url import normalise, normalise_server, port_by_scheme
from opskit.errors import ConfigError

HOSTS = st.sampled_from(
    ["localhost", "GPU-box.local", "10.0.0.1", "[::1]", "[FE80::1]", "a_b", "bücher.example"]
)
PATHS = st.lists(st.sampled_from(["", "/", "v1", "/v1", "/v1/", "/api", "//", "/x1"]), max_size=5).map(
    "".join
)


@pytest.mark.parametrize(
    "text, url",
    [
        ("http://localhost:11434", "http://localhost:11434"),
        ("http://localhost:11434/", "http://localhost:11434"),
        ("http://localhost:11434/v1", "http://localhost:11434"),
        ("http://localhost:11434/v1/", "http://localhost:11434"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api"),
        ("https://h/v1beta", "https://h/v1beta"),
        ("https://h/av1", "https://h/av1"),
        (" HTTP://Host.Local:80\n", "http://host.local:80"),
        ("http://[::1]:8010", "http://[::1]:8010"),
        ("http://host:", "http://host"),
        ("http://bücher.example", "http://xn--bcher-kva.example"),
        ("http://victoria_agent:8010", "http://victoria_agent:8010"),
    ],
)
def test_an_address_has_one_form(text: str, url: str):
    """However people write the same server, the result is the same."""
    assert normalise(text).url == url
    assert normalise(text).note is None


@pytest.mark.parametrize(
    "text, url, bind",
    [
        ("http://0.0.0.0:11434", "http://127.0.0.1:11434", "0.0.0.0"),
        ("http://[::]:11434", "http://[::1]:11434", "::"),
        ("http://[0:0::0]:1", "http://[::1]:1", "::"),
    ],
)
def test_a_bind_address_is_dialled_as_loopback(text: str, url: str, bind: str):
    """An address to listen on is no address to call, and the note says what is done."""
    address = normalise(text)
    assert address.url == url
    assert address.note.startswith(f"{bind} is a bind address; ")


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "is empty"),
        ("localhost:11434", "has no scheme"),
        ("localhost", "has no scheme"),
        ("//localhost:1", "has no scheme"),
        ("ftp://host", "must begin with http://"),
        ("http://", "has no host"),
        ("http://:11434", "has no host"),
        ("http:///v1", "has no host"),
        ("http://11434", "has no valid host"),
        ("http://256.1.1.1", "has no valid host"),
        ("http://a..b", "has no valid host"),
        ("http://-x", "has no valid host"),
        ("http://a,b", "has no valid host"),
        ("http://[::1", "has no valid host"),
        ("http://[gpu]", "has no valid host"),
        (f"http://{'a' * 64}", "has no valid host"),
        ("http://h:0", "has a port"),
        ("http://h:65536", "has a port"),
        ("http://h:http", "has a port"),
        ("http://h:-1", "has a port"),
        ("http://user@h", "holds a user name or password"),
        ("http://user:secret@h", "holds a user name or password"),
        ("http://user:secret/more@h", "holds a user name or password"),
        ("http://h?a=secret", "holds a query"),
        ("http://h/#secret", "holds a query"),
        ("http://h /x", "holds a character"),
        ("http://h\\x", "holds a character"),
        ("http://h\x00", "holds a character"),
        ("http://h\u202e", "holds a character"),
    ],
)
def test_a_bad_address_is_refused_and_not_repeated(text: str, problem: str):
    """CONFIG_003 says what is wrong and keeps the value to itself."""
    with pytest.raises(ConfigError, match=f"^the address {problem}") as raised:
        normalise(text)
    assert raised.value.code == "CONFIG_003"
    assert "secret" not in raised.value.message + raised.value.remedy


@pytest.mark.parametrize("text", ["localhost:11434", "gpu-box.local:1/v1", "10.0.0.1:80", "localhost"])
def test_a_missing_scheme_comes_with_the_whole_address(text: str):
    """The remedy can be copied."""
    with pytest.raises(ConfigError) as raised:
        normalise(text)
    assert raised.value.remedy == f"write http://{text}"


@given(st.sampled_from(["http", "HTTPS"]), HOSTS, st.none() | st.integers(1, 65535), PATHS)
def test_the_form_is_stable(scheme: str, host: str, port: int | None, path: str):
    """Normalising twice is normalising once, and nothing is left that a path could be appended to wrongly."""
    text = f"{scheme}://{host}" + (f":{port}" if port else "") + (f"/{path}" if path else "")
    once = normalise(text).url
    assert normalise(once).url == once
    assert not once.endswith(("/", "/v1"))


@given(st.text())
def test_any_text_is_an_address_or_a_config_error(text: str):
    """Nothing else ever comes out, with or without a scheme."""
    for candidate in (text, f"http://{text}"):
        try:
            url = normalise(candidate).url
        except ConfigError:
            continue
        assert normalise(url).url == url


@pytest.mark.parametrize(
    "text, url",
    [
        ("box", "http://box:11434"),
        ("box:8080", "http://box:8080"),
        (":11435", "http://127.0.0.1:11435"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:11435", "http://127.0.0.1:11435"),
        ("[::]:11435", "http://[::1]:11435"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("fe80::1", "http://[fe80::1]:11434"),
        ("http://box", "http://box:80"),
        ("https://box", "https://box:443"),
        ("https://box:8443/ollama/", "https://box:8443/ollama"),
        ("box/ollama", "http://box:11434/ollama"),
        ("http://", "http://127.0.0.1:80"),
        ("box:0", "http://box:11434"),
        ("box:99999", "http://box:11434"),
        ("box:", "http://box:11434"),
        (' "box:1" ', "http://box:1"),
        ("'box'", "http://box:11434"),
        ("HTTP://box", "http://box:11434"),
        ("http://box:", "http://box:80"),
        ("http://[::1]", "http://[::1]:80"),
        ("[fe80::1]:1", "http://[fe80::1]:1"),
        ("ollama.com", "https://ollama.com:443"),
    ],
)
def test_the_variable_of_ollama_has_parts_that_may_be_missing(text: str, url: str):
    """OLLAMA_HOST is read as Ollama's own client reads it, and a bind address there is nothing to note."""
    address = normalise_server(text)
    assert (address.url, address.note) == (url, None)


@pytest.mark.parametrize(
    "text, port",
    [
        ("http://box", ("80", "http://box:11434")),
        ("https://box/p", ("443", "https://box:11434/p")),
        ('"http://[::]:x"', ("80", "http://[::]:11434")),
        ("http://box:80", None),
        ("box", None),
        ("http://me:geheim@box", None),
    ],
)
def test_a_port_that_only_the_scheme_gives_is_known(text: str, port: tuple[str, str] | None):
    """Ollama's own port counts only without a scheme, which surprises: it is told with what to write."""
    assert port_by_scheme(text) == port


@pytest.mark.parametrize(
    "text", ["ftp://box", "me:geheim@box", "bo x", "box?key=geheim", "[::1", "://box", "11435"]
)
def test_a_variable_of_ollama_that_is_no_address_is_refused(text: str):
    """What no client could dial is a mistake, told without its text."""
    with pytest.raises(ConfigError) as raised:
        normalise_server(text)
    assert "geheim" not in f"{raised.value}{raised.value.remedy}"
