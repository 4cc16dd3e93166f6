"""Victoria: chooses a method for a goal, runs it, and answers for what comes of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from opskit.agent.evidence import CheckStack, evidence_tools, stack_report
from opskit.agent.fact import FactSolver, only_small_models
from opskit.agent.grounding import sentences, supported
from opskit.agent.loop import Checkpoint, LoopResult, Observed, RunEnding, RunLimits, unattended
from opskit.agent.memory import AnswerMemory, KeptAnswer, cache_key
from opskit.agent.method import about_machine, about_stack, enhanced, method_of
from opskit.agent.methods.budget import RunBudget
from opskit.agent.methods.caller import ModelCaller
from opskit.agent.methods.consensus import Consensus
from opskit.agent.methods.extended_thinking import ExtendedThinking
from opskit.agent.methods.hierarchical import Hierarchical
from opskit.agent.methods.method import Method, MethodGoal
from opskit.agent.methods.react import ReAct
from opskit.agent.methods.swarm import Swarm
from opskit.agent.methods.tree_of_thoughts import TreeOfThoughts
from opskit.agent.step import AgentStep
from opskit.agent.suspension import RunSuspended
from opskit.agent.tools.tool import NeedsApproval
from opskit.agent.tools.toolbox import Toolbox, toolbox
from opskit.agent.trajectory import Trajectory
from opskit.app import App
from opskit.diagnose.known_secrets import of_config, of_variables
from opskit.diagnose.redaction import Redactor
from opskit.engine import Goal, RunFailed, RunResult
from opskit.errors import OpskitError
from opskit.llm.answer import NoAnswer, Session
from opskit.llm.category import goal_category
from opskit.llm.plan import ModelRequest
from opskit.records import replace


class Victoria:
    """Works on goals that need more than one question to a model; the engine answers the others.

    With a `checkpoint` it goes on with the run that stopped there.
    """

    def __init__(
        self,
        app: App,
        *,
        limits: RunLimits | None = None,
        on_step: Callable[[AgentStep], None] = lambda _: None,
        on_observed: Callable[[Observed], None] = lambda _: None,
        on_note: Callable[[str], None] = lambda _: None,
        approve: Callable[[NeedsApproval], Awaitable[bool | None]] = unattended,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._app = app
        self._approve = approve
        self._checkpoint = checkpoint
        self._limits = limits or RunLimits()
        self._on_step = on_step
        self._on_observed = on_observed
        self._on_note = on_note
        self._redactor: Redactor | None = None

    async def solve(
        self, goal: Goal, category: str, identifier: str, session: Session | None
    ) -> RunResult | None:
        """Return what a run came to; None for a goal that one question answers.

        Raises RunFailed where there is no honest answer.
        """
        method = goal.method if self._checkpoint is None else "react"
        if method == "auto":
            method = method_of(goal.text, enhanced=enhanced(self._app.environ))
        solution = None if self._checkpoint else await self._remembered(goal, method, identifier)
        if solution is not None:
            return solution
        if method == "simple":
            return await FactSolver(self._app).solve(goal, category, identifier, session)
        began = time.monotonic()
        trajectory = Trajectory(Path(self._app.folder), identifier)
        trajectory.write("goal", text=goal.text, method=method)
        ask = ModelCaller(
            self._app,
            ModelRequest(model=goal.model or self._app.config.victoria_model, category=category),
            session or Session(),
            goal.strict_context,
            RunBudget(self._limits),
            trajectory,
        )
        tools = toolbox(
            self._app.config,
            self._app.environ,
            Path(self._app.folder),
            self._on_note,
            evidence_tools(self._app),
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
                raise RunFailed(
                    refused,
                    attempts=ask.attempts,
                    correlation_id=identifier,
                    seconds=time.monotonic() - began,
                ) from refused
            return await self._reported(refused.message, ask, identifier)
        except BaseException as error:
            trajectory.write("end", ending="interrupted", why=type(error).__name__)
            raise
        finally:
            trajectory.close()
            tools.close()
        account: dict[str, Any] = {"attempts": ask.attempts, "correlation_id": identifier}
        account["seconds"] = time.monotonic() - began
        if result.needed is not None and result.checkpoint is not None:
            raise RunSuspended(result.why, result.needed, result.checkpoint, **account)
        if not result.ok and result.ending is not RunEnding.DENIED and about_stack(goal.text):
            return await self._reported(result.why or result.ending.value, ask, identifier, result.steps)
        if not result.ok:
            raise RunFailed(_problem(result), **account)
        return _solution(result, method, ask, identifier)

    async def keep(self, goal: Goal, result: RunResult) -> None:
        """Remember an answer that a model gave with certainty, where it was not remembered before."""
        is_certain = result.agreement in (None, 1.0) and result.prompt_cut is None
        if result.cached or result.method == "doctor" or not is_certain:
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
        react = ReAct(
            ask,
            tools,
            approve=self._approve,
            on_step=self._on_step,
            on_observed=self._on_observed,
            checkpoint=self._checkpoint,
        )
        methods: dict[str, Method] = {
            "react": react,
            "hierarchical": Hierarchical(ask, react),
            "extended_thinking": ExtendedThinking(ask),
            "consensus": Consensus(ask),
            "swarm": Swarm(ask, goal_category(goal.text)),
            "tree_of_thoughts": TreeOfThoughts(ask),
        }
        if name in ("react", "hierarchical") or not goal.needs_evidence:
            return await methods[name].solve(goal)
        shown = await react.solve(goal)
        if not shown.ok or ask.last is None:
            # What the tools answered by themselves is not to be thought over.
            return shown
        results = tuple(observed.result.text for observed in shown.steps)
        result = await methods[name].solve(replace(goal, results=results, draft=shown.answer, hint=""))
        says = all(supported(part, "\n".join(results), goal.text) for part in sentences(result.answer))
        if not says and await only_small_models(self._app, ask.request.model):
            return replace(shown, notes=[*shown.notes, f"{name} says what no line of the results says"])
        return replace(result, steps=shown.steps, notes=[*shown.notes, *result.notes])

    async def _remembered(self, goal: Goal, method: str, identifier: str) -> RunResult | None:
        """Return the answer that was given to the same goal a short time ago."""
        cache_s = self._cache_s(goal)
        if not goal.use_cache or not cache_s or goal.strict_context:
            return None
        answer = await asyncio.to_thread(self._memory().cached, self._key(goal, method), cache_s)
        if answer is None:
            return None
        note = f"the answer is {time.time() - answer.at:.0f} s old: the same goal was asked before"
        answered = (answer.output, method, answer.model, answer.node, identifier)
        return RunResult(*answered, 0.0, (), notes=(note,), cached=True)

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
        return AnswerMemory(Path(self._app.folder), self._redactor, self._on_note)

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
        self, why: str, ask: ModelCaller, identifier: str, steps: Sequence[Observed] = ()
    ) -> RunResult:
        """Answer a goal about the stack without a model, by what was found out; the answer says so."""
        shown = {step.step.tool: step.result.text for step in steps if step.result.ok}
        report = shown.pop(CheckStack.name, None) or await stack_report(self._app)
        parts = [f"No model gave an honest answer ({why}). This is what `opskit doctor` finds:", report]
        for name, text in shown.items():
            parts += [f"{name}:", text]
        text = "\n".join(parts)
        return RunResult(text, "doctor", "none", "opskit", identifier, 0.0, tuple(ask.attempts))


def _solution(result: LoopResult, method: str, ask: ModelCaller, identifier: str) -> RunResult:
    answered = ask.last
    steps = [
        {
            "tool": observed.step.tool,
            "args": dict(observed.step.args),
            "ok": observed.result.ok,
            "seconds": round(observed.seconds, 3),
        }
        for observed in result.steps
    ]
    notes = list(result.notes)
    if result.ending is RunEnding.CONCLUDED:
        notes.append("the answer is the best one from what was found out within the limits")
    return RunResult(
        result.answer,
        method,
        answered.model if answered else "none",
        answered.node if answered else "opskit",
        identifier,
        0.0,
        tuple(ask.attempts),
        steps=tuple(steps),
        notes=tuple(notes),
        agreement=result.agreement,
    )


def _problem(result: LoopResult) -> OpskitError:
    """Return why a run has no answer."""
    if result.ending is RunEnding.DENIED:
        return OpskitError("APPROVAL_002", result.why)
    return OpskitError("GEN_001", f"no honest answer: {result.why or result.ending.value}")
