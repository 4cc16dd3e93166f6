"""The one form of an address: scheme, host, port and path; no trailing slash and no trailing `/v1`.

People write `http://host:11434`, `http://host:11434/` and `http://host:11434/v1` and mean the same server. A
client appends the whole path, `/v1/...` included.

The proxy of a node on the internet is found by the rules of curl: a variable in lower case comes first;
HTTP_PROXY in upper case is not read for http (a CGI client could set it). Nodes of this machine and of a
private network are always asked directly.
"""

import contextlib
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from opskit.config.schema import NodeConfig, Secret
from opskit.errors import ConfigError
from opskit.records import Record

_BIND = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised in order to be refused
_PORTS = {"http": "80", "https": "443"}
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?")
#: Surely an address without its scheme, and not a secret in the wrong place.
_BARE = re.compile(r"localhost|[A-Za-z0-9_.-]{1,63}:[0-9]{1,5}(/[A-Za-z0-9_/-]{0,32})?")


class Address(Record):
    """`note` says what was changed in a way that people should know."""

    url: str
    note: str | None = None


def normalise(text: str) -> Address:
    """Raise ConfigError CONFIG_003, which never quotes `text`: it may hold a password."""
    text = text.strip()
    if not text:
        raise _refused("is empty")
    if any(char.isspace() or not char.isprintable() for char in text) or "\\" in text:
        raise _refused("holds a character that has no place in a URL")
    if "://" not in text:
        remedy = f"write http://{text}" if _BARE.fullmatch(text) else None
        raise _refused("has no scheme (http:// or https://)", remedy)
    _refuse_password(text)
    if "?" in text or "#" in text:
        raise _refused("holds a query or a fragment", "keep only scheme, host, port and path")
    try:
        parts = urlsplit(text)
    except ValueError as exc:
        raise _refused("has no valid host") from exc
    if parts.scheme not in ("http", "https"):
        raise _refused("must begin with http:// or https://")
    host, port = _host(parts), _port(parts)
    note = None
    if host in _BIND:
        note = f"{host} is a bind address; {_BIND[host]} is dialled"
        host = _BIND[host]
    netloc = f"[{host}]" if ":" in host else host
    if port is not None:
        netloc += f":{port}"
    path = parts.path
    while path.endswith(("/", "/v1")):
        path = path.rstrip("/").removesuffix("/v1")
    return Address(f"{parts.scheme}://{netloc}{path}", note)


def normalise_server(text: str) -> Address:
    """Return where a client reaches an `OLLAMA_HOST`: every part of it may be missing (wire facts A1).

    A bind address is this machine, and a port that cannot be dialled the default one, as for Ollama's own
    client. Raises ConfigError CONFIG_003, which never quotes `text`.
    """
    scheme, host, port, path = _server_parts(text)
    if host.isdecimal():
        raise _refused("is a number, which is read as a host", f"write :{host}")
    return Address(normalise(f"{scheme or 'http'}://{host}:{port or _PORTS.get(scheme, '11434')}{path}").url)


def port_by_scheme(text: str) -> tuple[str, str] | None:
    """Return the port that only the scheme of an `OLLAMA_HOST` gives, and what to write: 80 for `http://box`.

    None for any other text.
    """
    try:
        scheme, host, port, path = _server_parts(text)
    except ConfigError:
        return None
    return None if port or scheme not in _PORTS else (_PORTS[scheme], f"{scheme}://{host}:11434{path}")


def _server_parts(text: str) -> tuple[str, str, str, str]:
    """Return scheme, host, port and path of an `OLLAMA_HOST`; a scheme or port that it has not is empty."""
    text = text.strip().strip("\"'").strip()
    _refuse_password(text)
    text = "https://ollama.com" if text == "ollama.com" else text
    scheme, separator, location = text.partition("://") if "://" in text else ("", "", text)
    authority, slash, path = location.partition("/")
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]") or (":" in host and not host.endswith("]")):
        host, port = authority, ""
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        port = ""
    if separator and not scheme:
        raise _refused("must begin with http:// or https://")
    host = host or "127.0.0.1"
    return scheme, f"[{host}]" if ":" in host and not host.startswith("[") else host, port, slash + path


def _refuse_password(text: str) -> None:
    if "@" in text:
        raise _refused("holds a user name or password", "take it out; give a key as api_key: ${NAME}")


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not host:
        raise _refused("has no host")
    try:
        if "[" in parts.netloc:
            return str(ipaddress.IPv6Address(host))
        # The tables of IDNA are read for other alphabets only.
        if not host.isascii() or not all(0 < len(label) < 64 for label in host.removesuffix(".").split(".")):
            host = host.encode("idna").decode()
        if re.fullmatch(r"[0-9.]+", host):
            return str(ipaddress.IPv4Address(host))
    except ValueError as exc:
        raise _refused("has no valid host") from exc
    if not _HOST.fullmatch(host):
        raise _refused("has no valid host")
    return host


def _port(parts: SplitResult) -> int | None:
    with contextlib.suppress(ValueError):
        if parts.port != 0:
            return parts.port
    raise _refused("has a port that is not between 1 and 65535")


def _refused(problem: str, remedy: str | None = None) -> ConfigError:
    return ConfigError(f"the address {problem}", code="CONFIG_003", remedy=remedy)


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
