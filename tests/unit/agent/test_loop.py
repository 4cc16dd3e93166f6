"""The loop of the agent on a scripted model: limits, nudges, circles, honest ends."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from opskit.agent.loop import AgentLoop
from opskit.agent.run_state import Checkpoint, LoopResult, RunEnding, RunLimits, RunListener
from opskit.agent.tools.tool import NeedsApproval, ToolResult
from opskit.llm.answer import Answer, Attempt, AttemptOutcome, NoAnswer
from opskit.llm.profile import StepMode
from opskit.providers.base import Message, ToolCall, ToolSpec, Usage

GOAL = "How many files are in this folder?"
LISTING = "a.txt\nb.txt\nc.txt"


def step(tool: str, **args: Any) -> str:
    return json.dumps({"thought": "why", "tool": tool, "args": args})


def answer(text: str, *calls: ToolCall, mode: StepMode = StepMode.SCHEMA) -> Answer:
    return Answer(text, "n", "m", (), 0.1, Usage(), "stop", tool_calls=calls, mode=mode)


class Model:
    """Says what it is told to, in order, and keeps what it was asked."""

    def __init__(self, *says: str | Answer | Exception) -> None:
        self._says = list(says)
        self.asked: list[list[Message]] = []
        self.schemas: list[Mapping[str, Any]] = []
        self.offered: list[list[str]] = []

    async def __call__(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any],
        max_tokens: int,
        tools: Sequence[ToolSpec] = (),
    ) -> Answer:
        self.offered.append([tool.name for tool in tools])
        self.asked.append(list(messages))
        self.schemas.append(schema)
        said = self._says.pop(0) if len(self._says) > 1 else self._says[0]
        if isinstance(said, Exception):
            raise said
        return answer(said) if isinstance(said, str) else said

    @property
    def last(self) -> str:
        return self.asked[-1][-1].content


class Lister:
    """A box with one tool that lists a folder, beside the one that finishes."""

    def __init__(self, result: ToolResult | None = None) -> None:
        self.calls: list[Mapping[str, Any]] = []
        self._result = result or ToolResult(LISTING)

    def schemas(self) -> list[dict[str, Any]]:
        text = {"type": "string", "maxLength": 200}
        return [
            {
                "name": name,
                "description": name,
                "parameters": {"type": "object", "properties": {key: text}, "required": [key]},
            }
            for name, key in (("list_directory", "path"), ("finish", "answer"))
        ]

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        approved: tuple[str, ...] | None = None,
        **context: Any,
    ) -> ToolResult:
        del name, approved, context
        if "path" not in arguments:
            return ToolResult("'path' is missing", ok=False)
        self.calls.append(arguments)
        return self._result


async def ran(
    model: Model, tool: Lister | None = None, *, goal: str = GOAL, evidence: bool = True, **limits: Any
) -> LoopResult:
    loop = AgentLoop(model, tool or Lister(), RunLimits(**limits), needs_evidence=evidence)
    return await loop.run(goal)


async def test_it_looks_and_answers():
    """One look, one answer; the result stands in the dialogue."""
    tool = Lister()
    model = Model(step("list_directory", path="."), step("finish", answer="There are 3 files."))
    result = await ran(model, tool)
    assert (result.ending, result.answer) == (RunEnding.FINISHED, "There are 3 files.")
    assert tool.calls == [{"path": "."}]
    assert LISTING in model.last
    assert "list_directory" in model.asked[0][0].content


async def test_no_answer_is_on_offer_before_there_is_evidence():
    """A server that enforces the schema cannot even write one."""
    model = Model(step("list_directory", path="."), step("finish", answer="There are 3 files."))
    await ran(model)
    tools = [[b["properties"]["tool"]["const"] for b in schema["oneOf"]] for schema in model.schemas]
    assert tools == [["list_directory"], ["list_directory", "finish"]]


async def test_an_answer_without_a_look_is_nudged_once_and_then_refused():
    """A guess is no answer, however often it is repeated."""
    model = Model(step("finish", answer="There are 3 files."))
    result = await ran(model)
    assert result.ending is RunEnding.NO_EVIDENCE
    assert len(model.asked) == 2
    assert "use one before you answer" in model.last


async def test_an_answer_that_does_not_say_when_is_none():
    """Its words stand in the results, and none tells a time; a person reads no advice for the model."""
    seen = ToolResult("11:41 ERROR the certificate of bank.example has expired")
    said = step("finish", answer="The certificate of bank.example has expired.")
    look = step("list_directory", path=".")
    goal = "When did the certificate of the bank expire?"
    result = await ran(Model(look, said, said), Lister(seen), goal=goal)
    assert (result.ending, result.why) == (RunEnding.UNGROUNDED, "the answer does not say when")
    timed = step("finish", answer="The certificate of bank.example expired at 11:41.")
    assert (await ran(Model(look, timed), Lister(seen), goal=goal)).ending is RunEnding.FINISHED


async def test_a_number_that_no_result_shows_is_refused():
    """The folder has three files."""
    model = Model(step("list_directory", path="."), step("finish", answer="There are 12 files."))
    result = await ran(model)
    assert result.ending is RunEnding.UNGROUNDED
    assert "12" in result.why


@pytest.mark.parametrize(
    ("said", "ending"),
    [
        ("Lea lives in Narva.", RunEnding.FINISHED),
        ("Jon lives in Narva, Lea in Bergen.", RunEnding.UNGROUNDED),
    ],
)
async def test_a_small_model_puts_no_words_of_two_lines_together(said: str, ending: RunEnding):
    """Its sentence has to say what one line says."""
    tool = Lister(ToolResult("1 Lea lives in Narva\n2 Jon lives in Bergen"))
    model = Model(step("list_directory", path="."), step("finish", answer=said))
    loop = AgentLoop(model, tool, RunLimits(), needs_evidence=True, word_for_word=True)
    assert (await loop.run("Where do the users in this folder live?")).ending is ending


async def test_the_same_call_is_answered_from_what_is_known_and_then_ends_the_looking():
    """Forty identical calls become one, and the best answer is asked for."""
    tool = Lister()
    model = Model(*[step("list_directory", path=".")] * 3, json.dumps({"answer": "There are 3 files."}))
    result = await ran(model, tool)
    assert len(tool.calls) == 1
    assert (result.ending, result.answer) == (RunEnding.CONCLUDED, "There are 3 files.")
    assert any("again and again" in note for note in result.notes)


async def test_the_last_step_asks_for_the_best_answer():
    """A limit of steps ends in an answer from what was gathered, not in nothing."""
    tool = Lister()
    says = [step("list_directory", path=f"folder{number}") for number in range(3)]
    model = Model(*says, json.dumps({"answer": "There are 3 files."}))
    result = await ran(model, tool, steps=3)
    assert (len(tool.calls), result.ending) == (3, RunEnding.CONCLUDED)
    assert "answer" in model.schemas[-1]["properties"]


async def test_three_answers_that_are_no_step_end_it():
    """With no evidence there is no answer either."""
    model = Model("I am not sure what to do.")
    result = await ran(model)
    assert result.ending is RunEnding.NO_EVIDENCE
    assert len(model.asked) == 3


async def test_one_answer_that_is_no_step_is_forgiven():
    """The complaint says what is missing, and the count begins again."""
    model = Model(
        "Let me see.", step("list_directory", path="."), "Hm.", step("finish", answer="There are 3 files.")
    )
    result = await ran(model)
    assert result.ending is RunEnding.FINISHED
    assert "no JSON object" in model.asked[1][-1].content


async def test_a_tool_that_is_nearly_named_is_taken_once():
    """The second invented name is refused with the list of names."""
    tool = Lister()
    model = Model(
        step("list_directories", path="."), step("make_coffee"), step("finish", answer="There are 3 files.")
    )
    result = await ran(model, tool)
    assert tool.calls == [{"path": "."}]
    assert "there are: list_directory, finish" in model.last
    assert result.ending is RunEnding.FINISHED


async def test_wrong_arguments_are_told_and_nothing_runs():
    """The tool is not called with what its schema refuses."""
    tool = Lister()
    model = Model(
        step("list_directory", folder="."), step("list_directory", path="."), step("finish", answer="3")
    )
    await ran(model, tool)
    assert tool.calls == [{"path": "."}]
    assert "'path' is missing" in model.asked[1][-1].content


async def test_a_call_of_a_function_is_a_step():
    """Servers that speak in tool calls need no JSON in their text."""
    tool = Lister()
    call = answer("", ToolCall("list_directory", '{"path": "."}'))
    result = await ran(Model(call, step("finish", answer="There are 3 files.")), tool)
    assert tool.calls == [{"path": "."}]
    assert result.ending is RunEnding.FINISHED


async def test_a_model_that_calls_functions_answers_in_plain_words():
    """It sees its call and the result in their own form, and needs no call to end."""
    call = answer("", ToolCall("list_directory", '{"path": "."}'), mode=StepMode.NATIVE)
    model = Model(call, answer("<think>Three.</think>There are 3 files.", mode=StepMode.NATIVE))
    result = await ran(model)
    assert (result.ending, result.answer) == (RunEnding.FINISHED, "There are 3 files.")
    assert model.offered == [["list_directory"], ["list_directory", "finish"]]
    called, shown = model.asked[1][-2:]
    assert called.call == ToolCall("list_directory", '{"path": "."}')
    assert shown.result_of == "list_directory"


async def test_plain_words_of_other_models_are_no_answer():
    """They are asked for a step."""
    model = Model(step("list_directory", path="."), answer("There are 3 files.", mode=StepMode.TEXT))
    assert (await ran(model)).ending is RunEnding.FORMAT


async def test_a_model_that_does_not_answer_ends_with_the_time():
    """Also in the middle of a step, and the last question has its own limit."""

    class Silent(Model):
        async def __call__(self, messages: Sequence[Message], **rest: Any) -> Answer:
            if self.asked:
                await asyncio.Event().wait()
            return await super().__call__(messages, **rest)

    loop = AgentLoop(
        Silent(step("list_directory", path=".")),
        Lister(),
        RunLimits(wall_s=0.05, conclusion_s=0.05),
        needs_evidence=True,
    )
    async with asyncio.timeout(30):
        result = await loop.run(GOAL)
    assert result.ending is RunEnding.TIME
    assert any("ended after 0.05 s" in note for note in result.notes)


async def test_the_goal_that_comes_back_is_no_answer():
    """An echo is nudged once and then refused."""
    model = Model(step("list_directory", path="."), step("finish", answer=GOAL))
    result = await ran(model)
    assert result.ending is RunEnding.BAD_ANSWER


async def test_a_tool_that_fails_is_no_evidence():
    """What did not work shows nothing."""
    tool = Lister(ToolResult("no such folder", ok=False))
    model = Model(step("list_directory", path="."), step("finish", answer="There are 3 files."))
    result = await ran(model, tool)
    assert result.ending is RunEnding.NO_EVIDENCE


async def test_a_small_context_shortens_old_results_and_asks_again():
    """The rules and the goal are never cut."""
    exceeded = NoAnswer(
        "MODEL_004",
        "no",
        attempts=[Attempt("n", "m", AttemptOutcome.FAULT, "context_exceeded", "", 0.1, fallback=False)],
    )
    tool = Lister(ToolResult("\n".join(f"file{number}.txt" for number in range(400))))
    model = Model(
        step("list_directory", path="."),
        step("list_directory", path="b"),
        step("list_directory", path="c"),
        exceeded,
        step("finish", answer="file1.txt is there."),
    )
    result = await ran(model, tool)
    assert result.ending is RunEnding.FINISHED
    before, after = (sum(len(m.content) for m in asked) for asked in model.asked[-2:])
    assert after < before
    assert model.asked[-1][0] == model.asked[0][0]
    assert GOAL in model.asked[-1][1].content


async def test_a_refusal_of_the_router_is_raised():
    """No model is no run: the caller decides what to say."""
    with pytest.raises(NoAnswer):
        await ran(Model(NoAnswer("MODEL_001", "no node can answer")))


async def test_a_long_result_keeps_its_beginning_and_its_end():
    """What is left out is said with its size."""
    tool = Lister(ToolResult("first " + "x" * 10_000 + " last"))
    model = Model(step("list_directory", path="."), step("finish", answer="first and last"))
    await ran(model, tool, observation_chars=1000)
    assert "first" in model.last
    assert "last" in model.last
    assert "characters left out" in model.last
    assert len(model.last) < 1200


async def test_time_ends_a_run_with_the_best_answer():
    """The clock is looked at between steps."""
    now = [0.0]

    class Slow(Lister):
        async def call(self, name: str, arguments: Mapping[str, Any], **rest: Any) -> ToolResult:
            now[0] += 100
            return await super().call(name, arguments, **rest)

    model = Model(step("list_directory", path="."), json.dumps({"answer": "There are 3 files."}))
    loop = AgentLoop(model, Slow(), RunLimits(wall_s=60), needs_evidence=True, clock=lambda: now[0])
    result = await loop.run(GOAL)
    assert result.ending is RunEnding.CONCLUDED
    assert any("60 s" in note for note in result.notes)


class Guarded(Lister):
    """A tool whose command a person has to allow."""

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        approved: tuple[str, ...] | None = None,
        **context: Any,
    ) -> ToolResult:
        if approved is None:
            raise NeedsApproval(("curl", "http://127.0.0.1"), "curl", "it reaches out")
        return await super().call(name, arguments, **context)


class Second(Guarded):
    """The first look is free, the second has to be allowed."""

    async def call(self, name: str, arguments: Mapping[str, Any], **rest: Any) -> ToolResult:
        if arguments["path"] == "a":
            return await Lister.call(self, name, arguments)
        return await super().call(name, arguments, **rest)


async def test_a_command_that_nobody_allows_ends_the_run():
    """The exact command is told, and the model gets no turn to narrate."""
    model = Model(step("list_directory", path="."))
    result = await ran(model, Guarded())
    assert result.ending is RunEnding.NEEDS_APPROVAL
    assert "`curl http://127.0.0.1`" in result.why
    assert len(model.asked) == 1


async def test_a_run_goes_on_from_its_checkpoint():
    """In another loop, with the dialogue, the steps and the nudges that it had; the command comes first."""
    first = Model(step("list_directory", path="a"), step("list_directory", path="b"))
    stopped = await AgentLoop(first, Second(), RunLimits(), needs_evidence=True).run(GOAL)
    assert stopped.checkpoint is not None
    saved = msgspec.json.encode(stopped.checkpoint)
    checkpoint = msgspec.json.decode(saved, type=Checkpoint)
    assert checkpoint == stopped.checkpoint

    async def approve(_: NeedsApproval) -> bool:
        return True

    model = Model(step("finish", answer="There are 3 files."))
    loop = AgentLoop(model, Second(), RunLimits(), needs_evidence=True, listener=RunListener(approve=approve))
    result = await loop.resume(checkpoint)
    assert result.ending is RunEnding.FINISHED
    assert [observed.step.args["path"] for observed in result.steps] == ["a", "b"]
    assert len(model.asked) == 1
    assert model.asked[0][: len(first.asked[1])] == first.asked[1]


async def test_a_command_that_a_person_denies_ends_the_run():
    """There is nothing to go on from, and the model gets no turn to talk around it."""

    async def deny(_: NeedsApproval) -> bool:
        return False

    model = Model(step("list_directory", path="."))
    loop = AgentLoop(model, Guarded(), RunLimits(), needs_evidence=True, listener=RunListener(approve=deny))
    result = await loop.run(GOAL)
    assert (result.ending, result.checkpoint) == (RunEnding.DENIED, None)
    assert "denied `curl http://127.0.0.1`" in result.why
    assert len(model.asked) == 1


async def test_a_command_that_a_person_allows_is_run():
    """Exactly the one that was shown."""
    asked: list[tuple[str, ...]] = []

    async def approve(needed: NeedsApproval) -> bool:
        asked.append(needed.argv)
        return True

    model = Model(step("list_directory", path="."), step("finish", answer="There are 3 files."))
    loop = AgentLoop(
        model, Guarded(), RunLimits(), needs_evidence=True, listener=RunListener(approve=approve)
    )
    result = await loop.run(GOAL)
    assert asked == [("curl", "http://127.0.0.1")]
    assert result.ending is RunEnding.FINISHED
