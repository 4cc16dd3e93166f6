"""OLLAMA_* settings of a running server: those that fight, that it ignores, that never reached it."""

import re
from collections.abc import Iterator, Mapping

from opskit.doctor.areas.nodes import check_of, holders_of
from opskit.doctor.cause import Cause, listing
from opskit.doctor.evidence import Evidence, ExaminedNode
from opskit.llm.fit import gib
from opskit.result import Status

#: Wire facts A6: what `ollama serve` reads once, when it starts.
_SERVER = (
    "OLLAMA_NUM_PARALLEL", "OLLAMA_CONTEXT_LENGTH", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_KEEP_ALIVE",
    "OLLAMA_KV_CACHE_TYPE", "OLLAMA_FLASH_ATTENTION", "OLLAMA_MAX_QUEUE", "OLLAMA_LOAD_TIMEOUT",
    "OLLAMA_SCHED_SPREAD", "OLLAMA_GPU_OVERHEAD", "OLLAMA_MODELS",
)  # fmt: skip
_NUMBERS = ("OLLAMA_NUM_PARALLEL", "OLLAMA_CONTEXT_LENGTH", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_MAX_QUEUE",
            "OLLAMA_GPU_OVERHEAD")  # fmt: skip
#: Share of the 16-bit cache that remains (Ollama's own figures).
_CACHE_SHARE = {"q8_0": 0.5, "q4_0": 0.25}
_OFF = ("0", "false", "f", "no")
_ZERO = re.compile(r"[+-]?0+(\.0+)?(ns|us|µs|ms|s|m|h)?")
#: Requests that name several models in turn make a server of one slot load again and again.
_SWITCHES = 3


def causes(evidence: Evidence) -> Iterator[Cause]:
    for node in evidence.nodes:
        settings = _settings(node, evidence)
        if settings is None:
            continue
        yield from _fights(node, settings, evidence)
        yield from _ignored(node, settings)
        yield from _unreached(node, settings, evidence)


def _settings(node: ExaminedNode, evidence: Evidence) -> Mapping[str, str] | None:
    """Those of the process or container behind an Ollama node; None where they cannot be seen."""
    if node.kind is None or not node.kind.settings_prefix:
        return None
    holders = holders_of(node.config, evidence)
    return next((one.environment.settings for one in holders if one.environment is not None), None)


def _fights(node: ExaminedNode, settings: Mapping[str, str], evidence: Evidence) -> Iterator[Cause]:
    name = node.config.name
    too_much = _memory(node, settings, evidence)
    if too_much is not None:
        yield too_much
    switches = _model_switches(node, evidence)
    if settings.get("OLLAMA_MAX_LOADED_MODELS") == "1" and len(switches) > _SWITCHES:
        models = sorted(set(switches))
        yield Cause(
            "ollama-one-model",
            name,
            f"{name} may hold one model and is asked for {len(models)} in turn: each turn is a load",
            (
                "OLLAMA_MAX_LOADED_MODELS=1",
                f"{listing(models)}; {len(switches) - 1} changes in the last hour",
            ),
            "raise OLLAMA_MAX_LOADED_MODELS (2 or more) or let all clients use one model, then restart "
            "Ollama",
            status=Status.WARN,
        )
    keep = settings.get("OLLAMA_KEEP_ALIVE", "")
    if keep and _ZERO.fullmatch(keep):
        yield Cause(
            "ollama-keep-alive",
            name,
            f"{name} unloads each model after every answer",
            (f"OLLAMA_KEEP_ALIVE={keep}: the next request loads it again, 30 to 90 s for a large one",),
            "set OLLAMA_KEEP_ALIVE=5m (the default) or longer, then restart Ollama",
            status=Status.WARN,
        )
    yield from _cache(node, settings)


def _cache(node: ExaminedNode, settings: Mapping[str, str]) -> Iterator[Cause]:
    kind = settings.get("OLLAMA_KV_CACHE_TYPE", "").lower()
    flash = settings.get("OLLAMA_FLASH_ATTENTION", "").lower()
    if kind not in _CACHE_SHARE or (flash and flash not in _OFF):
        return
    said = f"OLLAMA_FLASH_ATTENTION={flash}" if flash else "OLLAMA_FLASH_ATTENTION is not set"
    yield Cause(
        "ollama-kv-cache",
        node.config.name,
        f"{node.config.name} cannot keep its cache as {kind} without flash attention",
        (f"OLLAMA_KV_CACHE_TYPE={kind}, {said}: the cache stays at 16 bits, or the model does not start",),
        "set OLLAMA_FLASH_ATTENTION=1, then restart Ollama",
        status=Status.WARN,
    )


def _memory(node: ExaminedNode, settings: Mapping[str, str], evidence: Evidence) -> Cause | None:
    """Weights and cache of a model with these settings, against all memory of the machine.

    Only where both settings are there and the server tells the shape of the model; of several models the
    one that needs least.
    """
    parallel, context = (_number(settings, key) for key in ("OLLAMA_NUM_PARALLEL", "OLLAMA_CONTEXT_LENGTH"))
    total = evidence.memory_total_bytes
    if not parallel or not context or total is None:
        return None
    share = 1.0
    if settings.get("OLLAMA_FLASH_ATTENTION", "").lower() not in ("", *_OFF):
        share = _CACHE_SHARE.get(settings.get("OLLAMA_KV_CACHE_TYPE", "").lower(), 1.0)
    needs = []
    for model in node.models or ():
        each = node.shapes.get(model.name)
        if each is None or model.size_bytes is None:
            continue
        # Ollama never gives a model more context than it was trained with.
        tokens = min(context, model.context_length or context)
        needs.append((model.size_bytes + each * share * tokens * parallel, model.name, model.size_bytes))
    if not needs or min(needs)[0] <= total:
        return None
    need, name, weights = min(needs)
    return Cause(
        "ollama-memory",
        node.config.name,
        f"{node.config.name} is set up for more memory than this machine has",
        (
            f"OLLAMA_NUM_PARALLEL={parallel} x OLLAMA_CONTEXT_LENGTH={context}",
            f"{name} needs {gib(weights)} for weights and {gib(need - weights)} for its cache",
            f"the machine has {gib(total)}",
        ),
        "lower OLLAMA_CONTEXT_LENGTH or OLLAMA_NUM_PARALLEL (their product is what costs), then restart "
        "Ollama",
        check_of(node.config.name),
        code="MODEL_003",
    )


def _ignored(node: ExaminedNode, settings: Mapping[str, str]) -> Iterator[Cause]:
    wrong = [
        f"{key}={settings[key]}" for key in _NUMBERS if settings.get(key) and _number(settings, key) is None
    ]
    if wrong:
        yield Cause(
            "ollama-setting-invalid",
            node.config.name,
            f"{node.config.name} ignores {listing(wrong)}",
            ("these take whole numbers; anything else is passed over with a warning in Ollama's log",),
            "correct them where Ollama is started, then restart it",
            status=Status.WARN,
        )


def _unreached(node: ExaminedNode, settings: Mapping[str, str], evidence: Evidence) -> Iterator[Cause]:
    shell = evidence.shell.settings
    differing = [key for key in _SERVER if shell.get(key) and shell[key] != settings.get(key, "")]
    if differing:
        yield Cause(
            "shell-settings-ignored",
            node.config.name,
            f"{listing(differing)} of this shell never reached {node.config.name}",
            tuple(
                f"{key} is {shell[key]} here, and {settings.get(key) or 'not set'} in the running server"
                for key in differing
            ),
            "a server keeps the variables that it was started with: set them there (`systemctl edit ollama`, "
            "`launchctl setenv`, the Compose file), then restart it; or unset them here",
            status=Status.WARN,
        )


def _model_switches(node: ExaminedNode, evidence: Evidence) -> list[str]:
    """The models of this node's requests in order, repetitions left out."""
    found: list[str] = []
    calls = [one for one in evidence.calls if one.node == node.config.name and one.model]
    for call in sorted(calls, key=lambda one: one.at or 0.0):
        if not found or found[-1] != call.model:
            found.append(call.model)
    return found


def _number(settings: Mapping[str, str], key: str) -> int | None:
    text = settings.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else None
