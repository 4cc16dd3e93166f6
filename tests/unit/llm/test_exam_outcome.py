"""What is made of an examination: findings, recommendations, Markdown."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config.schema import Config, NodeConfig
from opskit.errors import Exit, catalogue
from opskit.llm.catalog import NodeView
from opskit.llm.exam import ExamResult
from opskit.llm.exam_outcome import ExamOutcome, cells, markdown, recommend, report, summary
from opskit.llm.faults import FaultKind
from opskit.llm.plan import Skipped
from opskit.llm.selection import ExaminedModel, Load, ModelSelection
from opskit.llm.verdict import Verdict
from opskit.providers.base import DEFAULT_MODEL, ModelInfo, Resident
from opskit.providers.kinds import OLLAMA
from opskit.result import Finding, Status
from opskit.text import markdown_text

NODES = (NodeConfig("ollama", "http://127.0.0.1:1", "ollama"), NodeConfig("mlx", "http://127.0.0.1:2", "mlx"))
CONFIG = Config("", NODES, ())
VIEWS = tuple(NodeView(node.name, node.source) for node in NODES)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_UNESCAPED_PIPE = re.compile(r"(?<!\\)(?:\\\\)*\|")


def result(model, state="ok", *, node="ollama", total_s=1.0, first_s=None, speed=None, code=None, detail=""):
    status = {"ok": Status.PASS, "slow": Status.WARN, "unloaded": Status.SKIP}.get(state)
    if status is None:
        status = Status.WARN if state in set(Verdict) else Status.FAIL
    asked = ExaminedModel(node, model, model, Load.NONE)
    times = {"total_s": total_s, "first_token_s": first_s, "tokens_per_s": speed}
    return ExamResult(asked, status, state, detail, code, **times)


def outcome(*results, selection=None, recommendations=(), unread=()):
    whole = selection or ModelSelection(tuple(one.examinee for one in results))
    return ExamOutcome(whole, results, tuple(recommendations), tuple(unread))


def ollama(*names, resident=()):
    return NodeView(
        "ollama", "ollama", OLLAMA, tuple(ModelInfo(name) for name in names), tuple(map(Resident, resident))
    )


class TestRecommendation:
    @pytest.mark.parametrize(
        ("category", "model"),
        [("coding", "qwen2.5-coder:7b"), ("fast", "tinyllama:1.1b"), ("reasoning", "deepseek-r1:14b")],
    )
    def test_each_kind_of_work_gets_the_routers_choice(self, category, model):
        """All work and all are loaded: the category's own preference decides, with the reason in words."""
        names = ("deepseek-r1:14b", "qwen2.5-coder:7b", "tinyllama:1.1b")
        [advice] = recommend([result(n) for n in names], [ollama(*names, resident=names)], CONFIG, [category])
        assert (advice.node, advice.model) == ("ollama", model)
        assert f"it suits {category}" in advice.why

    def test_a_model_that_failed_is_not_recommended(self):
        """The next working one is, whatever the router would have preferred."""
        names = ("qwen2.5-coder:7b", "tinyllama:1.1b")
        tested = [result(names[0], "echo"), result(names[1])]
        [advice] = recommend(tested, [ollama(*names, resident=names)], CONFIG, ["coding"])
        assert advice.model == "tinyllama:1.1b"
        assert "the only one that works" in advice.why

    @pytest.mark.parametrize(
        ("category", "first", "second", "chosen"),
        [
            ("fast", ("slow", 3.42, 3.6), ("ok", 0.09, 28.0), "qwen2.5-coder:7b"),
            ("fast", ("ok", 0.2, 3.6), ("ok", 0.3, 28.0), "qwen2.5-coder:7b"),
            ("fast", ("ok", 0.09, 25.0), ("ok", 0.08, 28.0), "tinyllama:1.1b"),
            ("fast", ("slow", 3.42, 3.6), ("slow", 9.0, 1.0), "tinyllama:1.1b"),
            ("coding", ("ok", 0.09, 28.0), ("slow", 3.42, 3.6), "tinyllama:1.1b"),
            ("coding", ("ok", 0.09, 28.0), ("ok", 0.9, 9.0), "qwen2.5-coder:7b"),
        ],
    )
    def test_what_was_measured_comes_before_what_is_preferred(self, category, first, second, chosen):
        """A slow model is passed over for a quick one, for fast work also one that takes clearly longer."""
        names = ("tinyllama:1.1b", "qwen2.5-coder:7b")
        tested = [
            result(name, state, total_s=9.0, first_s=first_s, speed=speed)
            for name, (state, first_s, speed) in zip(names, (first, second), strict=True)
        ]
        [advice] = recommend(tested, [ollama(*names, resident=names)], CONFIG, [category])
        assert advice.model == chosen
        assert "first token in" in advice.why
        preferred = "tinyllama:1.1b" if category == "fast" else "qwen2.5-coder:7b"
        assert (f"{preferred} on ollama is slower" in advice.why) == (chosen != preferred)

    def test_when_none_works_nobody_is_recommended(self):
        """And the sentence says so."""
        [advice] = recommend([result("a", "wedged")], [ollama("a")], CONFIG, ["fast"])
        assert (advice.model, advice.why) == (None, "no tested model works")

    @given(st.lists(st.sampled_from(["ok", "slow", "echo", "wedged"]), max_size=6))
    def test_only_tested_and_working_models_are_recommended(self, states):
        """Whatever works, no other model and no untested one is ever named."""
        names = [f"m{number}" for number in range(len(states))]
        tested = [result(name, state) for name, state in zip(names, states, strict=True)]
        views = [ollama(*names, "untested:70b", resident=["untested:70b"])]
        for advice in recommend(tested, views, CONFIG, list(CONFIG.router.categories)):
            assert (advice.model in {r.examinee.model for r in tested if r.works}) == any(
                r.works for r in tested
            )


class TestFindings:
    def test_all_working_is_a_pass(self):
        """A slow model works too: exit 0."""
        made = report(outcome(result("a"), result("b", "slow")), VIEWS)
        assert (made.exit, made.findings[-1].status) == (Exit.OK, Status.PASS)

    @pytest.mark.parametrize("state", ["echo", "runner_crashed"])
    def test_one_that_does_not_work_fails_the_whole(self, state):
        """Exit 1, for a verdict as for a fault, and the sum names it."""
        made = report(outcome(result("a"), result("b", state)), VIEWS)
        assert made.exit is Exit.FAILED
        assert f"b on ollama ({state})" in made.findings[-1].detail

    def test_nothing_tested_is_inconclusive_with_a_hint(self):
        """Exit 3, and the next command is `--all`."""
        made = report(outcome(selection=ModelSelection((), unloaded=2)), VIEWS)
        assert made.exit is Exit.INCONCLUSIVE
        assert "--all" in (made.findings[-1].remedy or "")

    def test_nodes_in_the_dark_are_named_when_nothing_was_tested(self):
        """It is not claimed that nothing is loaded where nobody could look."""
        dark = Finding("node", "mlx", Status.WARN, "refused")
        assert "mlx could not be read" in report(outcome(unread=[dark]), VIEWS).findings[-1].detail

    def test_a_name_that_cannot_be_tested_fails(self):
        """Absent models are MODEL_001, those too large MODEL_003; the others count all the same."""
        absent = (Skipped("", "nope", "no node lists it"), Skipped("ollama", "huge", "it does not fit: ..."))
        tested = result("a")
        made = report(outcome(tested, selection=ModelSelection((tested.examinee,), absent=absent)), VIEWS)
        assert [(f.target, f.code) for f in made.findings if f.status is Status.FAIL] == [
            ("nope", "MODEL_001"),
            ("ollama/huge", "MODEL_003"),
        ]
        assert made.exit is Exit.FAILED

    @pytest.mark.parametrize("state", [*FaultKind, *Verdict, "unavailable"])
    @pytest.mark.parametrize("node", ["ollama", "mlx"])
    def test_every_failure_has_a_next_step(self, state, node):
        """Each fault and verdict has a remedy, filled in."""
        finding = report(outcome(result("m:1b", str(state), node=node, code="MODEL_004")), VIEWS).findings[0]
        assert finding.remedy
        assert not re.search(r"\{(model|node|again)\}", finding.remedy)
        assert finding.code in catalogue()


class TestSummary:
    def test_the_fastest_are_working_ones(self):
        """A failure that came quickly is not fast; answer and speech are ranked apart."""
        made = outcome(
            result("a", total_s=2, speed=50.0),
            result("b", total_s=1, speed=10.0),
            result("c", "echo", total_s=0.1),
        )
        assert summary(made)[:3] == [
            "working: 2 of 3",
            "fastest answer: b on ollama (1.00 s)",
            "fastest speaker: a on ollama (50.0 tokens/s)",
        ]

    def test_the_document_has_the_same(self):
        """JSON names the working ones and the fastest, or null."""
        document = outcome(result("a", speed=5.0)).as_json()
        assert document["working"] == [{"node": "ollama", "model": "a"}]
        assert document["fastest"]["tokens_per_s"]["model"] == "a"
        assert outcome(result("a", "wedged")).as_json()["fastest"] == {"total_s": None, "tokens_per_s": None}


class TestMarkdown:
    def test_it_holds_everything(self):
        """Date in UTC, version, results, fastest, recommendations, failures with remedies, the untested."""
        tested = (
            result("good", speed=20.0),
            result("bad", "runner_crashed", code="MODEL_004", detail="it stopped"),
        )
        advice = recommend(tested, [ollama("good", "bad")], CONFIG, ["coding"])
        skipped = (Skipped("ollama", "huge", "it does not fit"),)
        made = outcome(
            *tested,
            selection=ModelSelection(tuple(r.examinee for r in tested), skipped),
            recommendations=advice,
        )
        text = markdown(made, report(made, VIEWS).findings, at=AT, version="1.2.3")
        assert "2026-01-02 03:04:05 UTC, opskit 1.2.3." in text
        assert "1 of 2 tested models work." in text
        assert "- good on ollama" in text
        assert "| coding | good | ollama |" in text
        assert re.search(r"\| ollama/bad \| fail \| runner\\_crashed \| it stopped \| .*journalctl", text)
        assert "| ollama | huge | it does not fit |" in text

    @given(st.text())
    def test_foreign_text_stays_text(self, text):
        """Escaped text is one line, has no bare mark, and reads as the printable text it was."""
        safe = markdown_text(text)
        assert "\n" not in safe
        assert not re.search(r"(?<!\\)(?:\\\\)*[|`*_<\[]", safe)
        assert re.sub(r"\\(.)", r"\1", safe) == "".join(c if c.isprintable() else " " for c in text)

    @given(st.text(min_size=1))
    def test_a_name_never_breaks_its_table(self, name):
        """Every row of every table has as many cells as its head."""
        made = outcome(result(name, "wedged", detail=name), result(name))
        width = 0
        for line in markdown(made, report(made, VIEWS).findings, at=AT, version="1").split("\n"):
            if not line.startswith("|"):
                width = 0
                continue
            bars = len(_UNESCAPED_PIPE.findall(line))
            width = width or bars
            assert bars == width

    def test_names_of_servers_defaults_are_shown_for_people(self):
        """A row shows the name behind DEFAULT_MODEL."""
        asked = ExaminedModel("mlx", DEFAULT_MODEL, "org/phi (default)", Load.NONE)
        assert cells(ExamResult(asked, Status.PASS, "ok", ""))[:3] == ["mlx", "org/phi (default)", "ok"]
