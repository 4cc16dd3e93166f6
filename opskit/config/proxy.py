"""Which proxy of the environment leads to a node on the internet, by the rules of curl.

A variable in lower case comes first; HTTP_PROXY in upper case is not read for http (a CGI client could set
it). Nodes of this machine and of a private network are always asked directly.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from opskit.config.schema import NodeConfig, Secret

#: Of these only SOCKS 5 can be used; the others are named when they fail, and never passed over.
SOCKS = ("socks5", "socks5h", "socks4", "socks4a", "socks")
_VARIABLES = {
    "http": ("http_proxy", "all_proxy", "ALL_PROXY"),
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
}
_EXCEPTIONS = ("no_proxy", "NO_PROXY")
_DEFAULT_PORTS = {"http": 1080, "https": 443, **dict.fromkeys(SOCKS, 1080)}
#: Ends of names that lead nowhere on the internet.
_PRIVATE_NAMES = (".local", ".localhost", ".internal", ".lan", ".home.arpa")


def proxy_of(node: NodeConfig, environ: Mapping[str, str]) -> Secret | None:
    """Return the URL of the proxy by which a node is asked; a secret, because it may hold a password."""
    variable, _ = variables_of(node, environ)
    return None if variable is None else _url(environ[variable].strip())


def variables_of(node: NodeConfig, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the variable that names the proxy of a node, None for a direct way, and that of exceptions."""
    parts = urlsplit(node.url)
    host = parts.hostname or ""
    if node.source != "openai" or not _is_public(host):
        return None, None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    variable = next((name for name in _VARIABLES[parts.scheme] if environ.get(name)), None)
    exceptions = next((name for name in _EXCEPTIONS if environ.get(name)), None)
    entries = environ[exceptions].replace(",", " ").split() if exceptions else ()
    is_direct = any(_covers(entry, host, port) for entry in entries)
    return None if is_direct else variable, exceptions


def without_password(proxy: str) -> str:
    """Return the URL of a proxy as it may be shown."""
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _url(text: str) -> Secret | None:
    """Return a proxy with its port; None for nothing and for what is no address of one."""
    if not text or not text.isascii() or not text.isprintable():
        return None
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not host:
        return None
    netloc = parts.netloc if port else f"{parts.netloc.rstrip(':')}:{_DEFAULT_PORTS[parts.scheme]}"
    return Secret(f"{parts.scheme}://{netloc}")


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(_PRIVATE_NAMES)


def _covers(entry: str, host: str, port: int) -> bool:
    """Tell whether an entry of NO_PROXY is about a host: a name and all below it, an address, a network."""
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        name, _, number = entry.lower().partition(":")
    name = name.removeprefix("*").strip(".")
    is_port = not number or number == str(port)
    return bool(name) and is_port and (host == name or host.endswith(f".{name}"))
