"""llama.cpp's `llama-server`: chat in the OpenAI style, and pages of its own that tell what it does.

It has loaded one model when it answers anything but 503 "Loading model". With a key, every page but /health
is locked. A name that it does not list would be answered by its one model all the same, so none is sent.
"""

from collections.abc import Mapping
from typing import Any

from opskit.providers.base import CallCause, CallError, ModelInfo, Resident, Slot
from opskit.providers.http import HttpClient
from opskit.providers.kinds import LLAMACPP
from opskit.providers.openai import OpenAIStyle
from opskit.providers.values import count, mapping, mappings, text

#: What it calls itself in the header `Server`, and in its list of models.
SERVER = "llama.cpp"
OWNER = "llamacpp"


class LlamaCpp(OpenAIStyle):
    """One `llama-server`."""

    def __init__(self, http: HttpClient, default_model: str | None = None) -> None:
        super().__init__(http, LLAMACPP, default_model)
        # Each open connection holds one of its few threads for 5 s, and others wait meanwhile.
        http.keep_alive = False

    async def version(self) -> str:
        """Its name; /health is 503 while it loads its model."""
        await self._http.get_json("/health")
        return self.kind.label

    async def models(self) -> tuple[ModelInfo, ...]:
        """What it lists, with what it tells of the weights; a server that sleeps has freed its model."""
        props = await self._props()
        return tuple(_model(entry, props) for entry in await self._entries())

    async def resident(self) -> tuple[Resident, ...] | None:
        """Its model, with the context that one request has."""
        props = await self._props()
        listed = await self._entries()
        return tuple(_resident(entry, props) for entry in listed if _is_loaded(entry, props))

    async def slots(self) -> tuple[Slot, ...] | None:
        """What each slot works on; None where the page is switched off (404, 501)."""
        try:
            body = await self._http.get_json("/slots")
        except CallError as error:
            if error.status in (404, 501):
                return None
            raise
        return slots_of(body)

    async def _props(self) -> Mapping[str, Any]:
        """Its properties; nothing where the page is switched off or older than what is asked of it."""
        try:
            body = await self._http.get_json("/props")
        except CallError as error:
            if error.cause in (CallCause.STATUS, CallCause.PAYLOAD) and error.status not in (401, 403, 503):
                return {}
            raise
        return mapping(body)


def _model(entry: Mapping[str, Any], props: Mapping[str, Any]) -> ModelInfo:
    meta = mapping(entry.get("meta"))
    tools = mapping(props.get("chat_template_caps")).get("supports_tools") is True
    return ModelInfo(
        str(entry["id"]),
        size_bytes=count(meta.get("size")),
        parameters=count(meta.get("n_params")),
        quantization=text(meta.get("ftype")) or text(props.get("model_ftype")),
        context_length=count(meta.get("n_ctx_train")),
        capabilities=frozenset({"completion", "tools"} if tools else {"completion"}),
        resident=_is_loaded(entry, props),
        aliases=tuple(alias for alias in _texts(entry, "aliases") if alias != entry["id"]),
        version=" ".join(filter(None, (text(props.get("model_path")), text(props.get("build_info")))))
        or None,
    )


def _resident(entry: Mapping[str, Any], props: Mapping[str, Any]) -> Resident:
    meta = mapping(entry.get("meta"))
    context = meta.get("n_ctx") or mapping(props.get("default_generation_settings")).get("n_ctx")
    return Resident(str(entry["id"]), size_bytes=count(meta.get("size")), context_length=count(context))


def _is_loaded(entry: Mapping[str, Any], props: Mapping[str, Any]) -> bool:
    """Whether a listed model is in memory: one that serves several models tells the state of each."""
    state = mapping(entry.get("status")).get("value")
    return state in (None, "loaded") and props.get("is_sleeping") is not True


def slots_of(body: Any) -> tuple[Slot, ...] | None:
    """Return the slots out of the page `/slots`; None for any other body. Pure."""
    return tuple(map(_slot, mappings(body))) if isinstance(body, list) else None


def _slot(entry: Mapping[str, Any]) -> Slot:
    following = entry.get("next_token")
    following = (mappings(following) or ({},))[0] if isinstance(following, list) else mapping(following)
    return Slot(
        busy=entry.get("is_processing") is True,
        task=count(entry.get("id_task")),
        prompt_tokens=count(entry.get("n_prompt_tokens_processed")) or 0,
        tokens=count(following.get("n_decoded")) or 0,
    )


def _texts(document: Mapping[str, Any], key: str) -> list[str]:
    values = document.get(key)
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
