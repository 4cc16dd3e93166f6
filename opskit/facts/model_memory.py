"""What the models of a server need beside their weights, and whether a prompt is read whole."""

import asyncio
import secrets
from collections.abc import Mapping
from functools import partial

from opskit.config.schema import NodeConfig
from opskit.facts.node import read_node
from opskit.facts.survey import Survey
from opskit.llm.loads import load_budget_s
from opskit.llm.one_token import may_be_asked, one_token
from opskit.providers.base import CallError, Message, ModelInfo, Resident
from opskit.providers.node import Node
from opskit.records import Record

#: A token is never longer than a word here, so a prompt of so many words has at least so many tokens.
MAX_WORDS = 6000
_USUAL_CONTEXT = 4096
_SHARE = 0.75
_LIMIT_S = 60.0
#: Models whose metadata is asked for; a catalogue of hundreds would take its time.
_MAX_MODELS = 8


async def read_cache_sizes(survey: Survey, config: NodeConfig) -> Mapping[str, int]:
    """Read the bytes that a token of context costs, by model, where the server tells; loaded ones first."""
    facts = await survey.get(read_node, config)
    if not facts.models:
        return {}
    provider = await survey.node(config).provider()

    async def read(model: ModelInfo) -> int | None:
        try:
            return await provider.cache_bytes_per_token(model.name)
        except CallError:
            return None

    loaded = {model.name for model in facts.resident}
    loaded_first = sorted(facts.models, key=lambda model: (model.name not in loaded, model.size_bytes or 0))
    models = loaded_first[:_MAX_MODELS]
    sizes = await asyncio.gather(*map(read, models))
    return {model.name: size for model, size in zip(models, sizes, strict=True) if size}


class PromptReading(Record):
    """A prompt of `words` words was sent to a loaded model, which counted `tokens` of it; None: not known."""

    model: str
    words: int
    tokens: int | None


async def read_prompt(survey: Survey, config: NodeConfig) -> PromptReading | None:
    """Send one long prompt to a loaded model; None where none is loaded, or it gave no token.

    This is the one collector that makes a server work. Nothing is loaded for it.
    """
    resident = (await survey.get(read_node, config)).resident
    model = min(resident, key=lambda model: model.size_bytes or 0, default=None)
    if model is None or not may_be_asked(model):
        return None
    words = words_for(config.num_ctx, model.context_length)
    with survey.probe_lock(config.name) as is_ours:
        return await _ask(survey, config, model, words) if is_ours else None


def words_for(num_ctx: int | None, loaded: int | None) -> int:
    """Return how many words to send: well inside the context that clients count on, and bounded. Pure."""
    wanted = num_ctx or loaded or _USUAL_CONTEXT
    return max(1, min(MAX_WORDS, int(wanted * _SHARE)))


async def _ask(survey: Survey, config: NodeConfig, model: Resident, words: int) -> PromptReading | None:
    # Words that nobody has sent before: what a server has in its cache it does not count.
    prompt = f"{secrets.token_hex(8)} " + " ".join(map(str, range(words - 1)))
    budgets = survey.config.budgets
    node = Node(config, budgets)
    try:
        answer = await one_token(
            await node.provider(),
            model,
            limit_s=_LIMIT_S,
            load_s=load_budget_s(budgets, model.size_bytes),
            messages=(Message("user", prompt),),
            on_left=partial(survey.note_left, config, model.name),
        )
    except CallError:
        return None
    finally:
        await node.aclose()
    return PromptReading(model.name, words, answer.usage.prompt_tokens) if answer.ended else None
