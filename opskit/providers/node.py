"""A node: a configured address that says by itself which protocol it speaks.

What stands behind an address is asked once and remembered: an `MLX_API_URL` may be mlx_lm.server, LM Studio
or something Ollama-shaped.
"""

import asyncio
import time
from typing import Any

from opskit.config.schema import Budgets, NodeConfig
from opskit.providers.base import (
    CallCause,
    CallError,
    ModelInfo,
    Provider,
    Resident,
    bad_payload,
    without_reason,
)
from opskit.providers.failures import proxy_name
from opskit.providers.http import HttpClient, parsed, status_error
from opskit.providers.kinds import BY_OWNER, LMSTUDIO, MLX_LM, OPENAI, UNNAMED_MLX
from opskit.providers.llamacpp import OWNER, SERVER, LlamaCpp
from opskit.providers.ollama import Ollama
from opskit.providers.openai import OpenAIStyle
from opskit.providers.values import mapping, mappings, text
from opskit.records import Record


class Node:
    """One address, its provider found on first use. Close it with `aclose`."""

    def __init__(self, config: NodeConfig, budgets: Budgets, *, provider: Provider | None = None) -> None:
        self.config = config
        self.name = config.name
        self.source = config.source
        self._http = HttpClient(
            config.url,
            api_key=config.api_key,
            connect_s=budgets.connect_s,
            metadata_s=budgets.metadata_s,
            proxy=config.proxy,
        )
        self._given = provider
        self._provider = provider
        self._detecting = asyncio.Lock()

    async def provider(self) -> Provider:
        """The provider of this node; raises CallError when nothing answers or nothing known answers."""
        if self._provider is None:
            async with self._detecting:
                if self._provider is None:
                    self._provider = await detect(self._http, self.config)
        return self._provider

    @property
    def known(self) -> Provider | None:
        """The provider, when it has been found already."""
        return self._provider

    def forget(self) -> None:
        """Ask again at the next use: another server may have taken the port."""
        self._provider = self._given

    async def aclose(self) -> None:
        await self._http.aclose()


class NodeContents(Record):
    """What a server holds.

    `resident` is None when the server cannot tell what is loaded, or did not; `silence` is then why it did
    not: a failed call, or None where it never tells.
    """

    models: tuple[ModelInfo, ...]
    models_s: float
    resident: tuple[Resident, ...] | None
    silence: CallError | None
    resident_s: float


async def read_contents(
    provider: Provider,
    *,
    models: tuple[ModelInfo, ...] | None = None,
    residency_grace_s: float | None = None,
) -> NodeContents:
    """Ask a server for its models, where they are not given, and for what is loaded, at once.

    A residency that stalls (a load, wire facts A2) does not hold the list back longer than
    `residency_grace_s` (None: as long as its own deadline). Raises CallError when there is no list.
    """
    began = time.monotonic()

    async def resident() -> tuple[tuple[Resident, ...] | None, CallError | None, float]:
        try:
            return await provider.resident(), None, time.monotonic() - began
        except CallError as error:
            return None, error, time.monotonic() - began

    residency = asyncio.create_task(resident())
    try:
        models = tuple(await provider.models()) if models is None else models
        models_s = time.monotonic() - began
        await asyncio.wait({residency}, timeout=residency_grace_s)
        if residency.done():
            return NodeContents(models, models_s, *residency.result())
    finally:
        residency.cancel()
        await asyncio.gather(residency, return_exceptions=True)
    silence = CallError(CallCause.TIMEOUT, f"no answer within {residency_grace_s:g} s")
    return NodeContents(models, models_s, None, silence, time.monotonic() - began)


async def detect(http: HttpClient, config: NodeConfig) -> Provider:
    """Ask a server what it is. Raises CallError(PAYLOAD) when it answers HTTP but no protocol we know."""
    if config.protocol == "ollama":
        return Ollama(http)
    trouble: CallError | None = None
    if config.protocol == "auto":
        try:
            body = await http.get_json("/api/version")
        except CallError as error:
            if http.server == SERVER:
                # It names itself in every reply, also while it loads or wants a key.
                return LlamaCpp(http, config.default_model)
            if error.cause not in (CallCause.STATUS, CallCause.PAYLOAD) or error.status in (401, 403):
                raise
            trouble = error
        else:
            if isinstance(version := mapping(body).get("version"), str) and await _is_ollama(http):
                return Ollama(http, version)
        if trouble is not None and await _lists_tags(http):
            return Ollama(http)
    try:
        return await _openai(http, config)
    except CallError as error:
        # A server that is Ollama but answers 5xx just now must not be reported as "unknown".
        if trouble is not None and (
            trouble.location or (trouble.status is not None and trouble.status >= 500)
        ):
            raise trouble from error
        if error.status == 404:
            raise CallError(CallCause.PAYLOAD, _unknown(http), status=404) from error
        raise


async def _openai(http: HttpClient, config: NodeConfig) -> Provider:
    response = await http.get("/v1/models")
    server = http.server
    if server == SERVER:
        return LlamaCpp(http, config.default_model)
    if not 200 <= response.status_code < 300:
        error = status_error(response, response.content)
        if error.location is None and not error.relayed:
            reason = (
                "" if error.is_page or error.text == without_reason(error.status or 0) else f": {error.text}"
            )
            error.text = f"/v1/models answered {response.status_code}{reason}"
        raise error
    # mlx_lm.server without a cache folder fails after its 200 is written (wire facts B1).
    listing = parsed(response.content, _unknown(http)) if response.content else None
    data, owners = mapping(listing).get("data"), _owners(listing)
    if OWNER in owners:
        return LlamaCpp(http, config.default_model)
    if (kind := BY_OWNER.get(next(iter(owners), None) or "")) is not None:
        return OpenAIStyle(http, kind, config.default_model)
    # mlx_lm.server is a bare http.server, as many a small proxy is: its health page tells (B1).
    hidden = config.is_mlx and (not server or proxy_name(server) is not None)
    plain = (data is not None or listing is None) and owners <= {None}
    if plain and (server.startswith("BaseHTTP") or hidden) and await _is_mlx_lm(http):
        return OpenAIStyle(http, MLX_LM, config.default_model)
    if not isinstance(data, list):
        raise bad_payload(_unknown(http), response.status_code)
    if config.protocol == "auto" and await _is_lmstudio(http):
        return OpenAIStyle(http, LMSTUDIO, config.default_model)
    if config.is_mlx and owners <= {None}:
        return OpenAIStyle(http, UNNAMED_MLX, config.default_model)
    return OpenAIStyle(http, OPENAI, config.default_model)


def _owners(listing: Any) -> set[str | None]:
    """Return who signed the models of a list in the OpenAI style."""
    return {text(entry.get("owned_by")) for entry in mappings(mapping(listing).get("data"))}


async def _is_ollama(http: HttpClient) -> bool:
    """Whether a server that tells its version as Ollama does is Ollama, which does not name itself.

    Others speak its language, or happen to have that page: their lists of models tell.
    """
    if not http.server or proxy_name(http.server) is not None:
        return True
    try:
        owners = _owners(await http.get_json("/v1/models"))
    except CallError:
        owners = set()
    return "library" in owners or (not owners and await _lists_tags(http))


def _unknown(http: HttpClient) -> str:
    """What is said of a server that is none of ours; it may name itself."""
    name = http.server if http.server.isprintable() else ""
    return f"{name[:80] or 'something'} answers HTTP there, but neither as Ollama nor in the OpenAI style"


async def _is_mlx_lm(http: HttpClient) -> bool:
    """Whether its health page is that of mlx_lm.server: 200, or 503 once its worker is dead."""
    response = await http.get("/health")
    try:
        body = parsed(response.content, "")
    except CallError:
        return False
    return mapping(body).get("status") in ("ok", "unavailable")


async def _lists_tags(http: HttpClient) -> bool:
    """Ollama-shaped, though it does not tell its version."""
    try:
        body = await http.get_json("/api/tags")
    except CallError:
        return False
    return isinstance(mapping(body).get("models"), list)


async def _is_lmstudio(http: HttpClient) -> bool:
    try:
        body = await http.get_json("/api/v0/models")
    except CallError:
        return False
    entries = mapping(body).get("data")
    return isinstance(entries, list) and all("state" in mapping(entry) for entry in entries)
