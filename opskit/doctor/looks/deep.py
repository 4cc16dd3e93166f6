"""The one prompt that `--deep` sends: is a prompt read as it was sent? Only a loaded model is asked."""

import secrets
from dataclasses import replace

from opskit.checks.spec import CheckContext
from opskit.doctor.evidence import ExaminedNode
from opskit.llm.loads import load_budget_s
from opskit.llm.one_token import may_be_asked, one_token
from opskit.providers.base import CallError, Message
from opskit.providers.node import Node
from opskit.system.lock import try_lock

#: A token is never longer than a word here, so a prompt of so many words has at least so many tokens.
MOST_WORDS = 6000
_USUAL_CONTEXT = 4096
_SHARE = 0.75
_LIMIT_S = 60.0


def words_for(num_ctx: int | None, loaded: int | None) -> int:
    """How many words to send: well inside the context that clients count on, and never without bound."""
    wanted = num_ctx or loaded or _USUAL_CONTEXT
    return max(1, min(MOST_WORDS, int(wanted * _SHARE)))


async def asked(facts: ExaminedNode, scene: CheckContext) -> ExaminedNode:
    """The facts with what was sent and what was read. A model that is not loaded is not asked."""
    chosen = min(facts.resident, key=lambda one: one.size_bytes or 0, default=None)
    if chosen is None or not may_be_asked(chosen):
        return facts
    count = words_for(facts.config.num_ctx, chosen.context_length)
    # Words that nobody has sent before: what a server has in its cache it does not count.
    prompt = f"{secrets.token_hex(8)} " + " ".join(map(str, range(count - 1)))
    budgets = scene.around.config.budgets
    node = Node(facts.config, budgets)
    try:
        with try_lock(scene.around.state_folder / f"probe-{facts.config.name}.lock") as mine:
            if not mine:
                return facts
            got = await one_token(
                await node.provider(),
                chosen,
                limit_s=min(_LIMIT_S, scene.timeout_s / 2),
                load_s=load_budget_s(budgets, chosen.size_bytes),
                messages=(Message("user", prompt),),
            )
    except CallError:
        return facts
    finally:
        await node.aclose()
    if not got.ended:
        return facts
    return replace(facts, sent_words=count, read_tokens=got.usage.prompt_tokens, deep_model=chosen.name)
