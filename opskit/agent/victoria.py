"""Victoria: chooses a method for a goal, runs it, and answers for what comes of it."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from opskit.agent.evidence import CheckStack, evidence_tools, stack_report
from opskit.agent.fact import FactSolver, only_small_models
from opskit.agent.given_text import solve_given
from opskit.agent.grounding import sentences, supported
from opskit.agent.memory import AnswerMemory, KeptAnswer, cache_key
from opskit.agent.method import about_machine, about_stack, enhanced, method_of
from opskit.agent.methods.caller import MethodGoal, ModelCaller, RunBudget
from opskit.agent.methods.react import react
from opskit.agent.methods.thinking import consensus, extended_thinking, hierarchical, swarm, tree_of_thoughts
from opskit.agent.run_state import (
    Checkpoint,
    LoopResult,
    Observed,
    RunEnding,
    RunLimits,
    RunListener,
    RunSuspended,
)
from opskit.agent.tools.toolbox import Toolbox, toolbox
from opskit.agent.trajectory import Trajectory
from opskit.app import App
from opskit.diagnose.known_secrets import of_config, of_variables
from opskit.diagnose.redaction import Redactor
from opskit.engine.goal import HERE, NO_MODEL, Goal, GoalRun, RunResult
from opskit.errors import OpskitError
from opskit.llm.answer import NoAnswer, Session
from opskit.llm.plan import ModelRequest
from opskit.records import replace

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
            solution = await solve_given(app, run)
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
        look = partial(react, ask, tools=tools, listener=self._listener)
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
