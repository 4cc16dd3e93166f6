"""OLLAMA_* settings of a running server that fight, that it ignores, or that never reached it."""

import itertools
import re
from collections.abc import Iterator, Mapping

from opskit.checks.probe_record import NodeProbe
from opskit.doctor.cause import Cause, claims_of, warning
from opskit.doctor.evidence import Evidence
from opskit.facts.environment import OLLAMA_SETTINGS, known
from opskit.llm.fit import gib
from opskit.text import counted, listing

#: What `ollama serve` reads once, when it starts, beside the address it binds to.
_SERVER = sorted(OLLAMA_SETTINGS - {"OLLAMA_HOST"})
_NUMBERS = ("OLLAMA_NUM_PARALLEL", "OLLAMA_CONTEXT_LENGTH", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_MAX_QUEUE",
            "OLLAMA_GPU_OVERHEAD")  # fmt: skip
#: Share of the 16-bit cache that remains (Ollama's own figures).
_CACHE_SHARE = {"q8_0": 0.5, "q4_0": 0.25}
_OFF = ("0", "false", "f", "no")
_ZERO = re.compile(r"[+-]?0+(\.0+)?(ns|us|µs|ms|s|m|h)?")
#: Requests that name several models in turn make a server of one slot load again and again.
_SWITCHES = 3


def causes(evidence: Evidence) -> Iterator[Cause]:
    for probe in evidence.nodes:
        kind = probe.facts.kind
        if kind is None or not kind.settings_prefix:
            continue
        # Those of the process or container behind the node; they may be hidden from this user.
        environments = (owner.environment for owner in evidence.owners(probe.config))
        environment = next((environment for environment in environments if environment is not None), None)
        if environment is not None:
            yield from _fights(probe, environment.settings, evidence)
            yield from _ignored(probe.config.name, environment.settings)
            yield from _unreached(probe.config.name, environment.settings, evidence)


def _fights(probe: NodeProbe, settings: Mapping[str, str], evidence: Evidence) -> Iterator[Cause]:
    name = probe.config.name
    too_much = _memory(probe, settings, evidence)
    if too_much is not None:
        yield too_much
    switches = _model_switches(name, evidence)
    if settings.get("OLLAMA_MAX_LOADED_MODELS") == "1" and len(switches) > _SWITCHES:
        models = sorted(set(switches))
        yield warning(
            id="ollama-one-model",
            target=name,
            title=f"{name} may hold one model and is asked for {len(models)} in turn: each turn is a load",
            evidence=(
                "OLLAMA_MAX_LOADED_MODELS=1",
                f"{listing(models)}; {counted(len(switches) - 1, 'change')} in the last hour",
            ),
            remedy="raise OLLAMA_MAX_LOADED_MODELS (2 or more) or let all clients use one model, then "
            "restart Ollama",
        )
    keep = settings.get("OLLAMA_KEEP_ALIVE", "")
    if keep and _ZERO.fullmatch(keep):
        yield warning(
            id="ollama-keep-alive",
            target=name,
            title=f"{name} unloads each model after every answer",
            evidence=(
                f"OLLAMA_KEEP_ALIVE={keep}: the next request loads it again, 30 to 90 s for a large one",
            ),
            remedy="set OLLAMA_KEEP_ALIVE=5m (the default) or longer, then restart Ollama",
        )
    cache = settings.get("OLLAMA_KV_CACHE_TYPE", "").lower()
    flash = settings.get("OLLAMA_FLASH_ATTENTION", "").lower()
    if cache in _CACHE_SHARE and (not flash or flash in _OFF):
        state = f"OLLAMA_FLASH_ATTENTION={flash}" if flash else "OLLAMA_FLASH_ATTENTION is not set"
        yield warning(
            id="ollama-kv-cache",
            target=name,
            title=f"{name} cannot keep its cache as {cache} without flash attention",
            evidence=(f"OLLAMA_KV_CACHE_TYPE={cache}, {state}: the cache has 16 bits, or no model starts",),
            remedy="set OLLAMA_FLASH_ATTENTION=1, then restart Ollama",
        )


def _memory(probe: NodeProbe, settings: Mapping[str, str], evidence: Evidence) -> Cause | None:
    """Weights and cache of a model with these settings, against all memory of the machine.

    Only where both settings are there and the server tells the shape of the model; of several models the
    one that needs least.
    """
    parallel, context = (_number(settings, key) for key in ("OLLAMA_NUM_PARALLEL", "OLLAMA_CONTEXT_LENGTH"))
    if not parallel or not context or evidence.memory is None:
        return None
    share, total = 1.0, evidence.memory.total_bytes
    if settings.get("OLLAMA_FLASH_ATTENTION", "").lower() not in ("", *_OFF):
        share = _CACHE_SHARE.get(settings.get("OLLAMA_KV_CACHE_TYPE", "").lower(), 1.0)
    token_bytes = evidence.cache_sizes.get(probe.config.name, {})
    needs = []
    for model in probe.facts.models or ():
        if model.name not in token_bytes or model.size_bytes is None:
            continue
        # Ollama never gives a model more context than it was trained with.
        tokens = parallel * min(context, model.context_length or context)
        cache_bytes = token_bytes[model.name] * share * tokens
        needs.append((model.size_bytes + cache_bytes, model.name, model.size_bytes))
    if not needs or min(needs)[0] <= total:
        return None
    need, name, weights = min(needs)
    return Cause(
        id="ollama-memory",
        target=probe.config.name,
        title=f"{probe.config.name} is set up for more memory than this machine has",
        evidence=(
            f"OLLAMA_NUM_PARALLEL={parallel} x OLLAMA_CONTEXT_LENGTH={context}",
            f"{name} needs {gib(weights)} for weights and {gib(need - weights)} for its cache",
            f"the machine has {gib(total)}",
        ),
        remedy="lower OLLAMA_CONTEXT_LENGTH or OLLAMA_NUM_PARALLEL (their product is what costs), then "
        "restart Ollama",
        claims=claims_of(probe.config.name),
    )


def _ignored(name: str, settings: Mapping[str, str]) -> Iterator[Cause]:
    wrong = [
        f"{key}={settings[key]}" for key in _NUMBERS if settings.get(key) and _number(settings, key) is None
    ]
    if wrong:
        yield warning(
            id="ollama-setting-invalid",
            target=name,
            title=f"{name} ignores {listing(wrong)}",
            evidence=(
                "these take whole numbers; anything else is passed over with a warning in Ollama's log",
            ),
            remedy="correct them where Ollama is started, then restart it",
        )


def _unreached(name: str, settings: Mapping[str, str], evidence: Evidence) -> Iterator[Cause]:
    shell = known(evidence.target.environ).settings
    differing = [key for key in _SERVER if shell.get(key) and shell[key] != settings.get(key, "")]
    if differing:
        yield warning(
            id="shell-settings-ignored",
            target=name,
            title=f"{listing(differing)} of this shell never reached {name}",
            evidence=tuple(
                f"{key} is {shell[key]} here, and {settings.get(key) or 'not set'} in the running server"
                for key in differing
            ),
            remedy="a server keeps the variables that it was started with: set them there (`systemctl edit "
            "ollama`, `launchctl setenv`, the Compose file), then restart it; or unset them here",
        )


def _model_switches(node: str, evidence: Evidence) -> list[str]:
    """The models of this node's requests in order, repetitions left out."""
    calls = [call for requests in evidence.requests for call in requests.calls if call.node == node]
    models = [call.model for call in sorted(calls, key=lambda call: call.began or 0.0) if call.model]
    return [model for model, _ in itertools.groupby(models)]


def _number(settings: Mapping[str, str], key: str) -> int | None:
    text = settings.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else None
