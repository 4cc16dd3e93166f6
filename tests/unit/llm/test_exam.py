"""Which models are tested, what that may cost, and what is measured (SPEC E5)."""

from datetime import UTC, datetime

import pytest

from opskit.config.schema import Config
from opskit.llm.catalog import NodeView
from opskit.llm.exam import MAX_TOKENS, THINKING_TOKENS, examine
from opskit.llm.faults import Fault, FaultKind
from opskit.llm.fit import GIB, Fit
from opskit.llm.selection import ExaminedModel, ExamRequest, Load, select
from opskit.providers.base import (
    DEFAULT_MODEL,
    CallCause,
    End,
    ModelInfo,
    Reasoning,
    Resident,
    Token,
    Usage,
    name_default,
)
from opskit.providers.kinds import MLX_LM, OLLAMA, OPENAI
from opskit.records import replace
from opskit.result import Status
from tests.parts.rig import fails
from tests.parts.scripted import Pause, Scripted, says

GOOD = "Air scatters blue light more than red light."
CONFIG = Config("", (), ())
SMALL = ModelInfo("small:1b", GIB)
LARGE = ModelInfo("large:70b", 40 * GIB)
CODER = ModelInfo("qwen2.5-coder:7b", 4 * GIB)
CLOUD = ModelInfo("gpt-oss:120b-cloud", 400, cloud=True)
OLLAMA = NodeView(
    "ollama", "ollama", OLLAMA, (LARGE, CODER, SMALL, CLOUD), (Resident("large:70b", 41 * GIB),)
)
MLX = NodeView(
    "mlx",
    "mlx",
    MLX_LM,
    (ModelInfo(DEFAULT_MODEL, resident=True), ModelInfo("org/started"), ModelInfo("org/other")),
    (Resident(DEFAULT_MODEL),),
)
STARTED = replace(MLX, models=name_default(MLX.models, "org/started"))
REMOTE = NodeView("openrouter", "openai", OPENAI, (ModelInfo("a/b"), ModelInfo("c/d")), residency_known=False)


def fits(_view, model):
    return Fit(model.size_bytes != 4 * GIB, "it does not fit: needs about 5.1 GiB, 3.0 GiB can be had")


def anything(_view, _model):
    return Fit(True, "")


def chosen(*views, fits=anything, **which):
    return select(ExamRequest(**which), views, CONFIG, fits)


def names(selection):
    return [(who.node, who.model, who.load) for who in selection.examinees]


class TestWhoIsTested:
    def test_only_loaded_models_unless_told_otherwise(self):
        """Neither `all` nor a name: nothing is loaded, and the others are counted."""
        selection = chosen(OLLAMA, MLX, REMOTE)
        assert names(selection) == [("ollama", "large:70b", Load.NONE), ("mlx", DEFAULT_MODEL, Load.NONE)]
        assert (selection.unloaded, selection.untold) == (2, 0)

    def test_all_leaves_out_what_costs_or_does_harm(self):
        """`all` skips cloud models, MLX swaps and servers of unknown cost, each with its reason."""
        selection = chosen(OLLAMA, MLX, REMOTE, all=True)
        assert [who.model for who in selection.examinees] == [
            "large:70b",
            "small:1b",
            "qwen2.5-coder:7b",
            DEFAULT_MODEL,
        ]
        reasons = {skip.model: skip.why for skip in selection.skipped}
        assert set(reasons) == {CLOUD.name, "org/started", "org/other", "a/b", "c/d"}
        assert all("`--model` tests it" in why for why in reasons.values())

    def test_all_skips_what_does_not_fit_with_the_numbers(self):
        """The reason holds what it needs and what there is."""
        selection = chosen(OLLAMA, fits=fits, all=True)
        assert "qwen2.5-coder:7b" not in [who.model for who in selection.examinees]
        assert ("qwen2.5-coder:7b", fits(None, CODER).reason) in [(s.model, s.why) for s in selection.skipped]

    @pytest.mark.parametrize(
        ("name", "who"),
        [
            ("small:1b", ("ollama", "small:1b", Load.LOADS)),
            (CLOUD.name, ("ollama", CLOUD.name, Load.UNKNOWN)),
            ("org/other", ("mlx", "org/other", Load.REPLACES)),
            ("org/started", ("mlx", DEFAULT_MODEL, Load.NONE)),
            ("c/d", ("openrouter", "c/d", Load.UNKNOWN)),
        ],
    )
    def test_a_name_permits_what_all_does_not(self, name, who):
        """A named model is tested at its cost; the name a server was started with is its resident model."""
        selection = chosen(OLLAMA, STARTED, REMOTE, models=(name,))
        assert names(selection) == [who]

    def test_a_name_that_cannot_be_tested_is_not_forgotten(self):
        """A model that nobody lists, and one that does not fit, are absent with a reason."""
        dark = NodeView("mlx", "mlx", fault=Fault(FaultKind.REFUSED, "nothing listens there"))
        selection = chosen(OLLAMA, dark, models=("nope", CODER.name), fits=fits)
        assert selection.examinees == ()
        assert [(skip.node, skip.model) for skip in selection.absent] == [
            ("ollama", CODER.name),
            ("", "nope"),
        ]
        assert selection.absent[1].why == "no node lists it; not read: mlx"

    def test_a_category_keeps_what_suits_it(self):
        """Only models that the category's patterns name, and a server's default, which serves any."""
        assert [who.model for who in chosen(OLLAMA, MLX, all=True, category="coding").examinees] == [
            CODER.name,
            DEFAULT_MODEL,
        ]

    def test_the_default_model_is_tested_once(self):
        """Listed a second time under its own name it is not a model of its own."""
        selection = chosen(STARTED, all=True)
        assert [who.shown for who in selection.examinees] == ["org/started (default)"]
        assert [skip.model for skip in selection.skipped] == ["org/other"]

    def test_what_cannot_be_told_is_not_called_unloaded(self):
        """A node that hides what is loaded has nothing tested and nothing claimed."""
        selection = chosen(replace(OLLAMA, resident=(), residency_known=False))
        assert (selection.examinees, selection.unloaded, selection.untold) == ((), 0, 3)


class TestWhatIsAnnounced:
    def test_each_load_is_told_with_size_and_budget(self):
        """Before it happens: which model, how large, for how long it may load."""
        lines = chosen(OLLAMA, models=(CODER.name,)).announcement()
        assert lines == ["this loads qwen2.5-coder:7b on ollama (4.0 GiB), budget 140 s"]

    def test_what_may_be_pushed_out_is_told(self):
        """A load that fits only when others leave names them."""
        room = Fit(True, "it fits", need_bytes=5 * GIB, have_bytes=43 * GIB)
        lines = chosen(OLLAMA, models=(CODER.name,), fits=lambda *_: room).announcement()
        assert lines[0].endswith("to make place the server may unload large:70b")

    def test_without_replacements_the_reason_stays(self):
        """A declined swap becomes a model that was not tested."""
        selection = chosen(MLX, models=("org/other", DEFAULT_MODEL))
        kept = selection.without_replacements()
        assert names(kept) == [("mlx", DEFAULT_MODEL, Load.NONE)]
        assert [skip.model for skip in kept.skipped] == ["org/other"]


def who(node, model, load=Load.NONE):
    return ExaminedModel(node, model, model, load)


async def results_of(built, *examinees, on_start=lambda _: None):
    config = replace(CONFIG, nodes=tuple(one.config for one in built.nodes))
    return await examine(built.router, examinees, config, on_start)


class TestWhatIsMeasured:
    async def test_the_load_is_not_part_of_the_answer(self, rig):
        """Load, first token and total are apart; the speed is the server's own."""
        answer = (Pause(0.5), Token(GOOD), Pause(1.5), End("stop", Usage(None, 30, eval_s=1.5)))
        node = Scripted({"a": [answer]}, resident=(), load={"a": (Pause(40),)})
        [result] = await results_of(rig({"ollama": node}), who("ollama", "a", Load.LOADS))
        assert (result.status, result.state, result.tokens) == (Status.PASS, "ok", 30)
        assert (result.load_s, result.first_token_s, result.total_s, result.tokens_per_s) == pytest.approx(
            (40, 0.5, 2.0, 20.0)
        )

    async def test_without_the_servers_clock_the_speed_is_of_the_tokens_after_the_first(self, rig):
        """21 tokens, the first at once: 20 in two seconds."""
        answer = (Token(GOOD), Pause(2), End("stop", Usage(None, 21)))
        [result] = await results_of(rig({"ollama": Scripted({"a": [answer]})}), who("ollama", "a"))
        assert result.tokens_per_s == pytest.approx(10)

    async def test_a_load_inside_the_request_is_found_by_asking_again(self, rig):
        """Where the server loads with the first request, the second one is the warm one."""
        cold = (Pause(30), Token(GOOD), End("stop"))
        warm = (Pause(0.5), Token(GOOD), End("stop"))
        node = Scripted({"a": [cold, warm]}, resident=(), loads_on_demand=False)
        [result] = await results_of(rig({"mlx": node}), who("mlx", "a", Load.REPLACES))
        assert (result.load_s, result.first_token_s) == pytest.approx((29.5, 0.5))

    async def test_a_slow_model_works_with_a_warning(self, rig):
        """A warm first token after more than `slow_first_token_s` is slow, not broken."""
        node = Scripted({"a": [(Pause(5), Token(GOOD), End("stop"))]})
        [result] = await results_of(rig({"ollama": node}), who("ollama", "a"))
        assert (result.status, result.state, result.works) == (Status.WARN, "slow", True)

    async def test_a_server_that_does_not_keep_its_models_is_told_from_a_slow_one(self, rig):
        """Its own clock shows that it loaded the model once more, for the request that was to be warm."""
        end = End("stop", Usage(None, 30, load_s=4.5))
        node = Scripted({"a": [(Pause(5), Token(GOOD), end)]})
        [result] = await results_of(rig({"ollama": node}), who("ollama", "a"))
        assert result.state == "slow"
        assert "4.5 s of it were a load" in result.detail
        assert "warm" not in result.detail

    async def test_a_model_that_thinks_aloud_gets_the_room_to_answer(self, rig):
        """Cut off in the middle of a thought it is asked again; its thinking is timed apart."""
        cut = (Reasoning("Let me see"), End("length"))
        whole = (Reasoning("Let me see"), Pause(3), Token(GOOD), End("stop"))
        node = Scripted({"a": [cut, whole]})
        [result] = await results_of(rig({"ollama": node}), who("ollama", "a"))
        assert [call.max_tokens for call in node.calls] == [MAX_TOKENS, THINKING_TOKENS]
        assert (result.state, result.thinking_s) == ("ok", pytest.approx(3))


class TestWhatFails:
    async def test_an_answer_to_nothing_is_none(self, rig):
        """A chat template without the message: what was read is less than the question, whatever is said."""
        usage = Usage(1, 30, counts_cached=True)
        node = Scripted({"a": [(Token(GOOD), End("stop", usage))]})
        [result] = await results_of(rig({"ollama": node}), who("ollama", "a"))
        assert (result.status, result.state, result.works) == (Status.FAIL, "broken_template", False)
        assert "the server read 1 of them" in result.detail

    @pytest.mark.parametrize(
        ("script", "state", "status", "code"),
        [
            (
                fails(CallCause.STATUS, "model runner has unexpectedly stopped", 500),
                "runner_crashed",
                "fail",
                "MODEL_004",
            ),
            (
                fails(CallCause.STATUS, "cudaMalloc failed: out of memory", 500),
                "out_of_memory",
                "fail",
                "MODEL_003",
            ),
            ((Pause(),), "wedged", "fail", "MODEL_002"),
            (says(""), "empty", "warn", "MODEL_004"),
            (says("Why is the sky blue? Answer with one short sentence."), "echo", "warn", "MODEL_004"),
        ],
    )
    async def test_faults_and_verdicts_are_the_routers(self, rig, script, state, status, code):
        """A model that breaks or answers nothing of use does not work, and nobody answers in its place."""
        node = Scripted({"a": [script], "b": [says(GOOD)]})
        [result] = await results_of(rig({"ollama": node}), who("ollama", "a"))
        assert (result.state, result.status.value, result.code, result.works) == (state, status, code, False)
        assert {call.model for call in node.calls} == {"a"}

    async def test_a_failed_model_does_not_keep_the_next_from_its_test(self, rig):
        """Not even when the fault was the whole node's."""
        node = Scripted({"a": [fails(CallCause.REFUSED, phase="connect")], "b": [says(GOOD)]})
        results = await results_of(rig({"ollama": node}), who("ollama", "a"), who("ollama", "b"))
        assert [result.state for result in results] == ["refused", "ok"]

    async def test_a_model_that_has_left_memory_is_not_loaded_again(self, rig):
        """It was to be tested because it was loaded: now it is skipped, and nothing is sent to it."""
        node = Scripted({"a": [says(GOOD)]}, resident=())
        [result] = await results_of(rig({"ollama": node}), who("ollama", "a"))
        assert (result.status, result.state) == (Status.SKIP, "unloaded")
        assert (node.calls, node.loads) == ([], [])

    async def test_a_model_that_leaves_within_a_second_is_left_alone(self, rig):
        """Asked now it might be loaded anew."""

        class Leaving(Scripted):
            async def resident(self):
                return (Resident("a", expires_at=datetime.now(UTC)),)

        node = Leaving({"a": [says(GOOD)]})
        [result] = await results_of(rig({"ollama": node}), who("ollama", "a"))
        assert (result.state, node.calls) == ("unloaded", [])

    async def test_what_no_longer_fits_is_told_and_not_loaded(self, rig):
        """The memory is looked at again before each load."""
        node = Scripted({"a": [says(GOOD)]}, resident=(), sizes={"a": 40 * GIB})
        built = rig({"ollama": node}, memory=8 * GIB)
        [result] = await results_of(built, who("ollama", "a", Load.LOADS))
        assert (result.code, node.loads) == ("MODEL_003", [])


class TestOrder:
    async def test_one_machine_tests_one_model_at_a_time(self, rig):
        """Two nodes of this machine wait for each other: they share its memory and its speed."""
        first, second = Scripted({"a": [says(GOOD)]}), Scripted({"b": [says(GOOD)]})
        begun = []
        built = rig({"ollama": first, "mlx": second})
        await results_of(
            built, who("ollama", "a"), who("mlx", "b"), on_start=lambda _: begun.append(len(first.calls))
        )
        assert begun == [0, 1]

    async def test_machines_are_tested_side_by_side(self, rig):
        """The slowest one sets the time, and results keep the order they were asked for in."""
        slow = Scripted({"a": [(Pause(1), Token(GOOD), End("stop"))]})
        built = rig({"ollama": slow, "ollama2": Scripted({"b": [says(GOOD)]})})
        urls = ("http://mac-1:11434", "http://mac-2:11434")
        nodes = tuple(replace(one.config, url=url) for one, url in zip(built.nodes, urls, strict=True))
        begun = []
        results = await examine(
            built.router,
            (who("ollama", "a"), who("ollama2", "b")),
            replace(CONFIG, nodes=nodes),
            lambda _: begun.append(len(slow.calls)),
        )
        assert begun == [0, 0]
        assert [result.examinee.model for result in results] == ["a", "b"]
