"""The loop of the agent: think, act, observe, until it finishes or a limit ends it.

Built for small local models, which repeat a call, forget the format, invent tools, answer without a look, and
lose the beginning of a long prompt in silence.
"""

import asyncio
import difflib
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opskit.agent.grounding import lacks_time, sentences, supported, ungrounded
from opskit.agent.prompt import act_prompt, prompt
from opskit.agent.quoting import (
    compared,
    direct_answer,
    first_steps,
    lines_asked,
    strays,
    summary,
    summary_source,
)
from opskit.agent.run_state import Checkpoint, LoopResult, Observed, RunEnding, RunLimits, RunListener
from opskit.agent.step import AgentStep, StepError, object_schema, read_answer, read_object, step_schema
from opskit.agent.tools.tool import FINISH, NeedsApproval, ToolResult
from opskit.llm.answer import Answer, NoAnswer
from opskit.llm.faults import FaultKind
from opskit.llm.profile import StepMode
from opskit.llm.verdict import judge
from opskit.providers.base import Message, ToolCall, ToolSpec
from opskit.records import replace
from opskit.tags import correlation_id
from opskit.text import counted
from opskit.trace.span import SpanKind, span

if TYPE_CHECKING:
    from opskit.agent.methods.caller import ModelCaller
    from opskit.agent.tools.toolbox import Toolbox

#: Consecutive answers that are no step end the run.
_MAX_FORMAT_ERRORS = 3
#: The same call again is answered from what is known; once more ends the looking.
_MAX_SAME_CALLS = 2
_NEAR = 0.6
#: A dialogue that is shortened below this is none.
_LEAST_ROOM_CHARS = 1000
_SUMMARY_TOKENS = 160
_CONCLUSION = object_schema(answer={"type": "string", "maxLength": 4000})


class AgentLoop:
    """One run. `needs_evidence` means that an answer without a look at anything is none, `word_for_word` that
    each sentence of an answer must say what one line of the results says: a small model puts words together.
    """

    def __init__(
        self,
        asks: "ModelCaller",
        tools: "Toolbox",
        limits: RunLimits,
        *,
        needs_evidence: bool,
        word_for_word: bool = False,
        listener: RunListener | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asks = asks
        self._tools = tools
        self._schemas = {schema["name"]: schema for schema in tools.schemas()}
        self._limits = limits
        self._needs_evidence = needs_evidence
        self._word_for_word = word_for_word
        self._listener = listener or RunListener()
        self._clock = clock
        self._state = Checkpoint(room_chars=limits.context_chars)

    async def run(self, goal: str, plan: Sequence[str] = (), history: Sequence[Message] = ()) -> LoopResult:
        """Work until an end. Raises what asking a model raises, NoAnswer above all.

        `history` are the lines of the conversation before the goal.
        """
        self._state.history, self._state.asked = tuple(history), goal
        steps = "".join(f"\n{number}. {step}" for number, step in enumerate(plan, 1))
        self._state.goal = f"Goal: {goal}" + (f"\nPlan:{steps}" if steps else "")
        self._deadline = self._clock() + self._limits.wall_s
        answered = await self._answered_by_what_is_named(goal)
        return answered or await self._work(None)

    async def resume(self, checkpoint: Checkpoint) -> LoopResult:
        """Go on from a checkpoint, with the step that waited. Raises what `run` raises."""
        self._state = checkpoint
        self._deadline = self._clock() + self._limits.wall_s
        return await self._work(checkpoint.step)

    async def _work(self, pending: AgentStep | None) -> LoopResult:
        """Make steps until an end, the one that is `pending` first."""
        format_errors = 0
        while len(self._state.steps) < self._limits.steps:
            try:
                step, pending = pending or await self._next_step(), None
            except TimeoutError:
                self._state.notes.append(f"ended after {self._limits.wall_s:g} s")
                break
            except StepError as error:
                format_errors += 1
                if format_errors == _MAX_FORMAT_ERRORS:
                    self._state.notes.append(f"{counted(format_errors, 'answer')} in a row were no step")
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
        why = f"`{command}` needs the approval of a person: {needed.why} (rule {needed.rule})"
        result = self._end(RunEnding.NEEDS_APPROVAL, why=why)
        result.needed, result.checkpoint = needed, replace(self._state, step=step)
        return result

    async def _answered_by_what_is_named(self, goal: str) -> LoopResult | None:
        """Look at what the goal names; None where what is seen does not answer it by itself."""
        for step in first_steps(goal) if self._needs_evidence else ():
            if step.tool not in self._schemas:
                continue
            try:
                await self._act(step)
            except NeedsApproval:
                continue  # a step of the model may ask for it
            result = self._state.steps[-1].result
            if (answer := direct_answer(goal, step, result)) is not None:
                return self._end(RunEnding.FINISHED, answer)
            if (source := summary_source(goal, step, result)) is not None:
                return self._end(
                    RunEnding.FINISHED, await self._summarised(goal, str(step.args["path"]), source)
                )
        seen = [(observed.step, observed.result) for observed in self._state.steps]
        answer = compared(goal, seen)
        return None if answer is None else self._end(RunEnding.FINISHED, answer)

    async def _summarised(self, goal: str, path: str, source: str) -> str:
        messages = (Message("system", prompt("summarise")), Message("user", f"{source}\n\nGoal: {goal}"))
        written = ""
        try:
            asked = await self._in_time(messages, schema=_CONCLUSION, max_tokens=_SUMMARY_TOKENS)
            written = str(read_object(asked.text).get("answer") or "")
        except (NoAnswer, StepError, TimeoutError) as error:
            why = str(error) or f"ended after {self._limits.wall_s:g} s"
            self._state.notes.append(f"no model wrote a summary: {why}")
        answer, is_written = summary(goal, path, source, written)
        if not is_written:
            self._state.notes.append(
                "the sentences are quoted: no summary of a model says just what they say"
            )
        return answer

    async def _in_time(self, messages: Sequence[Message], **options: Any) -> Answer:
        """Ask a model. Raises NoAnswer, and TimeoutError where the time of the run is over."""
        remaining_s = self._deadline - self._clock()
        if remaining_s <= 0:
            raise TimeoutError
        async with asyncio.timeout(remaining_s):
            return await self._asks(messages, **options)

    async def _next_step(self) -> AgentStep:
        """Ask for a step whose tool and arguments are right. Raises StepError."""
        answer = await self._ask(self._offered())
        if answer.prompt_cut is not None and "cut" not in self._state.nudged:
            self._state.nudged.add("cut")
            self._state.notes.append(answer.prompt_cut.text)
        try:
            step = self._named(read_answer(answer))
        except StepError:
            self._state.dialogue.append(Message("assistant", answer.text[: self._limits.observation_chars]))
            raise
        call = ToolCall(step.tool, json.dumps(step.args, ensure_ascii=False))
        self._state.dialogue.append(Message("assistant", step.as_text(), call=call))
        return step

    def _offered(self) -> list[dict[str, Any]]:
        """Return the tools of the next step; an answer that needs evidence cannot come before it."""
        if self._needs_evidence and not self._has_evidence:
            return [schema for name, schema in self._schemas.items() if name != FINISH]
        return list(self._schemas.values())

    @property
    def _has_evidence(self) -> bool:
        return any(observed.result.ok for observed in self._state.steps)

    async def _ask(self, tools: Sequence[Mapping[str, Any]] = ()) -> Answer:
        """Ask for a step, without tools for the answer; with as much of the dialogue as the context takes.

        Raises NoAnswer, and TimeoutError where the time of the run is over.
        """
        while True:
            try:
                return await self._in_time(
                    self._messages(),
                    schema=step_schema(tools) if tools else _CONCLUSION,
                    max_tokens=self._limits.step_tokens,
                    tools=[ToolSpec(**tool) for tool in tools],
                )
            except NoAnswer as refused:
                exceeded = any(a.fault == FaultKind.CONTEXT_EXCEEDED.value for a in refused.attempts)
                if not exceeded or self._state.room_chars <= _LEAST_ROOM_CHARS:
                    raise
                self._state.room_chars //= 2
                self._state.notes.append("the context of the model is small: older results were shortened")

    def _named(self, step: AgentStep) -> AgentStep:
        """Return the step with a tool that exists; a name that is nearly one is corrected."""
        if step.tool in self._schemas:
            return step
        near = difflib.get_close_matches(step.tool, list(self._schemas), n=1, cutoff=_NEAR)
        if near and "name" not in self._state.nudged:
            self._state.nudged.add("name")
            return AgentStep(step.thought, near[0], step.args)
        raise StepError(f"there is no tool {step.tool!r}; there are: {', '.join(self._schemas)}")

    async def _act(self, step: AgentStep) -> bool:
        """Make a step; False where the model goes round in circles."""
        same = [observed for observed in self._state.steps if observed.step.key == step.key]
        if len(same) >= _MAX_SAME_CALLS:
            self._state.notes.append(f"{step.tool} was called again and again with the same arguments")
            return False
        self._listener.on_step(step)
        began = self._clock()
        if same:
            known = same[0].result.text
            result = ToolResult(f"You made this call already. Use its result or finish:\n{known}", ok=False)
        else:
            result = await self._called(step)
        observed = Observed(step, result, self._clock() - began)
        self._state.steps.append(observed)
        self._listener.on_observed(observed)
        self._say(f"Result of {step.tool}:\n{head_and_tail(result.text, self._limits.observation_chars)}")
        return True

    async def _called(self, step: AgentStep) -> ToolResult:
        """Call the tool of a step. Raises NeedsApproval where a person did not allow it."""
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": step.tool}
        with span(f"execute_tool {step.tool}", kind=SpanKind.INTERNAL, attributes=attributes) as stage:
            context: dict[str, Any] = {
                "correlation_id": correlation_id.get(),
                "step": len(self._state.steps) + 1,
            }
            try:
                result = await self._tools.call(step.tool, step.args, **context)
            except NeedsApproval as needed:
                decision = await self._listener.approve(needed)
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
        ending, why, advice = problem
        if ending in self._state.nudged:
            return self._end(ending, why=why)
        self._state.nudged.add(ending)
        self._say(f"{why[0].upper()}{why[1:]}{f': {advice}' if advice else ''}.")
        return None

    def _problem(self, answer: str) -> tuple[RunEnding, str, str] | None:
        """Return why an answer is none, and what to tell the model then."""
        if self._needs_evidence and not self._has_evidence:
            return RunEnding.NO_EVIDENCE, "no tool has shown anything yet", "use one before you answer"
        texts = [observed.result.text for observed in self._state.steps if observed.result.ok]
        if problem := answer_problem(answer, self._state.asked, texts if self._needs_evidence else None):
            return problem
        asked, said = self._state.asked, sentences(answer) if self._word_for_word else []
        shown = [
            line
            for observed in self._state.steps
            if observed.result.ok
            for line in self._lines_asked(observed)
        ]
        if self._needs_evidence and not all(supported(part, "\n".join(shown), asked) for part in said):
            return (
                RunEnding.UNGROUNDED,
                "no line of the results says so",
                "copy the line that answers the goal",
            )
        for observed in self._state.steps:
            path, lines = str(observed.step.args.get("path")), observed.result.lines
            if strays(asked, path, lines, answer):
                return RunEnding.UNGROUNDED, f"no line of {path} with what was asked about says so", ""
        return None

    def _lines_asked(self, observed: Observed) -> list[str]:
        """Return what a step has shown of what is asked about; all of it where it was no file."""
        path, lines = observed.step.args.get("path"), observed.result.lines
        return lines_asked(self._state.asked, str(path), lines) if path and lines else [observed.result.text]

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
        return LoopResult(ending, answer, why, self._state.steps, self._state.notes)

    def _say(self, text: str) -> None:
        """Say something to the model; after a call it is what came of it."""
        call = self._state.dialogue[-1].call if self._state.dialogue else None
        self._state.dialogue.append(Message("user", text, result_of=call.name if call else None))

    def _messages(self) -> list[Message]:
        """The rules, the goal and the dialogue; where that is too long, the oldest results are shortened."""
        rules = Message("system", act_prompt(list(self._schemas.values())))
        dialogue = list(self._state.dialogue)
        room = self._state.room_chars - len(self._state.goal)
        for number, message in enumerate(dialogue[:-2]):
            if sum(len(other.content) for other in dialogue) <= room:
                break
            dialogue[number] = replace(message, content=head_and_tail(message.content, 300))
        return [rules, *self._state.history, Message("user", self._state.goal), *dialogue]


def answer_problem(answer: str, goal: str, texts: Sequence[str] | None) -> tuple[RunEnding, str, str] | None:
    """Return why an answer is none, and what to tell the model then.

    `texts` are the results that it must rest on; None where it need not.
    """
    if (verdict := judge(answer, (goal,))) is not None:
        return RunEnding.BAD_ANSWER, f"the answer is {verdict.value}", "answer the goal itself"
    if texts is not None and (why := ungrounded(answer, goal, texts)):
        return RunEnding.UNGROUNDED, why, "answer from the results only"
    if texts is not None and lacks_time(answer, goal):
        return RunEnding.UNGROUNDED, "the answer does not say when", "answer with the time from the results"
    return None


def head_and_tail(text: str, limit: int) -> str:
    """Return a text of at most about `limit` characters: its beginning and its end."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    return f"{text[:head]}\n... {len(text) - limit} characters left out ...\n{text[-tail:]}"
