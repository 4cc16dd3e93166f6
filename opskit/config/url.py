"""The one form of an address: scheme, host, port and path; no trailing slash and no trailing `/v1`.

People write `http://host:11434`, `http://host:11434/` and `http://host:11434/v1` and mean the same server.
A client appends the whole path, `/v1/...` included.
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

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
    return Address(f"{parts.scheme}://{netloc}{_path(parts.path)}", note)


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
    scheme, separator, rest = text.partition("://") if "://" in text else ("", "", text)
    authority, slash, path = rest.partition("/")
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
    try:
        port = parts.port
    except ValueError as exc:
        raise _refused("has a port that is not between 1 and 65535") from exc
    if port == 0:
        raise _refused("has a port that is not between 1 and 65535")
    return port


def _path(path: str) -> str:
    while path.endswith(("/", "/v1")):
        path = path.rstrip("/").removesuffix("/v1")
    return path


def _refused(problem: str, remedy: str | None = None) -> ConfigError:
    return ConfigError(f"the address {problem}", code="CONFIG_003", remedy=remedy)
