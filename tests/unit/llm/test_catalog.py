"""What models are really there (SPEC B8)."""

import asyncio

import pytest

from opskit.llm.catalog import GRACE_S, RESIDENCY_TTL_S, Catalog, generates
from opskit.llm.faults import FaultKind
from opskit.providers.base import CallCause, CallError, ModelInfo
from tests.parts.rig import node
from tests.parts.scripted import Pause, Scripted, says

REFUSED = CallError(CallCause.REFUSED, "refused", phase="connect")
SILENT = CallError(CallCause.TIMEOUT, "no reply within 3 s")


def holding(*names: str, **rest) -> Scripted:
    return Scripted({name: [says("hello")] for name in names}, **rest)


@pytest.fixture
async def catalog_of():
    built: list[Catalog] = []

    def build(**providers: Scripted) -> Catalog:
        nodes = [node(name, provider) for name, provider in providers.items()]
        built.append(Catalog(nodes, clock=asyncio.get_running_loop().time))
        return built[-1]

    yield build
    for catalog in built:
        await catalog.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def names(snapshot, name: str) -> list[str]:
    return [model.name for model in snapshot.node(name).models]


def now() -> float:
    return asyncio.get_running_loop().time()


class TestLists:
    async def test_lists_of_different_nodes_are_kept_apart(self, catalog_of):
        """SPEC B8: MLX and Ollama each have their own list."""
        snapshot = await catalog_of(mlx=holding("a"), ollama=holding("b", "c")).snapshot(wait_for_all=True)
        assert names(snapshot, "mlx") == ["a"]
        assert names(snapshot, "ollama") == ["b", "c"]
        assert snapshot.complete

    async def test_a_list_is_fetched_once_however_many_ask(self, catalog_of):
        """Fifty requests on a cold start scan the node once."""
        provider = holding("a")
        provider.listing = (Pause(1.0),)
        catalog = catalog_of(ollama=provider)
        snapshots = await asyncio.gather(*(catalog.snapshot() for _ in range(50)))
        assert all(names(snapshot, "ollama") == ["a"] for snapshot in snapshots)
        assert provider.listed == 1

    async def test_a_list_lives_two_minutes(self, catalog_of):
        """SPEC B8: cached for 120 s, then renewed without making anybody wait."""
        provider = holding("a")
        catalog = catalog_of(ollama=provider)
        await catalog.snapshot()
        await asyncio.sleep(119.0)
        await catalog.snapshot()
        assert provider.listed == 1
        await asyncio.sleep(2.0)
        provider.listing = (Pause(2.0),)
        before = now()
        assert names(await catalog.snapshot(), "ollama") == ["a"]
        assert now() - before <= GRACE_S
        await asyncio.sleep(3.0)
        assert provider.listed == 2

    async def test_a_forgotten_list_is_fetched_before_its_next_use(self, catalog_of):
        """A list that proved wrong is not used again."""
        provider = holding("a")
        catalog = catalog_of(ollama=provider)
        await catalog.snapshot()
        provider.listing = (Pause(0.1),)
        catalog.forget("ollama")
        await catalog.snapshot()
        assert provider.listed == 2

    async def test_a_snapshot_is_another_only_with_other_content(self, catalog_of):
        """Who compares snapshots sees news, and only news."""
        provider = holding("a", "b", resident=["a"])
        catalog = catalog_of(ollama=provider)
        first = await catalog.snapshot()
        assert (await catalog.snapshot()) is first
        catalog.saw_resident("ollama", "a")
        assert (await catalog.snapshot()) is first
        catalog.saw_resident("ollama", "b")
        assert (await catalog.snapshot()) is not first

    @pytest.mark.parametrize(
        "model, chats",
        [
            (ModelInfo("qwen2.5:7b"), True),
            (ModelInfo("nomic-embed-text:latest"), False),
            (ModelInfo("bge-m3"), False),
            (ModelInfo("x", family="bert"), False),
            (ModelInfo("my-embedder", capabilities=frozenset({"completion"})), True),
            (ModelInfo("x", capabilities=frozenset({"embedding"})), False),
        ],
    )
    def test_only_models_that_can_chat_are_listed(self, model, chats):
        """Nobody asks an embedding model for an answer."""
        assert generates(model) is chats


class TestNodesInTrouble:
    async def test_a_silent_node_delays_nobody_beyond_the_grace(self, catalog_of):
        """Once one node has answered, the others have a quarter of a second."""
        silent = holding("b")
        silent.listing = (Pause(3.0), SILENT)
        catalog = catalog_of(mlx=silent, ollama=holding("a"))
        before = now()
        snapshot = await catalog.snapshot()
        assert now() - before == pytest.approx(GRACE_S)
        assert names(snapshot, "ollama") == ["a"]
        assert not snapshot.complete
        await asyncio.sleep(3.0)
        assert (await catalog.snapshot()).node("mlx").fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT

    async def test_while_nobody_has_answered_the_slow_one_is_waited_for(self, catalog_of):
        """A refused node does not make a slow one unusable."""
        dead, slow = holding("a"), holding("b")
        dead.listing = (REFUSED,)
        slow.listing = (Pause(2.0),)
        snapshot = await catalog_of(mlx=dead, ollama=slow).snapshot()
        assert names(snapshot, "ollama") == ["b"]
        assert snapshot.node("mlx").fault.kind is FaultKind.REFUSED

    async def test_a_node_that_comes_back_is_found_again(self, catalog_of):
        """A refusal is not remembered for two minutes."""
        provider = holding("a")
        provider.listing = (REFUSED,)
        catalog = catalog_of(ollama=provider)
        assert (await catalog.snapshot()).node("ollama").fault is not None
        provider.listing = ()
        await asyncio.sleep(16.0)
        await catalog.snapshot()
        await asyncio.sleep(0.1)
        assert (await catalog.snapshot()).node("ollama").fault is None

    async def test_insisting_asks_a_node_that_was_down_once_more(self, catalog_of):
        """When there is nobody else, news of a second ago are old, and are not asked for twice at once."""
        provider = holding("a")
        provider.listing = (REFUSED,)
        catalog = catalog_of(ollama=provider)
        await catalog.snapshot()
        provider.listing = ()
        assert (await catalog.snapshot(wait_for_all=True)).node("ollama").fault is not None
        await asyncio.sleep(1.0)
        assert (await catalog.snapshot(wait_for_all=True)).node("ollama").fault is None

    async def test_a_node_that_is_slow_once_keeps_its_list(self, catalog_of):
        """A timeout means busy or loading, not gone: its models may still be asked."""
        provider = holding("a")
        catalog = catalog_of(ollama=provider)
        await catalog.snapshot()
        provider.listing = (Pause(3.0), SILENT)
        await asyncio.sleep(121.0)
        await catalog.snapshot()
        await asyncio.sleep(4.0)
        view = (await catalog.snapshot()).node("ollama")
        assert view.fault is None
        assert [model.name for model in view.models] == ["a"]
        assert provider.listed == 2

    async def test_a_node_that_is_gone_loses_its_list(self, catalog_of):
        """A refused connection is news that everybody should hear."""
        provider = holding("a")
        catalog = catalog_of(ollama=provider)
        await catalog.snapshot()
        provider.listing = (REFUSED,)
        await asyncio.sleep(121.0)
        await catalog.snapshot()
        await asyncio.sleep(0.1)
        view = (await catalog.snapshot()).node("ollama")
        assert view.fault.kind is FaultKind.REFUSED
        assert view.models == ()

    async def test_a_caller_who_leaves_does_not_stop_a_scan(self, catalog_of):
        """The next one finds the work done."""
        provider = holding("a")
        provider.listing = (Pause(2.0),)
        catalog = catalog_of(ollama=provider)
        caller = asyncio.create_task(catalog.snapshot())
        await asyncio.sleep(1.0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert names(await catalog.snapshot(), "ollama") == ["a"]
        assert provider.listed == 1


class TestResidency:
    async def test_what_is_loaded_is_renewed_every_ten_seconds_in_the_background(self, catalog_of):
        """One look in ten seconds however many requests come, and no request waits for it."""
        provider = holding("a", resident=())
        catalog = catalog_of(ollama=provider)
        model = (await catalog.snapshot()).node("ollama").models[0]
        assert provider.looked == 1
        provider.loaded.add("a")
        provider.residency = (Pause(0.5),)
        await asyncio.sleep(RESIDENCY_TTL_S + 1.0)
        before = now()
        await catalog.snapshot()
        assert now() == before
        await asyncio.sleep(1.0)
        assert (await catalog.snapshot()).node("ollama").is_resident(model)
        for _ in range(20):
            await asyncio.sleep(0.1)
            await catalog.snapshot()
        assert provider.looked == 2

    async def test_after_a_long_silence_old_news_are_not_believed(self, catalog_of):
        """Ollama unloads idle models after minutes: a request after lunch must not think them loaded."""
        provider = holding("a")
        catalog = catalog_of(ollama=provider)
        model = (await catalog.snapshot()).node("ollama").models[0]
        provider.loaded.clear()
        await asyncio.sleep(400.0)
        assert (await catalog.snapshot()).node("ollama").is_resident(model) is False

    async def test_news_that_do_not_come_leave_it_open(self, catalog_of):
        """Where /api/ps stalls behind a load, nothing is claimed, and nobody waits above the grace."""
        provider = holding("a")
        catalog = catalog_of(ollama=provider)
        model = (await catalog.snapshot()).node("ollama").models[0]
        provider.residency = (Pause(3.0), SILENT)
        await asyncio.sleep(400.0)
        before = now()
        view = (await catalog.snapshot()).node("ollama")
        assert now() - before <= 2 * GRACE_S
        assert view.is_resident(model) is None

    async def test_a_stalled_residency_holds_no_list_back(self, catalog_of):
        """A server that loads something still tells what it has."""
        provider = holding("a")
        provider.residency = (Pause(3.0),)
        catalog = catalog_of(ollama=provider)
        before = now()
        view = (await catalog.snapshot()).node("ollama")
        assert now() - before <= 2 * GRACE_S
        assert view.models
        assert view.is_resident(view.models[0]) is None
        await asyncio.sleep(4.0)
        assert (await catalog.snapshot()).node("ollama").is_resident(view.models[0]) is True

    async def test_a_server_that_cannot_tell_leaves_it_open(self, catalog_of):
        """Not telling is not the same as nothing loaded."""
        catalog = catalog_of(openai=holding("a", tells_residency=False))
        view = (await catalog.snapshot()).node("openai")
        assert view.is_resident(view.models[0]) is None
        catalog.saw_resident("openai", "a")
        assert (await catalog.snapshot()).node("openai").is_resident(view.models[0]) is True

    async def test_a_cloud_model_has_nothing_to_load(self, catalog_of):
        """No load is started for weights that are elsewhere."""
        view = (await catalog_of(ollama=holding("a", resident=(), cloud=["a"])).snapshot()).node("ollama")
        assert view.is_resident(view.models[0]) is True

    async def test_a_crash_makes_residency_be_asked_again(self, catalog_of):
        """After a crash nothing that was known of it counts."""
        provider = holding("a")
        catalog = catalog_of(ollama=provider)
        model = (await catalog.snapshot()).node("ollama").models[0]
        provider.loaded.clear()
        catalog.residency_changed("ollama")
        await asyncio.sleep(0.1)
        assert (await catalog.snapshot()).node("ollama").is_resident(model) is False
