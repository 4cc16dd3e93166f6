"""Which model would answer, in order, and why the others would not: the decision alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config.model_names import FALLBACK_MLX, FALLBACK_OLLAMA
from opskit.config.schema import CircuitConfig, RouterConfig
from opskit.llm.catalog import NodeView, Snapshot
from opskit.llm.faults import Fault, FaultKind
from opskit.llm.fit import Fit
from opskit.llm.health import Health
from opskit.llm.plan import ModelRequest, Plan, PlanContext, plan
from opskit.providers.base import DEFAULT_MODEL, ModelInfo, Resident
from opskit.providers.kinds import MLX_LM, OLLAMA, OPENAI, ServerKind

ROUTER = RouterConfig()
FALLBACK = ModelRequest(fallback=True)


def view(
    name: str, *models: str | ModelInfo, loaded: tuple[str, ...] = (), kind: ServerKind = OLLAMA
) -> NodeView:
    infos = tuple(ModelInfo(model) if isinstance(model, str) else model for model in models)
    return NodeView(name, name.rstrip("0123456789"), kind, infos, tuple(map(Resident, loaded)))


def mlx(*models: str | ModelInfo) -> NodeView:
    return view("mlx", ModelInfo(DEFAULT_MODEL, resident=True), *models, kind=MLX_LM)


def situation(
    *views: NodeView, health: Health | None = None, failed=(), in_flight=None, fits=None
) -> PlanContext:
    return PlanContext(
        Snapshot(views, complete=True),
        health or Health(CircuitConfig()),
        failed,
        in_flight or {},
        0.0,
        fits or (lambda _view, _model: Fit(None, "")),
    )


def order(choice: Plan) -> list[str]:
    return [candidate.model for candidate in choice.candidates]


def nodes(choice: Plan) -> list[str]:
    return [candidate.node for candidate in choice.candidates]


class TestFirstChoice:
    def test_the_category_decides(self):
        """SPEC B8: of two loaded models the one that suits the work comes first."""
        there = situation(
            view("ollama", "llama3:8b", "qwen2.5-coder:7b", loaded=("llama3:8b", "qwen2.5-coder:7b"))
        )
        assert order(plan(ModelRequest(category="coding"), ROUTER, there))[0] == "qwen2.5-coder:7b"

    def test_a_loaded_model_of_the_category_outranks_a_better_one_that_must_be_loaded(self):
        """SPEC B9: a load costs a minute."""
        there = situation(view("ollama", "qwen2.5-coder:32b", "starcoder:7b", loaded=("starcoder:7b",)))
        assert order(plan(ModelRequest(category="coding"), ROUTER, there)) == [
            "starcoder:7b",
            "qwen2.5-coder:32b",
        ]

    def test_a_model_of_the_category_outranks_a_loaded_stranger(self):
        """A first choice prefers the right model to the quick one."""
        there = situation(view("ollama", "phi3.5:3.8b", "codellama:7b", loaded=("phi3.5:3.8b",)))
        assert order(plan(ModelRequest(category="coding"), ROUTER, there))[0] == "codellama:7b"

    def test_without_a_category_the_most_powerful_comes_first(self):
        """SPEC D4: in the order of the power list, then by size."""
        there = situation(
            view("ollama", "phi3:mini", "llama3.3:70b", ModelInfo("big", size_bytes=9), "command-r-plus:104b")
        )
        found = order(plan(ModelRequest(), ROUTER, there))
        assert found == ["command-r-plus:104b", "llama3.3:70b", "big", "phi3:mini"]

    def test_fast_work_prefers_the_smaller_model(self):
        """Of two unknown models the smaller one answers a quick question."""
        there = situation(
            view("ollama", ModelInfo("big", parameters=70e9), ModelInfo("small", parameters=1e9))
        )
        assert order(plan(ModelRequest(category="fast"), ROUTER, there)) == ["small", "big"]

    def test_an_mlx_server_answers_with_the_model_it_was_started_with(self):
        """Its resident model comes first, any other of its names last: it would be swapped in."""
        there = situation(mlx("mlx-community/Qwen-Coder-32B"), view("ollama", "llama3:8b"))
        assert order(plan(ModelRequest(category="coding"), ROUTER, there)) == [
            DEFAULT_MODEL,
            "llama3:8b",
            "mlx-community/Qwen-Coder-32B",
        ]

    def test_residency_may_be_ignored(self):
        """With `prefer_resident` off the better model is worth its load."""
        there = situation(view("ollama", "qwen2.5-coder:32b", "starcoder:7b", loaded=("starcoder:7b",)))
        router = RouterConfig(prefer_resident=False)
        assert order(plan(ModelRequest(category="coding"), router, there))[0] == "qwen2.5-coder:32b"

    def test_the_source_of_a_task_comes_first_inside_its_tier(self):
        """SPEC B10: a block's back end is preferred, and does not outrank the category."""
        both = situation(view("mlx", "a", loaded=("a",)), view("ollama", "a", loaded=("a",)))
        assert nodes(plan(ModelRequest(source="ollama"), ROUTER, both)) == ["ollama", "mlx"]
        assert nodes(plan(ModelRequest(source="mlx"), ROUTER, both)) == ["mlx", "ollama"]
        coder = situation(view("mlx", "coder", loaded=("coder",)), view("ollama", "a", loaded=("a",)))
        assert order(plan(ModelRequest(category="coding", source="ollama"), ROUTER, coder)) == ["coder", "a"]


class TestFallback:
    def test_the_fallback_lists_are_followed_mlx_first(self):
        """SPEC A3, A4: MLX before Ollama, each in the order of its list."""
        there = situation(
            view("ollama", *reversed(FALLBACK_OLLAMA), loaded=FALLBACK_OLLAMA),
            view("mlx", *reversed(FALLBACK_MLX), loaded=FALLBACK_MLX),
        )
        choice = plan(FALLBACK, ROUTER, there)
        assert [(c.node, c.model) for c in choice.candidates] == [
            *(("mlx", model) for model in FALLBACK_MLX),
            *(("ollama", model) for model in FALLBACK_OLLAMA),
        ]

    def test_the_lists_are_configurable(self):
        """SPEC A4: an operator's own order counts."""
        there = situation(view("ollama", "x", "y", loaded=("x", "y")))
        assert order(plan(FALLBACK, RouterConfig(fallback_ollama=("y", "x")), there)) == ["y", "x"]

    def test_a_loaded_stranger_outranks_a_listed_model_that_must_be_loaded(self):
        """A fallback must be quick."""
        there = situation(view("ollama", "phi3.5:3.8b", "stranger", loaded=("stranger",)))
        assert order(plan(FALLBACK, ROUTER, there)) == ["stranger", "phi3.5:3.8b"]


class TestTraffic:
    def test_an_overloaded_node_goes_behind_the_others(self):
        """SPEC B10: an overloaded MLX makes Ollama first for the next request."""
        health = Health(CircuitConfig())
        health.failed("mlx", "a", Fault(FaultKind.BUSY, "busy", 503), 0.0)
        there = situation(view("mlx", "a", loaded=("a",)), view("ollama", "a", loaded=("a",)), health=health)
        assert nodes(plan(ModelRequest(), ROUTER, there)) == ["ollama", "mlx"]

    @pytest.mark.parametrize(
        "first, second, expected",
        [(0, 0, "ollama1"), (1, 0, "ollama2"), (3, 2, "ollama2"), (5, 5, "ollama1")],
    )
    def test_the_shorter_queue_comes_first(self, first, second, expected):
        """Also when every slot is taken: twenty requests spread instead of piling up on one node."""
        there = situation(
            view("ollama1", "a", loaded=("a",)),
            view("ollama2", "a", loaded=("a",)),
            in_flight={"ollama1": first, "ollama2": second},
        )
        assert nodes(plan(ModelRequest(), ROUTER, there))[0] == expected

    def test_a_batching_server_has_more_slots(self):
        """mlx_lm.server works on eight at once: seven in flight are no queue."""
        there = situation(mlx(), in_flight={"mlx": 7})
        other = situation(mlx(), view("ollama", "a", loaded=("a",)), in_flight={"mlx": 8})
        assert nodes(plan(ModelRequest(), ROUTER, there)) == ["mlx"]
        assert nodes(plan(ModelRequest(category="x"), ROUTER, other))[0] == "mlx"


class TestRefusals:
    def reason(self, request: ModelRequest, there: PlanContext, model: str) -> str:
        choice = plan(request, ROUTER, there)
        assert model not in order(choice)
        return next(skipped.why for skipped in choice.skipped if skipped.model == model)

    def test_a_model_asked_for_by_name_is_the_only_one(self):
        """Nobody else answers in its place unasked."""
        there = situation(view("ollama", "a", "b"), view("mlx", "a"))
        choice = plan(ModelRequest(model="a"), ROUTER, there)
        assert sorted(nodes(choice)) == ["mlx", "ollama"]
        assert set(order(choice)) == {"a"}
        assert self.reason(ModelRequest(model="a"), there, "b") == "another model was asked for by name"

    def test_a_node_asked_for_by_name_is_the_only_one(self):
        """Other nodes are not even judged."""
        choice = plan(ModelRequest(node="mlx"), ROUTER, situation(view("ollama", "a"), view("mlx", "b")))
        assert order(choice) == ["b"]
        assert choice.skipped == ()

    def test_a_cloud_model_is_only_used_by_name(self):
        """A local toolkit sends nothing to a cloud unasked."""
        there = situation(view("ollama", ModelInfo("gpt-oss:120b-cloud", cloud=True)))
        assert "cloud" in self.reason(ModelRequest(), there, "gpt-oss:120b-cloud")
        assert order(plan(ModelRequest(model="gpt-oss:120b-cloud"), ROUTER, there)) == ["gpt-oss:120b-cloud"]

    def test_a_model_that_does_not_fit_says_what_it_needs(self):
        """The numbers go into the refusal."""
        there = situation(
            view("ollama", "big"), fits=lambda _v, _m: Fit(False, "needs 40, 8 can be had", 40, 8)
        )
        assert self.reason(ModelRequest(), there, "big") == "needs 40, 8 can be had"

    def test_a_model_that_failed_in_this_session_is_left_out(self):
        """SPEC A3: on that node, for this session."""
        there = situation(view("ollama", "a"), view("mlx", "a"), failed={("mlx", "a")})
        assert nodes(plan(ModelRequest(), ROUTER, there)) == ["ollama"]
        assert self.reason(ModelRequest(node="mlx"), there, "a") == "it failed in this session"

    def test_a_resting_model_says_why_and_until_when(self):
        """An open circuit is explained, not hidden."""
        health = Health(CircuitConfig(open_s=5.0))
        health.failed("ollama", "a", Fault(FaultKind.WEDGED, "no token"), 0.0)
        there = situation(view("ollama", "a", "b"), health=health)
        assert (
            self.reason(ModelRequest(), there, "a")
            == "a on ollama is resting for 5.0 s more: wedged: no token"
        )

    def test_a_half_open_circuit_is_not_tried_by_a_request(self):
        """Whether a model is mended is found out by the router itself."""
        health = Health(CircuitConfig(open_s=5.0))
        health.failed("ollama", "a", Fault(FaultKind.WEDGED, "no token"), -6.0)
        assert order(plan(ModelRequest(), ROUTER, situation(view("ollama", "a", "b"), health=health))) == [
            "b"
        ]

    def test_a_node_that_is_down_is_told_once(self):
        """The node's fault stands for all its models."""
        down = NodeView("mlx", "mlx", fault=Fault(FaultKind.REFUSED, "nothing listens"))
        choice = plan(ModelRequest(), ROUTER, situation(down, view("ollama", "a")))
        assert [(s.node, s.model, s.why) for s in choice.skipped] == [("mlx", "", "refused: nothing listens")]


@pytest.mark.parametrize(
    "wanted, name, same",
    [("a", "a", True), ("a", "a:latest", True), ("a:latest", "a:latest", True), ("a", "a:7b", False)],
)
def test_latest_may_be_left_out(wanted, name, same):
    """As with Ollama itself."""
    assert ModelInfo(name).is_called(wanted) is same


@pytest.mark.parametrize(
    "wanted", ["MyCoder", "qwen-coder:latest", "library/qwen-coder", "registry.ollama.ai/library/qwen-coder"]
)
def test_a_model_is_asked_for_by_any_of_its_names(wanted):
    """Of two names of one model either is the same candidate, and a pattern may match either."""
    there = situation(view("ollama", ModelInfo("mycoder:latest", aliases=("qwen-coder:latest",)), "b"))
    assert order(plan(ModelRequest(wanted), ROUTER, there)) == ["mycoder:latest"]
    router = RouterConfig(categories={"coding": ("qwen*",)})
    assert order(plan(ModelRequest(category="coding"), router, there))[0] == "mycoder:latest"


models = st.sampled_from(["phi3.5:3.8b", "qwen2.5-coder:32b", "llama3.3:70b", "a", "b", DEFAULT_MODEL])
views = st.builds(
    lambda name, names, loaded, kind: view(name, *names, loaded=tuple(loaded), kind=kind),
    st.sampled_from(["mlx", "ollama", "llamacpp", "openai"]),
    st.lists(models, unique=True, max_size=5),
    st.lists(models, max_size=3),
    st.sampled_from([OLLAMA, MLX_LM, OPENAI]),
)
wishes = st.builds(
    ModelRequest,
    model=st.none() | models,
    category=st.sampled_from(["default", "coding", "fast", "reasoning", "unknown"]),
    source=st.none() | st.sampled_from(["mlx", "ollama"]),
    fallback=st.booleans(),
)


@given(st.lists(views, max_size=3, unique_by=lambda view: view.name), wishes)
def test_every_model_is_either_a_candidate_or_has_a_reason(found, request):
    """Nothing is lost and nothing is listed twice, and the order is the same each time."""
    there = situation(*found)
    choice = plan(request, ROUTER, there)
    judged = [(c.node, c.model) for c in choice.candidates] + [(s.node, s.model) for s in choice.skipped]
    assert sorted(judged) == sorted((v.name, m.name) for v in found for m in v.models)
    assert all(skipped.why for skipped in choice.skipped)
    assert plan(request, ROUTER, there) == choice
