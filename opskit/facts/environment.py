"""Environments without their secrets: names are facts, values only where they are known to be harmless."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

#: Settings of Ollama's server that hold no secret (wire facts A6).
OLLAMA_SETTINGS = frozenset({
    "OLLAMA_HOST", "OLLAMA_NUM_PARALLEL", "OLLAMA_CONTEXT_LENGTH", "OLLAMA_MAX_LOADED_MODELS",
    "OLLAMA_KEEP_ALIVE", "OLLAMA_KV_CACHE_TYPE", "OLLAMA_FLASH_ATTENTION", "OLLAMA_MAX_QUEUE",
    "OLLAMA_LOAD_TIMEOUT", "OLLAMA_SCHED_SPREAD", "OLLAMA_GPU_OVERHEAD", "OLLAMA_MODELS",
})  # fmt: skip
#: Of clients: what they ask a model for, and whether they use MLX at all (SPEC A6, B7).
CLIENT_SETTINGS = frozenset({"OLLAMA_NUM_CTX", "NUM_CTX", "USE_MLX_FALLBACK"})
#: Addresses of the stack (SPEC B7, D7); any other variable that ends so and holds a URL counts as well.
URL_SUFFIXES = ("_URL", "_BASE_URL", "_ENDPOINT", "_HOST")
_NUMBER_OR_TRUTH = re.compile(r"\d{1,9}|true|false|yes|no", re.ASCII | re.IGNORECASE)
_PLAIN = re.compile(r"[\w./:~+-]{0,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class UrlParts:
    """Where a URL leads; its user, password, path and query are dropped."""

    scheme: str
    host: str
    port: int | None

    @property
    def text(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True, slots=True)
class Environment:
    """What may be known of a process's variables.

    `names` are all that are set (to anything but nothing), `settings` harmless values, `places` where those
    that hold a URL lead.
    """

    names: frozenset[str] = frozenset()
    settings: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, UrlParts] = field(default_factory=dict)


def known(variables: Mapping[str, str]) -> Environment:
    """The part of an environment that is no secret."""
    settings, places = {}, {}
    for name, value in variables.items():
        bare = value.strip()
        shape = _PLAIN if name in OLLAMA_SETTINGS else _NUMBER_OR_TRUTH
        if name in OLLAMA_SETTINGS | CLIENT_SETTINGS and shape.fullmatch(bare):
            settings[name] = bare
        if name.endswith(URL_SUFFIXES) and (place := place_of(bare)) is not None:
            places[name] = place
    names = frozenset(name for name, value in variables.items() if value.strip())
    return Environment(names, settings, places)


def place_of(text: str) -> UrlParts | None:
    """Where a URL leads; None for what is none."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not parts.scheme or not host or "://" not in text or not host.isprintable():
        return None
    return UrlParts(parts.scheme, host, port or {"http": 80, "https": 443}.get(parts.scheme))
