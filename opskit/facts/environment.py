"""The variables of a process, a container or an environment file, without their secrets."""

import asyncio
import fnmatch
import ipaddress
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from opskit.facts.survey import Survey
from opskit.records import Record, field
from opskit.system.network import authority
from opskit.system.textfile import parse_env_file

#: Settings of Ollama's server that hold no secret (wire facts A6).
OLLAMA_SETTINGS = frozenset({
    "OLLAMA_HOST", "OLLAMA_NUM_PARALLEL", "OLLAMA_CONTEXT_LENGTH", "OLLAMA_MAX_LOADED_MODELS",
    "OLLAMA_KEEP_ALIVE", "OLLAMA_KV_CACHE_TYPE", "OLLAMA_FLASH_ATTENTION", "OLLAMA_MAX_QUEUE",
    "OLLAMA_LOAD_TIMEOUT", "OLLAMA_SCHED_SPREAD", "OLLAMA_GPU_OVERHEAD", "OLLAMA_MODELS",
})  # fmt: skip
#: Settings by which the program of any server finds its libraries, its cards and its models.
RUNTIME_SETTINGS = frozenset({
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION", "HF_HOME", "HF_HUB_OFFLINE",
})  # fmt: skip
#: Settings of clients: what they ask a model for, whether they use MLX at all, and which levels Victoria has
#: (SPEC A6, B7, D1).
_CLIENT_SETTINGS = frozenset({
    "OLLAMA_NUM_CTX", "NUM_CTX", "USE_MLX_FALLBACK", "USE_VICTORIA_ENHANCED", "ENABLE_EVENT_MONITORING",
})  # fmt: skip
#: Addresses of the stack (SPEC B7, D7); any other variable that ends so and holds a URL counts as well.
_URL_SUFFIXES = ("_URL", "_BASE_URL", "_ENDPOINT", "_HOST")
_NUMBER_OR_TRUTH = re.compile(r"\d{1,9}|true|false|yes|no", re.ASCII | re.IGNORECASE)
#: Names by which containers reach the machine that they run on.
HOST_NAMES = ("host.docker.internal", "gateway.docker.internal", "host.containers.internal", "172.17.0.1")
#: What stands between addresses, and in none of them before its path.
_BETWEEN = re.compile(r"[\s\"'`,;|<>(){}=]+")
_PLAIN = re.compile(r"[\w./:,~+-]{0,200}", re.ASCII)
#: Names whose values must not be empty.
SECRET_NAMES = ("*KEY*", "*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*CREDENTIAL*")
_MAX_BYTES = 4 * 1024 * 1024
#: What example files leave for a person to replace; nothing that could be somebody's real secret.
_PLACEHOLDER = re.compile(
    r"change[-_ ]?(me|this|it)\W*|your[-_ ].*|<.*>|x{3,}|\*{3,}|(sk-)?\.{3}|(sk-)?…|to[-_ ]?do"
    r"|placeholder|replace[-_ ]?(me|this|with).*|.*[-_ ]goes[-_ ]here|.*[-_ ]here",
    re.IGNORECASE,
)


class UrlParts(Record):
    """Where a URL leads; its user, password, path and query are dropped."""

    scheme: str
    host: str
    port: int | None

    @property
    def text(self) -> str:
        where = authority(self.host, self.port)
        return f"{self.scheme}://{where}" if self.scheme else where


class Environment(Record):
    """What may be known of a process's variables.

    `names` are all that are set (to anything but nothing), `settings` harmless values, `urls` where
    variables named as an address lead, `addresses` all that leads to this machine in any variable.
    """

    names: frozenset[str] = frozenset()
    settings: Mapping[str, str] = field(default_factory=dict)
    urls: Mapping[str, UrlParts] = field(default_factory=dict)
    addresses: Mapping[str, tuple[UrlParts, ...]] = field(default_factory=dict)


def known(variables: Mapping[str, str]) -> Environment:
    """Return the part of an environment that is no secret. Pure."""
    settings, urls, addresses = {}, {}, {}
    for name, text in variables.items():
        value = text.strip()
        shape = _NUMBER_OR_TRUTH if name in _CLIENT_SETTINGS else _PLAIN
        if name in OLLAMA_SETTINGS | RUNTIME_SETTINGS | _CLIENT_SETTINGS and shape.fullmatch(value):
            settings[name] = value
        if name.endswith(_URL_SUFFIXES) and (url := url_parts(value)) is not None:
            urls[name] = url
        if inside := addresses_in(value):
            addresses[name] = inside
    names = frozenset(name for name, value in variables.items() if value.strip())
    return Environment(names, settings, urls, addresses)


def addresses_in(text: str) -> tuple[UrlParts, ...]:
    """Return the URLs and the `host:port` of a list, a command or JSON that lead to this machine."""
    words = (word for word in _BETWEEN.split(text) if ":" in word)
    parts = (url_parts(word) if "://" in word else _host_and_port(word) for word in words)
    here = (part for part in parts if part and (part.host in HOST_NAMES or is_loopback_name(part.host)))
    return tuple(dict.fromkeys(here))


def _host_and_port(word: str) -> UrlParts | None:
    try:
        parts = urlsplit(f"//{word}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    return UrlParts("", host, port) if host and port else None


def is_loopback_name(host: str) -> bool:
    """Tell whether a host is this machine, or this container, by its name or by its address. Pure."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def url_parts(text: str) -> UrlParts | None:
    """Return where a URL leads; None for what is none."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not parts.scheme or not host or "://" not in text or not host.isprintable():
        return None
    return UrlParts(parts.scheme, host, port or {"http": 80, "https": 443}.get(parts.scheme))


class EnvFileFacts(Record, kw_only=True):
    """What is in an environment file. `malformed` are line numbers; `error` is why it cannot be read."""

    keys: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    malformed: tuple[int, ...] = ()
    readable_by_all: bool = False
    error: OSError | ValueError | None = None

    @property
    def problem(self) -> str:
        if self.error is None:
            return ""
        if isinstance(self.error, FileNotFoundError | NotADirectoryError):
            return "there is no such file"
        return f"it cannot be read: {getattr(self.error, 'strerror', None) or 'it is not a usable path'}"

    @property
    def empty_secrets(self) -> tuple[str, ...]:
        return matching(self.empty, SECRET_NAMES)

    @property
    def placeholder_secrets(self) -> tuple[str, ...]:
        return matching(self.placeholders, SECRET_NAMES)


async def read_env_file(_: Survey, path: Path) -> EnvFileFacts:
    """Read an environment file. Never raises for what it is."""
    return await asyncio.to_thread(_read, path)


def _read(path: Path) -> EnvFileFacts:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES)
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, ValueError) as error:
        return EnvFileFacts(error=error)
    file = parse_env_file(content.decode("utf-8-sig", "replace"))
    values = {name: value.strip() for name, value in file.values.items()}
    return EnvFileFacts(
        keys=tuple(values),
        empty=tuple(name for name, value in values.items() if not value),
        placeholders=tuple(name for name, value in values.items() if _PLACEHOLDER.fullmatch(value)),
        twice=file.repeated,
        malformed=file.malformed,
        readable_by_all=bool(mode & stat.S_IROTH),
    )


def matching(names: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    patterns = tuple(patterns)
    return tuple(name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
