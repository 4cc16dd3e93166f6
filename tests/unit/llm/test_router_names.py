"""What a name means to the router, and what it learns from bad texts."""

from opskit.llm.answer import Session
from opskit.providers.base import CallCause
from tests.parts.rig import fails, named, tried
from tests.parts.scripted import Scripted, says

GOAL = "Explain in one plain sentence how a hash table deals with collisions."
GOOD = "It keeps colliding entries in a list per bucket."
CRASH = fails(CallCause.STATUS, "model runner has unexpectedly stopped", 500)


async def test_a_named_model_is_sought_on_its_other_nodes_first(rig):
    """After a crash on one node the same model on another answers, before any other model."""
    one = Scripted({"m:7b": [CRASH]})
    two = Scripted({"m:7b": [says(GOOD)], "phi3.5:3.8b": [says("Lists, mostly, and some probing.")]})
    answer = await rig({"mlx": one, "ollama": two}).ask(GOAL, **named("m:7b"))
    assert tried(answer) == [("mlx", "m:7b", "runner_crashed"), ("ollama", "m:7b", None)]


async def test_a_named_model_that_failed_everywhere_gives_way(rig):
    """When each node that holds it has failed, another model answers."""
    one, two = Scripted({"m:7b": [CRASH]}), Scripted({"m:7b": [CRASH], "phi3.5:3.8b": [says(GOOD)]})
    answer = await rig({"mlx": one, "ollama": two}).ask(GOAL, **named("m:7b"))
    assert [model for _, model, _ in tried(answer)] == ["m:7b", "m:7b", "phi3.5:3.8b"]


async def test_a_model_that_cannot_chat_is_asked_once(rig):
    """`does not support chat` speaks of the model: the session does not ask it again."""
    one = Scripted({"m:7b": [fails(CallCause.STATUS, '"m:7b" does not support chat', 400)]})
    two, session = Scripted({"n:7b": [says(GOOD)]}), Session()
    router = rig({"mlx": one, "ollama": two})
    first, second = await router.ask(GOAL, session), await router.ask(GOAL, session)
    assert [fault for _, _, fault in tried(first)] == ["unsupported", None]
    assert [fault for _, _, fault in tried(second)] == [None]


async def test_a_model_that_only_echoes_is_left_alone(rig):
    """After two bad texts in a row a model rests: the third request does not pay."""
    router = rig({"mlx": Scripted({"m:7b": [says(GOAL)]}), "ollama": Scripted({"n:7b": [says(GOOD)]})})
    assert [len((await router.ask(GOAL)).attempts) for _ in range(3)] == [2, 2, 1]
