"""The loop of the agent: think, act, observe, until it finishes or a limit ends it.

Built for small local models, which repeat a call, forget the format, invent tools, answer without a look, and
lose the beginning of a long prompt in silence.
"""

import asyncio
import difflib
import json
import shlex
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

from opskit.agent.grounding import sentences, supported, ungrounded
from opskit.agent.prompt import act_prompt, prompt
from opskit.agent.quoting import compared, direct_answer, first_steps, strays, summary, summary_source
from opskit.agent.step import AgentStep, StepError, read_object, read_step, step_schema
from opskit.agent.tools.tool import FINISH, NeedsApproval, ToolResult
from opskit.llm.answer import Answer, NoAnswer
from opskit.llm.faults import FaultKind
from opskit.llm.profile import StepMode
from opskit.llm.verdict import judge
from opskit.llm.visible import without_thinking
from opskit.providers.base import Message, ToolCall, ToolSpec
from opskit.records import MutableRecord, Record, field, replace
from opskit.tags import correlation_id
from opskit.text import counted
from opskit.trace.span import SpanKind, span

#: Consecutive answers that are no step end the run.
_MAX_FORMAT_ERRORS = 3
#: The same call again is answered from what is known; once more ends the looking.
_MAX_SAME_CALLS = 2
_NEAR = 0.6
#: A dialogue that is shortened below this is none.
_LEAST_ROOM_CHARS = 1000
_SUMMARY_TOKENS = 160
_CONCLUSION: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string", "maxLength": 4000}},
    "required": ["answer"],
    "additionalProperties": False,
}


class RunEnding(StrEnum):
    """Why a run ended. Only FINISHED and CONCLUDED have an answer."""

    FINISHED = "finished"
    CONCLUDED = "concluded"
    FORMAT = "format"
    NO_EVIDENCE = "no_evidence"
    UNGROUNDED = "ungrounded"
    BAD_ANSWER = "bad_answer"
    NEEDS_APPROVAL = "needs_approval"
    DENIED = "denied"
    TIME = "time"


class RunLimits(Record):
    """What a run may cost. `context_chars` bounds the dialogue that is sent with one step.

    `conclusion_s` is left for the last question when `wall_s` is over.
    """

    steps: int = 8
    wall_s: float = 300.0
    conclusion_s: float = 60.0
    step_tokens: int = 400
    observation_chars: int = 3000
    context_chars: int = 16_000


class Asks(Protocol):
    """Asks a model, under `schema` or with `tools` as functions, whichever suits the model."""

    def __call__(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any],
        max_tokens: int,
        tools: Sequence[ToolSpec] = (),
    ) -> Awaitable[Answer]: ...


class Tools(Protocol):
    """What the agent can use, as `opskit.agent.tools.toolbox.Toolbox` gives it; `finish` is among them."""

    def schemas(self) -> list[dict[str, Any]]:
        """Return name, description and the JSON schema of the arguments (`parameters`) of each tool."""
        ...

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        approved: tuple[str, ...] | None = None,
        **context: Any,
    ) -> ToolResult:
        """Call a tool. Raises NeedsApproval for a command that a person has to allow."""
        ...


async def unattended(_: NeedsApproval) -> bool | None:
    """Decide nothing: nobody is there to ask."""
    return None


class Observed(Record):
    """A step with what came of it."""

    step: AgentStep
    result: ToolResult
    seconds: float


class Checkpoint(Record):
    """A run where it waits for a person: all that is needed to go on with `step` in another process."""

    step: AgentStep
    asked: str
    goal: str
    history: tuple[Message, ...]
    dialogue: tuple[Message, ...]
    steps: tuple[Observed, ...]
    notes: tuple[str, ...]
    nudged: frozenset[str]
    room_chars: int


class LoopResult(MutableRecord):
    """What a run came to. `why` says in a sentence why there is no answer.

    A run that needs an approval has what is `needed`, and the `checkpoint` to go on from. `agreement` is the
    part of several independent answers that agree with this one.
    """

    ending: RunEnding
    answer: str = ""
    why: str = ""
    steps: list[Observed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    needed: NeedsApproval | None = None
    checkpoint: Checkpoint | None = None
    agreement: float | None = None

    @property
    def ok(self) -> bool:
        return self.ending in (RunEnding.FINISHED, RunEnding.CONCLUDED)


class AgentLoop:
    """One run. `needs_evidence` means that an answer without a look at anything is none, `word_for_word` that
    each sentence of an answer must say what one line of the results says: a small model puts words together.

    `approve` asks a person for a command that the policy does not allow by itself; False denies it, and with
    None the run waits for a decision; both end it here. `on_step` gets each step before it is made,
    `on_observed` what it brought.
    """

    def __init__(
        self,
        asks: Asks,
        tools: Tools,
        limits: RunLimits,
        *,
        needs_evidence: bool,
        word_for_word: bool = False,
        approve: Callable[[NeedsApproval], Awaitable[bool | None]] = unattended,
        on_step: Callable[[AgentStep], None] = lambda _: None,
        on_observed: Callable[[Observed], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asks = asks
        self._tools = tools
        self._schemas = {schema["name"]: schema for schema in tools.schemas()}
        self._approve = approve
        self._limits = limits
        self._needs_evidence = needs_evidence
        self._word_for_word = word_for_word
        self._on_step = on_step
        self._on_observed = on_observed
        self._clock = clock
        self._nudged: set[str] = set()
        self._result = LoopResult(RunEnding.FORMAT)
        self._dialogue: list[Message] = []
        self._room_chars = limits.context_chars

    async def run(self, goal: str, plan: Sequence[str] = (), history: Sequence[Message] = ()) -> LoopResult:
        """Work until an end. Raises what asking a model raises, NoAnswer above all.

        `history` are the lines of the conversation before the goal.
        """
        self._history = tuple(history)
        steps = "".join(f"\n{number}. {step}" for number, step in enumerate(plan, 1))
        self._goal = f"Goal: {goal}" + (f"\nPlan:{steps}" if steps else "")
        self._asked = goal
        self._deadline = self._clock() + self._limits.wall_s
        answered = await self._answered_by_what_is_named(goal)
        return answered or await self._work(None)

    async def resume(self, checkpoint: Checkpoint) -> LoopResult:
        """Go on from a checkpoint, with the step that waited. Raises what `run` raises."""
        self._history, self._goal, self._asked = checkpoint.history, checkpoint.goal, checkpoint.asked
        self._dialogue = list(checkpoint.dialogue)
        self._result.steps, self._result.notes = list(checkpoint.steps), list(checkpoint.notes)
        self._nudged, self._room_chars = set(checkpoint.nudged), checkpoint.room_chars
        self._deadline = self._clock() + self._limits.wall_s
        return await self._work(checkpoint.step)

    async def _work(self, pending: AgentStep | None) -> LoopResult:
        """Make steps until an end, the one that is `pending` first."""
        format_errors = 0
        while len(self._result.steps) < self._limits.steps:
            try:
                step, pending = pending or await self._next_step(), None
            except TimeoutError:
                self._result.notes.append(f"ended after {self._limits.wall_s:g} s")
                break
            except StepError as error:
                format_errors += 1
                if format_errors == _MAX_FORMAT_ERRORS:
                    self._result.notes.append(f"{counted(format_errors, 'answer')} in a row were no step")
                    break
                self._say(f"{error}. Answer with one JSON object: thought, tool, args.")
                continue
            format_errors = 0
            if step.tool == FINISH:
                if (done := self._finished(str(step.args.get("answer", "")))) is not None:
                    return done
                continue
            try:
                if not await self._act(step):
                    break
            except NeedsApproval as needed:
                return self._stopped(step, needed)
        return await self._concluded()

    def _stopped(self, step: AgentStep, needed: NeedsApproval) -> LoopResult:
        """End before a command that a person did not allow."""
        command = shlex.join(needed.argv)
        if needed.denied:
            return self._end(RunEnding.DENIED, why=f"a person denied `{command}`")
        self._result.needed = needed
        self._result.checkpoint = Checkpoint(
            step=step,
            asked=self._asked,
            goal=self._goal,
            history=self._history,
            dialogue=tuple(self._dialogue),
            steps=tuple(self._result.steps),
            notes=tuple(self._result.notes),
            nudged=frozenset(self._nudged),
            room_chars=self._room_chars,
        )
        why = f"`{command}` needs the approval of a person: {needed.why} (rule {needed.rule})"
        return self._end(RunEnding.NEEDS_APPROVAL, why=why)

    async def _answered_by_what_is_named(self, goal: str) -> LoopResult | None:
        """Look at what the goal names; None where what is seen does not answer it by itself."""
        for step in first_steps(goal) if self._needs_evidence else ():
            if step.tool not in self._schemas:
                continue
            try:
                await self._act(step)
            except NeedsApproval:
                continue  # a step of the model may ask for it
            result = self._result.steps[-1].result
            if (answer := direct_answer(goal, step, result)) is not None:
                return self._end(RunEnding.FINISHED, answer)
            if (source := summary_source(goal, step, result)) is not None:
                return self._end(
                    RunEnding.FINISHED, await self._summarised(goal, str(step.args["path"]), source)
                )
        seen = [(observed.step, observed.result) for observed in self._result.steps]
        answer = compared(goal, seen)
        return None if answer is None else self._end(RunEnding.FINISHED, answer)

    async def _summarised(self, goal: str, path: str, source: str) -> str:
        messages = (Message("system", prompt("summarise")), Message("user", f"{source}\n\nGoal: {goal}"))
        written = ""
        try:
            async with asyncio.timeout(self._deadline - self._clock()):
                asked = await self._asks(messages, schema=_CONCLUSION, max_tokens=_SUMMARY_TOKENS)
            written = str(read_object(asked.text).get("answer") or "")
        except (NoAnswer, StepError, TimeoutError) as error:
            why = str(error) or f"ended after {self._limits.wall_s:g} s"
            self._result.notes.append(f"no model wrote a summary: {why}")
        answer, is_written = summary(goal, path, source, written)
        if not is_written:
            self._result.notes.append(
                "the sentences are quoted: no summary of a model says just what they say"
            )
        return answer

    async def _next_step(self) -> AgentStep:
        """Ask for a step whose tool and arguments are right. Raises StepError."""
        answer = await self._ask(self._offered())
        if answer.prompt_cut is not None and "cut" not in self._nudged:
            self._nudged.add("cut")
            self._result.notes.append(answer.prompt_cut.text)
        try:
            step = self._named(called_step(answer) or _read(answer))
        except StepError:
            self._dialogue.append(Message("assistant", answer.text[: self._limits.observation_chars]))
            raise
        call = ToolCall(step.tool, json.dumps(step.args, ensure_ascii=False))
        self._dialogue.append(Message("assistant", step.as_text(), call=call))
        return step

    def _offered(self) -> list[dict[str, Any]]:
        """Return the tools of the next step; an answer that needs evidence cannot come before it."""
        if self._needs_evidence and not self._has_evidence:
            return [schema for name, schema in self._schemas.items() if name != FINISH]
        return list(self._schemas.values())

    @property
    def _has_evidence(self) -> bool:
        return any(observed.result.ok for observed in self._result.steps)

    async def _ask(self, tools: Sequence[Mapping[str, Any]] = ()) -> Answer:
        """Ask for a step, without tools for the answer; with as much of the dialogue as the context takes.

        Raises NoAnswer, and TimeoutError where the time of the run is over.
        """
        while True:
            remaining_s = self._deadline - self._clock()
            if remaining_s <= 0:
                raise TimeoutError
            try:
                async with asyncio.timeout(remaining_s):
                    return await self._asks(
                        self._messages(),
                        schema=step_schema(tools) if tools else _CONCLUSION,
                        max_tokens=self._limits.step_tokens,
                        tools=[ToolSpec(**tool) for tool in tools],
                    )
            except NoAnswer as refused:
                exceeded = any(a.fault == FaultKind.CONTEXT_EXCEEDED.value for a in refused.attempts)
                if not exceeded or self._room_chars <= _LEAST_ROOM_CHARS:
                    raise
                self._room_chars //= 2
                self._result.notes.append("the context of the model is small: older results were shortened")

    def _named(self, step: AgentStep) -> AgentStep:
        """Return the step with a tool that exists; a name that is nearly one is corrected."""
        if step.tool in self._schemas:
            return step
        near = difflib.get_close_matches(step.tool, list(self._schemas), n=1, cutoff=_NEAR)
        if near and "name" not in self._nudged:
            self._nudged.add("name")
            return AgentStep(step.thought, near[0], step.args)
        raise StepError(f"there is no tool {step.tool!r}; there are: {', '.join(self._schemas)}")

    async def _act(self, step: AgentStep) -> bool:
        """Make a step; False where the model goes round in circles."""
        same = [observed for observed in self._result.steps if observed.step.key == step.key]
        if len(same) >= _MAX_SAME_CALLS:
            self._result.notes.append(f"{step.tool} was called again and again with the same arguments")
            return False
        self._on_step(step)
        began = self._clock()
        if same:
            known = same[0].result.text
            result = ToolResult(f"You made this call already. Use its result or finish:\n{known}", ok=False)
        else:
            result = await self._called(step)
        observed = Observed(step, result, self._clock() - began)
        self._result.steps.append(observed)
        self._on_observed(observed)
        self._say(f"Result of {step.tool}:\n{head_and_tail(result.text, self._limits.observation_chars)}")
        return True

    async def _called(self, step: AgentStep) -> ToolResult:
        """Call the tool of a step. Raises NeedsApproval where a person did not allow it."""
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": step.tool}
        with span(f"execute_tool {step.tool}", kind=SpanKind.INTERNAL, attributes=attributes) as stage:
            context: dict[str, Any] = {
                "correlation_id": correlation_id.get(),
                "step": len(self._result.steps) + 1,
            }
            try:
                result = await self._tools.call(step.tool, step.args, **context)
            except NeedsApproval as needed:
                decision = await self._approve(needed)
                needed.denied = decision is False
                if not decision:
                    raise
                result = await self._tools.call(step.tool, step.args, approved=needed.argv, **context)
            if not result.ok:
                stage.fail("tool_error")
            return result

    def _finished(self, answer: str) -> LoopResult | None:
        """Take an answer; None after a nudge that asks for a better one."""
        problem = self._problem(answer)
        if problem is None:
            return self._end(RunEnding.FINISHED, answer)
        ending, text = problem
        if ending in self._nudged:
            return self._end(ending, why=text)
        self._nudged.add(ending)
        self._say(f"{text[0].upper()}{text[1:]}.")
        return None

    def _problem(self, answer: str) -> tuple[RunEnding, str] | None:
        """Return why an answer is none."""
        if self._needs_evidence and not self._has_evidence:
            return RunEnding.NO_EVIDENCE, "no tool has shown anything yet: use one before you answer"
        texts = [observed.result.text for observed in self._result.steps if observed.result.ok]
        if problem := answer_problem(answer, self._asked, texts if self._needs_evidence else None):
            return problem
        shown, said = "\n".join(texts), sentences(answer) if self._word_for_word else []
        if self._needs_evidence and not all(supported(part, shown, self._asked) for part in said):
            return RunEnding.UNGROUNDED, "no line of the results says so: copy the line that answers the goal"
        for observed in self._result.steps:
            path, lines = str(observed.step.args.get("path")), observed.result.lines
            if strays(self._asked, path, lines, answer):
                return RunEnding.UNGROUNDED, f"no line of {path} with what was asked about says so"
        return None

    async def _concluded(self) -> LoopResult:
        """Ask for the best answer from what was gathered, with no tool on offer."""
        if self._needs_evidence and not self._has_evidence:
            return self._end(RunEnding.NO_EVIDENCE, why="nothing was found out that could answer the goal")
        self._say(prompt("conclude"))
        self._deadline = max(self._deadline, self._clock() + self._limits.conclusion_s)
        try:
            asked = await self._ask()
            answer = str(read_object(asked.text).get("answer") or "")
        except TimeoutError:
            return self._end(RunEnding.TIME, why="the model gave no answer in time")
        except StepError as error:
            if asked.mode is not StepMode.NATIVE:
                return self._end(RunEnding.FORMAT, why=str(error))
            answer = asked.text
        if (problem := self._problem(answer)) is not None:
            return self._end(problem[0], why=problem[1])
        return self._end(RunEnding.CONCLUDED, answer)

    def _end(self, ending: RunEnding, answer: str = "", why: str = "") -> LoopResult:
        self._result.ending, self._result.answer, self._result.why = ending, answer, why
        return self._result

    def _say(self, text: str) -> None:
        """Say something to the model; after a call it is what came of it."""
        call = self._dialogue[-1].call if self._dialogue else None
        self._dialogue.append(Message("user", text, result_of=call.name if call else None))

    def _messages(self) -> list[Message]:
        """The rules, the goal and the dialogue; where that is too long, the oldest results are shortened."""
        rules = Message("system", act_prompt(list(self._schemas.values())))
        dialogue = list(self._dialogue)
        room = self._room_chars - len(self._goal)
        for number, message in enumerate(dialogue[:-2]):
            if sum(len(other.content) for other in dialogue) <= room:
                break
            dialogue[number] = replace(message, content=head_and_tail(message.content, 300))
        return [rules, *self._history, Message("user", self._goal), *dialogue]


def answer_problem(answer: str, goal: str, texts: Sequence[str] | None) -> tuple[RunEnding, str] | None:
    """Return why an answer is none. `texts` are the results that it must rest on; None where it need not."""
    if (verdict := judge(answer, (goal,))) is not None:
        return RunEnding.BAD_ANSWER, f"the answer is {verdict.value}: answer the goal itself"
    if texts is not None and (why := ungrounded(answer, goal, texts)):
        return RunEnding.UNGROUNDED, f"{why}: answer from the results only"
    return None


def called_step(answer: Answer) -> AgentStep | None:
    """Return the step that came as a call of a function, where the server speaks so."""
    if not answer.tool_calls:
        return None
    call = answer.tool_calls[0]
    arguments = read_object(call.arguments) if call.arguments.strip() not in ("", "{}") else {}
    return AgentStep(answer.text.strip()[:300], call.name, arguments)


def _read(answer: Answer) -> AgentStep:
    """Return the step in a text; plain words of a model that was offered functions are its answer."""
    try:
        return read_step(answer.text)
    except StepError:
        if answer.mode is not StepMode.NATIVE or "{" in answer.text:
            raise
        return AgentStep("", FINISH, {"answer": without_thinking(answer.text).strip()})


def head_and_tail(text: str, limit: int) -> str:
    """Return a text of at most about `limit` characters: its beginning and its end."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    return f"{text[:head]}\n... {len(text) - limit} characters left out ...\n{text[-tail:]}"
