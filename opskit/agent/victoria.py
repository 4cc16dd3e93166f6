"""Victoria: chooses a method for a goal, runs it, and answers for what comes of it."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from opskit.agent.evidence import CheckStack, evidence_tools, stack_report
from opskit.agent.fact import FactSolver, only_small_models
from opskit.agent.grounding import YES_OR_NO, is_cyrillic, sentences, supported, ungrounded
from opskit.agent.loop import AgentLoop
from opskit.agent.memory import AnswerMemory, KeptAnswer, cache_key
from opskit.agent.method import about_machine, about_stack, enhanced, is_general, method_of
from opskit.agent.methods.caller import MethodGoal, ModelCaller, RunBudget
from opskit.agent.methods.thinking import consensus, extended_thinking, hierarchical, swarm, tree_of_thoughts
from opskit.agent.prompt import prompt
from opskit.agent.question import paths_named
from opskit.agent.quoting import direct_answer, lines_asked, look_at, summary, summary_source
from opskit.agent.run_state import (
    Checkpoint,
    LoopResult,
    Observed,
    RunEnding,
    RunLimits,
    RunListener,
    RunSuspended,
)
from opskit.agent.step import AgentStep, object_schema
from opskit.agent.tools.files import SearchFileArguments, searched
from opskit.agent.tools.tool import ToolResult
from opskit.agent.tools.toolbox import Toolbox, toolbox
from opskit.agent.trajectory import Trajectory
from opskit.app import App
from opskit.diagnose.known_secrets import of_config, of_variables
from opskit.diagnose.redaction import Redactor
from opskit.engine.goal import HERE, NO_MODEL, Goal, GoalRun, RunResult
from opskit.errors import OpskitError
from opskit.llm.answer import Ask, NoAnswer, Session
from opskit.llm.plan import ModelRequest
from opskit.llm.wording import has_parts, parted
from opskit.providers.base import Message
from opskit.records import replace
from opskit.trace.span import span

#: The method of an answer that an examination gives instead of a model.
_DOCTOR = "doctor"
#: Methods that only think: what is asked about this machine is looked up by `react` before.
_THINKING = {
    "extended_thinking": extended_thinking,
    "consensus": consensus,
    "swarm": swarm,
    "tree_of_thoughts": tree_of_thoughts,
}


class Victoria:
    """Works on goals that need more than one question to a model; the engine answers the others.

    With a `checkpoint` it goes on with the run that stopped there.
    """

    def __init__(
        self,
        app: App,
        limits: RunLimits | None = None,
        listener: RunListener | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._app = app
        self._limits = limits or RunLimits()
        self._listener = listener or RunListener()
        self._checkpoint = checkpoint
        self._redactor: Redactor | None = None

    async def solve(self, run: GoalRun) -> RunResult | None:
        """Return what a run came to; None for a goal that one question answers.

        Raises RunFailed where there is no honest answer.
        """
        goal, app = run.goal, self._app
        method = goal.method
        if self._checkpoint is not None:
            method = "hierarchical" if self._checkpoint.parts else "react"
        if method == "auto":
            method = method_of(goal.text, enhanced=enhanced(app.environ))
        solution = None if self._checkpoint else await self._remembered(run, method)
        if solution is not None:
            return solution
        if goal.method == "auto" and self._checkpoint is None:
            solution = await _solve_given(app, run)
            if solution is not None:
                return solution
        if method == "simple":
            return await FactSolver(app).solve(run)
        trajectory = Trajectory(Path(app.folder), run.identifier)
        trajectory.write("goal", text=goal.text, method=method)
        ask = ModelCaller(
            app,
            ModelRequest(model=goal.model or app.config.victoria_model, category=run.category),
            run.session or Session(),
            goal.strict_context,
            RunBudget(self._limits),
            trajectory,
        )
        tools = toolbox(
            app.config, app.environ, Path(app.folder), self._listener.on_note, evidence_tools(app)
        )
        try:
            given = MethodGoal(goal.text, goal.history, hint=await self._hint(goal))
            result = await self._worked_on(method, given, ask, tools)
            trajectory.write(
                "end", ending=result.ending.value, answer=result.answer, why=result.why, notes=result.notes
            )
        except NoAnswer as refused:
            trajectory.write("end", ending="no_answer", why=refused.message)
            if not about_stack(goal.text):
                raise run.failure(refused, ask.attempts) from refused
            return await self._reported(run, refused.message, ask)
        except BaseException as error:
            trajectory.write("end", ending="interrupted", why=type(error).__name__)
            raise
        finally:
            trajectory.close()
            tools.close()
        if result.ok:
            return _solution(run, result, method, ask)
        if result.needed is not None and result.checkpoint is not None:
            account = run.account(ask.attempts)
            raise RunSuspended(result.why, result.needed, result.checkpoint, **account)
        if result.ending is RunEnding.DENIED:
            raise run.failure(OpskitError("APPROVAL_002", result.why), ask.attempts)
        why = result.why or result.ending.value
        if about_stack(goal.text):
            return await self._reported(run, why, ask, result.steps)
        remedy = (
            f"ask a larger model (--model NAME); `opskit trace {run.identifier[:8]}` shows what was tried"
        )
        raise run.failure(OpskitError("GEN_001", f"no honest answer: {why}", remedy=remedy), ask.attempts)

    async def keep(self, goal: Goal, result: RunResult) -> None:
        """Remember an answer that a model gave with certainty, where it was not remembered before."""
        is_certain = result.agreement in (None, 1.0) and result.prompt_cut is None
        if result.cached or result.method == _DOCTOR or not is_certain:
            return
        answer = KeptAnswer(
            time.time(),
            goal.text,
            result.output,
            result.method,
            result.model,
            result.node,
            [{"tool": step["tool"], "args": step["args"]} for step in result.steps if step["ok"]],
        )
        # What tools did or saw is not so the next time.
        key = self._key(goal, result.method) if self._cache_s(goal) and not result.steps else None
        await asyncio.to_thread(self._memory().keep, self._project(goal), key, answer)

    async def _worked_on(self, name: str, goal: MethodGoal, ask: ModelCaller, tools: Toolbox) -> LoopResult:
        """Work on a goal by a method. One that only thinks gets its evidence by `react` first."""
        look = partial(_react, ask, tools=tools, listener=self._listener)
        if name == "hierarchical":
            return await hierarchical(ask, goal, look, self._checkpoint)
        think = _THINKING.get(name)
        if think is not None and not goal.needs_evidence:
            return await think(ask, goal)
        shown = await look(goal, checkpoint=self._checkpoint)
        if think is None or not shown.ok or ask.last is None:
            # What the tools answered by themselves is not to be thought over.
            return shown
        results = tuple(observed.result.text for observed in shown.steps)
        result = await think(ask, replace(goal, results=results, draft=shown.answer, hint=""))
        says = all(supported(part, "\n".join(results), goal.text) for part in sentences(result.answer))
        if not says and await only_small_models(self._app, ask.request.model):
            return replace(shown, notes=[*shown.notes, f"{name} says what no line of the results says"])
        return replace(result, steps=shown.steps, notes=[*shown.notes, *result.notes])

    async def _remembered(self, run: GoalRun, method: str) -> RunResult | None:
        """Return the answer that was given to the same goal a short time ago."""
        goal, cache_s = run.goal, self._cache_s(run.goal)
        if not goal.use_cache or not cache_s or goal.strict_context:
            return None
        answer = await asyncio.to_thread(self._memory().cached, self._key(goal, method), cache_s)
        if answer is None:
            return None
        note = f"the answer is {time.time() - answer.at:.0f} s old: the same goal was asked before"
        return run.result(answer.output, method, answer.model, answer.node, notes=(note,), cached=True)

    async def _hint(self, goal: Goal) -> str:
        """Return what helped with a similar goal; who asks the very same again wants another view of it."""
        answer = await asyncio.to_thread(self._memory().similar, self._project(goal), goal.text)
        is_about_machine = about_machine(goal.text)
        if answer is None or (answer.goal == goal.text and not is_about_machine):
            return ""
        return answer.as_hint(about_machine=is_about_machine)

    def _memory(self) -> AnswerMemory:
        if self._redactor is None:
            self._redactor = Redactor(of_config(self._app.config) | of_variables(self._app.environ))
        return AnswerMemory(Path(self._app.folder), self._redactor, self._listener.on_note)

    def _project(self, goal: Goal) -> str:
        return goal.project or self._app.config.agent.main_project

    def _cache_s(self, goal: Goal) -> float | None:
        agent = self._app.config.agent
        return agent.machine_cache_s if about_machine(goal.text) else agent.cache_s

    def _key(self, goal: Goal, method: str) -> str:
        model = goal.model or self._app.config.victoria_model
        lines = [(line.role, line.content) for line in goal.history]
        return cache_key(self._project(goal), method, model, goal.category, goal.text, lines)

    async def _reported(
        self, run: GoalRun, why: str, ask: ModelCaller, steps: Sequence[Observed] = ()
    ) -> RunResult:
        """Answer a goal about the stack without a model, by what was found out; the answer says so."""
        shown = {step.step.tool: step.result.text for step in steps if step.result.ok}
        report = shown.pop(CheckStack.name, None) or await stack_report(self._app)
        parts = [f"No model gave an honest answer ({why}). This is what `opskit doctor` finds:", report]
        for name, text in shown.items():
            parts += [f"{name}:", text]
        return run.result("\n".join(parts), _DOCTOR, NO_MODEL, HERE, ask.attempts)


def _solution(run: GoalRun, result: LoopResult, method: str, ask: ModelCaller) -> RunResult:
    notes = list(result.notes)
    if result.ending is RunEnding.CONCLUDED:
        notes.append("the answer is the best one from what was found out within the limits")
    model, node = (ask.last.model, ask.last.node) if ask.last else (NO_MODEL, HERE)
    steps = tuple(observed.as_json() for observed in result.steps)
    more = {"steps": steps, "notes": tuple(notes), "agreement": result.agreement}
    return run.result(result.answer, method, model, node, ask.attempts, **more)


_UNDERSTOOD = object_schema(
    restated={"type": "string", "maxLength": 400},
    category={"enum": ["simple", "investigate", "multi_step"]},
    first_step={"type": "string", "maxLength": 200},
)


async def _react(
    ask: ModelCaller, goal: MethodGoal, tools: Toolbox, listener: RunListener, checkpoint: Checkpoint | None
) -> LoopResult:
    """Work in steps until an end or a limit, from a `checkpoint` where there is one. Raises NoAnswer."""
    write, budget = ask.trajectory.write, ask.budget
    plan = [goal.hint] if goal.hint else []
    if checkpoint is None and has_parts(goal.text):
        plan += await _plan(ask, goal.text, tools)

    def on_step(step: AgentStep) -> None:
        write("step", thought=step.thought, tool=step.tool, args=step.args)
        listener.on_step(step)

    def on_observed(observed: Observed) -> None:
        seconds, text = round(observed.seconds, 3), observed.result.text[:20_000]
        write("observation", tool=observed.step.tool, ok=observed.result.ok, seconds=seconds, text=text)
        listener.on_observed(observed)

    loop = AgentLoop(
        ask,
        tools,
        budget.for_steps(),
        needs_evidence=goal.needs_evidence,
        word_for_word=await only_small_models(ask.app, ask.request.model),
        listener=replace(listener, on_step=on_step, on_observed=on_observed),
    )
    with span("execute"):
        if checkpoint is None:
            result = await loop.run(goal.text, plan, goal.history)
        else:
            result = await loop.resume(checkpoint)
    budget.took_steps(len(result.steps))
    return result


async def _plan(ask: ModelCaller, goal: str, tools: Toolbox) -> list[str]:
    with span("understand"):
        understood = await ask.object(prompt("understand"), f"Goal: {goal}", _UNDERSTOOD)
    ask.trajectory.write("understood", **understood)
    with span("plan"):
        rules = prompt("plan", tools=", ".join(tools.tools))
        restated = str(understood.get("restated") or goal)
        plan = await ask.texts(rules, restated, "steps", least=1, most=2) or []
    ask.trajectory.write("plan", steps=plan)
    return plan


_GIVEN_LINES = 200


async def _solve_given(app: App, run: GoalRun) -> RunResult | None:
    """Answer out of the text below a goal, as `cat LOG | opskit run "..."` gives it: it is the evidence.

    None where it has none, and where a model may be believed: a small one only in what one line of the text
    says. Raises RunFailed.
    """
    goal, (question, text) = run.goal, parted(run.goal.text)
    if not text or paths_named(question):
        return None
    place = "текст" if is_cyrillic(question) else "the text"
    step, result = _look(question, place, text)
    if (answer := direct_answer(question, step, result)) is not None:
        return run.result(answer, "simple", NO_MODEL, HERE)
    name = goal.model or app.config.victoria_model
    # One line may say how the answer is to be, and is no evidence.
    is_evidence = len(text.splitlines()) > 1 and not is_general(question)
    if not is_evidence or not await only_small_models(app, name):
        return None
    ask = Ask((*goal.history, Message("user", goal.text)), ModelRequest(model=name, category=run.category))
    try:
        said = await app.router.chat(ask, run.session)
    except NoAnswer as refused:
        raise run.failure(refused, refused.attempts, refused.partial) from refused
    written, notes = said.text, list[str]()
    if summary_source(question, step, result) is not None:
        written, is_written = summary(question, place, text, written)
        notes += [] if is_written else ["the sentences are quoted: no summary of a model says just this"]
    elif YES_OR_NO.match(question) or not _is_said(question, place, written, result):
        why = f"no honest answer: no line of the text says what {said.model} says"
        raise run.failure(
            OpskitError(
                "GEN_001", why, remedy="ask a larger model with --model NAME, or for a line of the text"
            ),
            said.attempts,
        )
    answered = (written, "simple", said.model, said.node, said.attempts)
    return run.result(*answered, prompt_cut=said.prompt_cut, notes=tuple(notes))


def _look(question: str, place: str, text: str) -> tuple[AgentStep, ToolResult]:
    """Return the look at the text that suits the question."""
    step = look_at(question, place)
    if step.tool == "search_file":
        return step, searched(text.encode(), place, SearchFileArguments(**step.args), _GIVEN_LINES)
    read = ToolResult(text, evidence={"path": place}, lines=tuple(enumerate(text.splitlines(), 1)))
    return AgentStep(step.thought, "read_file", {"path": place}), read


def _is_said(question: str, place: str, answer: str, result: ToolResult) -> bool:
    asked = "\n".join(lines_asked(question, place, result.lines))
    return ungrounded(answer, question, [result.text]) is None and all(
        supported(part, asked, question) for part in sentences(answer)
    )
