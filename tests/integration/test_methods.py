"""The methods of the agent on a simulated Ollama that plays a script: their paths, limits and honest ends."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert, to_builtins

from opskit.agent.method import METHODS
from opskit.agent.methods.caller import MethodGoal, ModelCaller, RunBudget
from opskit.agent.run_state import Checkpoint, RunLimits, RunListener, RunSuspended
from opskit.agent.trajectory import Trajectory
from opskit.agent.victoria import Victoria
from opskit.app import App
from opskit.config.schema import Config, NodeConfig, VictoriaConfig
from opskit.engine.goal import Goal, RunFailed, RunResult
from opskit.llm.answer import Session
from opskit.llm.plan import ModelRequest
from opskit.sandbox.ollama import SimModel, SimulatedOllama

GOAL = "What is the capital of France?"
THINKING = [name for name in METHODS if name not in ("simple", "react")]
#: The stage of a method, by how its rules begin.
STAGES = {
    "Answer the goal of the user": "answer",
    "Check an answer": "critique",
    "Write the answer to the goal again": "revise",
    "You look at the goal of the user in the role": "expert",
    "Others have worked": "synthesis",
    "Take one step of thought": "thought",
    "Judge how far": "score",
    "Divide a goal": "subgoals",
    "Tools:": "act",
}


def stage_of(messages: Sequence[Mapping[str, Any]]) -> str:
    rules = messages[0]["content"]
    return next((stage for beginning, stage in STAGES.items() if beginning in rules), "none")


class Model:
    """Says at each stage what the script has for it, in order; the last of them again and again."""

    def __init__(self, **says: str | list[str]) -> None:
        self._says = {
            stage: [texts] if isinstance(texts, str) else list(texts) for stage, texts in says.items()
        }
        self.asked: list[tuple[str, str]] = []

    def __call__(self, messages: list[dict[str, Any]], model: str) -> str:
        del model
        stage = stage_of(messages)
        self.asked.append((stage, messages[-1]["content"]))
        texts = self._says.get(stage) or self._says["other"]
        return texts.pop(0) if len(texts) > 1 else texts[0]

    @property
    def stages(self) -> list[str]:
        return [stage for stage, _ in self.asked]


def answer(text: str) -> str:
    return json.dumps({"answer": text})


def step(tool: str, **args: Any) -> str:
    return json.dumps({"thought": "why", "tool": tool, "args": args})


@contextlib.asynccontextmanager
async def simulated(
    model: Any, *names: str, asleep: Sequence[str] = (), size_bytes: int = 2_200_000_000
) -> AsyncIterator[SimulatedOllama]:
    models = [SimModel(name, resident=True, size_bytes=size_bytes) for name in names or ("m:1b",)]
    server = SimulatedOllama(models=[*models, *map(SimModel, asleep)], reply=model, keep_alive_s=3600)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ran(
    server: SimulatedOllama,
    folder: Path,
    method: str,
    goal: str = GOAL,
    model: str | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    listener: RunListener | None = None,
    **limits: Any,
) -> RunResult:
    agent = VictoriaConfig(workspace=str(folder), sandbox="off")
    config = Config(str(folder / "state"), (NodeConfig("ollama", server.url, "ollama"),), (), agent=agent)
    async with App(config) as app:
        app.engine.solver = Victoria(app, RunLimits(**limits), listener, checkpoint)
        return await app.engine.run(Goal(goal, "local", model, method=method))


def chats(server: SimulatedOllama) -> list[dict[str, Any]]:
    return [request.body for request in server.requests if request.path == "/api/chat" and request.body]


async def test_a_revision_that_mends_the_draft_is_the_answer(tmp_path: Path):
    """Draft, critique, revision: three calls."""
    model = Model(
        answer="Lyon.", critique='{"problems": ["it is Paris"]}', revise="Paris is the capital of France."
    )
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "extended_thinking")
    assert (result.output, result.method) == ("Paris is the capital of France.", "extended_thinking")
    assert model.stages == ["answer", "critique", "revise"]
    assert "it is Paris" in model.asked[-1][1]


async def test_a_draft_without_problems_stands(tmp_path: Path):
    """A revision for its own sake is not paid for."""
    model = Model(answer="Paris.", critique='{"problems": []}')
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "extended_thinking")
    assert (result.output, model.stages) == ("Paris.", ["answer", "critique"])


@pytest.mark.parametrize(
    "revision", ["", GOAL, "Thank you, noted!"], ids=["empty", "echo", "off the subject"]
)
async def test_a_revision_that_is_worse_does_not_replace_the_draft(tmp_path: Path, revision: str):
    """What was right before stays, and that is said."""
    model = Model(answer="Paris is the capital.", critique='{"problems": ["short"]}', revise=revision)
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "extended_thinking")
    assert result.output == "Paris is the capital."
    assert any("revis" in note for note in result.notes)


async def test_a_model_that_can_think_is_told_to(tmp_path: Path):
    """Only where its metadata say that it can: another would refuse the request."""
    for capabilities, told in ((("completion", "thinking"), True), (("completion",), None)):
        model = Model(answer="Paris.", critique='{"problems": []}')
        server = SimulatedOllama(
            models=[SimModel("m:1b", resident=True, capabilities=capabilities)],
            reply=model,
            keep_alive_s=3600,
        )
        await server.start()
        await ran(server, tmp_path / str(told), "extended_thinking")
        await server.stop()
        assert chats(server)[0].get("think") == told


async def test_answers_that_agree_are_certain(tmp_path: Path):
    """Other words for the same fact agree; the samples differ in temperature and seed."""
    model = Model(answer=["Paris", "It is Paris.", "The capital of France is Paris"])
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "consensus")
    options = [body["options"] for body in chats(server)]
    assert (result.output, result.metadata["agreement"], result.notes) == ("Paris", 1.0, ())
    assert options[0]["temperature"] == 0
    assert len({option.get("seed") for option in options}) == 3


async def test_the_answer_that_most_agree_with_wins_and_the_disagreement_is_told(tmp_path: Path):
    """Also where the first answer is the odd one."""
    model = Model(answer=["Lyon", "Paris", "Paris."])
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "consensus")
    assert result.output == "Paris"
    assert result.metadata["agreement"] == pytest.approx(2 / 3)
    assert any("not certain" in note and "Lyon" in note for note in result.notes)


@pytest.mark.parametrize(
    ("goal", "says"),
    [(GOAL, "Not certain: no other"), ("Какая столица Франции?", "Не точно: другие")],
)
async def test_where_no_two_agree_the_answer_itself_says_so(tmp_path: Path, goal: str, says: str):
    """In the language of the goal, and it is not remembered."""
    model = Model(answer=["Lyon", "Nice", "Lille"])
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "consensus", goal)
    assert result.output.startswith(says)
    assert result.metadata["agreement"] == pytest.approx(1 / 3)
    assert not (tmp_path / "state" / "memory.db").exists()


async def test_one_answer_alone_is_not_certain(tmp_path: Path):
    """The others were no answers, so that nothing agrees with it."""
    model = Model(answer=[GOAL, "Paris", ""])
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "consensus")
    assert result.output.startswith("Not certain")
    assert result.metadata["agreement"] == pytest.approx(1 / 3)


async def test_a_model_that_was_named_is_the_only_one_asked(tmp_path: Path):
    """Though another is loaded."""
    async with simulated(Model(answer="Paris"), "a:1b", "b:1b") as server:
        await ran(server, tmp_path, "consensus", model="b:1b")
    assert {body["model"] for body in chats(server)} == {"b:1b"}


async def test_consensus_asks_loaded_models_and_loads_none(tmp_path: Path):
    """Two that are in memory share the answers, one that is not stays there."""
    model = Model(answer="Paris")
    async with simulated(model, "a:1b", "b:1b", asleep=["c:1b"]) as server:
        await ran(server, tmp_path, "consensus")
    assert Counter(body["model"] for body in chats(server)) == {"a:1b": 2, "b:1b": 1}


async def test_experts_are_put_together_and_an_echo_is_none(tmp_path: Path):
    """Three roles, one synthesis; who says nothing is left out and counted."""
    model = Model(
        expert=["Paris, since 987.", GOAL, "It is Paris."], synthesis="The capital of France is Paris."
    )
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "swarm")
    assert result.output == "The capital of France is Paris."
    assert model.stages == ["expert", "expert", "expert", "synthesis"]
    assert "since 987" in model.asked[-1][1]
    assert any("1 expert of 3" in note for note in result.notes)


async def test_without_a_synthesis_the_view_of_an_expert_is_the_answer(tmp_path: Path):
    """The one that most agree with, and it is said."""
    model = Model(expert=["Lyon", "Paris", "Paris!"], synthesis="")
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "swarm")
    assert result.output == "Paris"
    assert any("one expert" in note for note in result.notes)


async def test_the_best_thought_leads_to_the_answer(tmp_path: Path):
    """The answer is asked with the path of the best scores, not with the others."""
    thoughts = [
        json.dumps({"thought": text}) for text in ("kings of Spain", "Seine and Louvre", "green cheese")
    ]
    deeper = [json.dumps({"thought": text}) for text in ("Louvre is in Paris", "Nile", "Alps")]
    scores = [json.dumps({"score": score}) for score in (2, 7, 1, 9, 3, 3)]
    model = Model(thought=[*thoughts, *deeper], score=scores, answer="Paris")
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "tree_of_thoughts")
    final = model.asked[-1][1]
    assert result.output == "Paris"
    assert "Seine and Louvre" in final
    assert "Louvre is in Paris" in final
    assert "cheese" not in final
    assert len(model.asked) == 13


async def test_thoughts_that_go_in_circles_end_early(tmp_path: Path):
    """The same thought three times is one, and deeper none; a score that cannot be read is told."""
    model = Model(thought='{"thought": "it is a big city"}', score="very good!", answer="Paris")
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "tree_of_thoughts")
    assert result.output == "Paris"
    assert Counter(model.stages) == {"thought": 6, "score": 1, "answer": 1}
    assert any("judged" in note for note in result.notes)


async def test_parts_of_a_goal_are_worked_on_and_put_together(tmp_path: Path):
    """Each by one question that knows the earlier parts."""
    parts = json.dumps({"goals": ["Name the capital of France", "Name the river of that capital"]})
    model = Model(subgoals=parts, answer=["Paris", "the Seine"], synthesis="Paris, on the Seine.")
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "hierarchical", "Name the capital of France and its river")
    assert result.output == "Paris, on the Seine."
    assert model.stages == ["subgoals", "answer", "answer", "synthesis"]
    assert "Paris" in model.asked[2][1]


async def test_a_part_about_this_machine_is_looked_up(tmp_path: Path):
    """Its tools show the text, and a synthesis that invents a number gives way to the parts."""
    (tmp_path / "notes.txt").write_text("the deploy is on Friday at 17\n")
    goal = "When is the deploy in notes.txt, and what follows from it?"
    parts = json.dumps({"goals": ["Read notes.txt and say when the deploy is", "Say what follows from it"]})
    model = Model(
        subgoals=parts,
        act=[step("read_file", path="notes.txt"), step("finish", answer="the deploy is on Friday at 17")],
        answer="be there on Friday",
        synthesis="The deploy is on Monday at 44.",
    )
    async with simulated(model) as server:
        result = await ran(server, tmp_path, "hierarchical", goal)
    assert "Friday at 17" in result.output
    assert "44" not in result.output
    # A file that a part names is read before a model is asked, which asks for it again.
    assert {entry["tool"] for entry in result.steps} == {"read_file"}
    assert any("not put together" in note for note in result.notes)


async def test_a_part_that_waits_for_a_person_goes_on_as_a_part(tmp_path: Path):
    """The parts before it are not done again, those behind it are done, and the whole is answered."""
    (tmp_path / "notes.txt").write_text("the deploy is on Friday\n")
    (tmp_path / "a.env").write_text("the port is 8443\n")
    goal = "When is the deploy in notes.txt, and which port has a.env?"
    parts = ["Read notes.txt and say when the deploy is", "Read a.env and say the port", "Name a river"]
    acts = [step("read_file", path="notes.txt"), step("finish", answer="the deploy is on Friday")]
    model = Model(subgoals=json.dumps({"goals": parts}), act=[*acts, step("read_file", path="a.env")])
    async with simulated(model) as server:
        with pytest.raises(RunSuspended) as stopped:
            await ran(server, tmp_path, "hierarchical", goal)
    kept = convert(to_builtins(stopped.value.checkpoint), Checkpoint)

    async def allow(needed: Any) -> bool:
        return needed.argv == ("read_file", "a.env")

    whole = "the deploy is on Friday, the port is 8443"
    model = Model(act=step("finish", answer="the port is 8443"), answer="the Seine", synthesis=whole)
    async with simulated(model) as server:
        listener = RunListener(approve=allow)
        result = await ran(server, tmp_path, "react", goal, checkpoint=kept, listener=listener)
    assert result.output == whole
    assert model.stages == ["act", "answer", "synthesis"]
    assert [entry["args"]["path"] for entry in result.steps if entry["ok"]] == ["notes.txt", "a.env"]


@pytest.mark.parametrize("method", THINKING)
async def test_no_method_answers_a_goal_about_the_machine_from_imagination(tmp_path: Path, method: str):
    """A model that will not look at anything has no answer, however it is asked."""
    model = Model(other="There are 12 lines.", act=step("finish", answer="There are 12 lines."))
    async with simulated(model) as server:
        with pytest.raises(RunFailed, match="no honest answer"):
            await ran(server, tmp_path, method, "How many lines has notes.txt?")


@pytest.mark.parametrize("method", [name for name in THINKING if name != "hierarchical"])
async def test_evidence_comes_first_and_what_it_does_not_show_is_no_answer(tmp_path: Path, method: str):
    """`react` shows the file; a model that then says something else does not get through."""
    (tmp_path / "notes.txt").write_text("the deploy is on Friday\n")
    model = Model(
        act=[step("read_file", path="notes.txt"), step("finish", answer="the deploy is on Friday")],
        critique='{"problems": ["wrong"]}',
        thought='{"thought": "perhaps on Monday"}',
        score='{"score": 9}',
        other="The deploy is on Monday 31.",
    )
    async with simulated(model) as server:
        outcome = await asyncio.gather(
            ran(server, tmp_path, method, "When is the deploy in notes.txt?"), return_exceptions=True
        )
    if isinstance(outcome[0], RunResult):
        assert "Friday" in outcome[0].output
        assert "31" not in outcome[0].output
    else:
        assert "'31' stands in no result" in str(outcome[0])


@pytest.mark.parametrize("method", THINKING)
async def test_what_the_tools_have_answered_is_thought_over_by_no_method(tmp_path: Path, method: str):
    """A model would only replace what stands in the file by something else that stands there."""
    (tmp_path / "a.yaml").write_text("port: 8443\nadmin_port: 9100\n")
    async with simulated(Model(other="The port is 9100, as a.yaml says.", subgoals="{}")) as server:
        result = await ran(server, tmp_path, method, "Which port does a.yaml set?")
    assert result.output == "a.yaml, line 1: port: 8443"


@pytest.mark.parametrize("method", [name for name in THINKING if name != "hierarchical"])
async def test_a_small_model_that_thinks_says_what_a_line_says(tmp_path: Path, method: str):
    """Else the answer before it stands: words of two lines put together are none."""
    (tmp_path / "n.txt").write_text("the deploy is on Friday\nthe backup runs on Sunday night\n")
    model = Model(
        act=[step("read_file", path="n.txt"), step("finish", answer="the deploy is on Friday")],
        critique='{"problems": ["wrong"]}',
        thought='{"thought": "perhaps on Sunday"}',
        score='{"score": 9}',
        other="The deploy runs on Sunday night.",
    )
    async with simulated(model, size_bytes=500_000_000) as server:
        result = await ran(server, tmp_path, method, "Tell me about the deployment, as n.txt has it")
    assert result.output == "the deploy is on Friday"


@pytest.mark.parametrize("method", THINKING)
@pytest.mark.parametrize("kind", ["echo", "loop", "prose", "empty"])
async def test_a_model_that_is_no_use_ends_every_method_honestly(tmp_path: Path, method: str, kind: str):
    """An echo, a loop and nothing are failures; prose instead of JSON is an answer at most."""
    texts = {"loop": "I will look at it again. " * 60, "prose": "Paris, as far as I know.", "empty": " "}

    def says(messages: list[dict[str, Any]], model: str) -> str:
        del model
        return texts.get(kind) or GOAL

    async with simulated(says) as server:
        try:
            result = await ran(server, tmp_path, method)
        except RunFailed:
            assert kind != "prose"
        else:
            assert (kind, result.output) == ("prose", texts["prose"])
    assert len(chats(server)) <= 32


@pytest.mark.parametrize("method", THINKING)
async def test_the_limits_hold_for_every_method(tmp_path: Path, method: str):
    """One step and no time: nothing is asked; the failure names the limit."""
    model = Model(other="Paris")
    async with simulated(model) as server:
        with pytest.raises(RunFailed, match="reached its limit of 0 s"):
            await ran(server, tmp_path, method, wall_s=0.0)
    assert chats(server) == []


async def test_a_similar_goal_gets_the_way_as_a_hint_and_not_what_was_there(tmp_path: Path):
    """The tool of the first run stands in the plan of the second; its answer is no evidence."""
    (tmp_path / "notes.txt").write_text("the deploy is on Friday\n")
    steps = [step("read_file", path="notes.txt"), step("finish", answer="the deploy is on Friday")]
    model = Model(act=[*steps, *[step("finish", answer="the deploy is on Friday")] * 2])
    async with simulated(model) as server:
        await ran(server, tmp_path, "react", "When is the deploy, by the files of this machine?")
        with pytest.raises(RunFailed, match="no tool has shown anything"):
            await ran(server, tmp_path, "react", "When was the deploy, by the files of this machine?")
    hinted = model.asked[2][1]
    assert "a similar goal was answered by read_file" in hinted
    assert "Friday" not in hinted


async def test_a_similar_question_gets_the_earlier_answer_as_a_hint(tmp_path: Path):
    """The very same one does not: who asks it again wants a new answer; nor do independent answers."""
    model = Model(answer="Paris is the capital", critique='{"problems": []}')
    async with simulated(model) as server:
        await ran(server, tmp_path, "extended_thinking", "What is the capital of France?")
        await ran(server, tmp_path, "extended_thinking", "What is the capital of France?")
        await ran(server, tmp_path, "extended_thinking", "Name the capital of France, please")
        await ran(server, tmp_path, "consensus", "Name the capital of France")
    hints = ["Hint" in text for stage, text in model.asked if stage == "answer"]
    assert hints == [False, False, True, False, False, False]


def test_calls_are_spared_for_the_answer():
    """What comes before it is refused while the answer is still paid for."""
    budget = RunBudget(RunLimits(steps=1))
    for _ in range(10):
        budget.take(10, spare=1)
    with pytest.raises(Exception, match="reached its limit of 11 model calls"):
        budget.take(10, spare=1)
    assert budget.take(10) == 10
    with pytest.raises(Exception, match="reached its limit"):
        budget.take(10)


def test_an_answer_pays_for_the_tokens_that_it_has():
    """What was granted and not used is there for the next call."""
    budget = RunBudget(RunLimits(steps=1, step_tokens=100))
    granted = budget.take(1000)
    budget.settle(granted, ())
    assert budget.take(5000) == 100
    with pytest.raises(Exception, match="1100 tokens"):
        budget.take(1)


async def test_a_node_with_one_slot_is_asked_one_after_another(tmp_path: Path):
    """However many experts there are."""
    under_way, most = 0, 0

    async def call() -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return "done"

    async with simulated(Model(other="Paris")) as server:
        config = Config(str(tmp_path), (NodeConfig("ollama", server.url, "ollama"),), ())
        async with App(config) as app:
            trajectory = Trajectory(tmp_path, "c1")
            ask = ModelCaller(app, ModelRequest(), Session(), False, RunBudget(RunLimits()), trajectory)
            await ask.text("answer", MethodGoal(GOAL))
            assert await ask.together([call] * 5) == ["done"] * 5
            trajectory.close()
    assert most == 1
