"""Victoria: chooses a method for a goal, runs it, and answers for what comes of it."""

import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from opskit.agent.evidence import CheckStack, evidence_tools, stack_report
from opskit.agent.loop import LoopResult, Observed, RunEnding, RunLimits, never
from opskit.agent.method import about_stack, method_of
from opskit.agent.methods.budget import RunBudget
from opskit.agent.methods.caller import ModelCaller
from opskit.agent.methods.method import MethodGoal, MethodRun
from opskit.agent.methods.react import ReAct
from opskit.agent.step import AgentStep
from opskit.agent.tools.tool import NeedsApproval
from opskit.agent.tools.toolbox import toolbox
from opskit.agent.trajectory import Trajectory
from opskit.app import App
from opskit.engine import Goal, RunFailed, Solution
from opskit.errors import OpskitError
from opskit.llm.answer import NoAnswer, Session
from opskit.llm.plan import ModelRequest


class Victoria:
    """Works on goals that need more than one question to a model; the engine answers the others."""

    def __init__(
        self,
        app: App,
        *,
        limits: RunLimits | None = None,
        on_step: Callable[[AgentStep], None] = lambda _: None,
        on_observed: Callable[[Observed], None] = lambda _: None,
        on_note: Callable[[str], None] = lambda _: None,
        approve: Callable[[NeedsApproval], Awaitable[bool]] = never,
    ) -> None:
        self._app = app
        self._approve = approve
        self._limits = limits or RunLimits()
        self._on_step = on_step
        self._on_observed = on_observed
        self._on_note = on_note

    async def solve(
        self, goal: Goal, category: str, identifier: str, session: Session | None
    ) -> Solution | None:
        """Return what a run came to; None for a goal that one question answers.

        Raises RunFailed where there is no honest answer.
        """
        method = method_of(goal.text) if goal.method == "auto" else goal.method
        if method == "simple":
            return None
        ask = ModelCaller(
            self._app,
            ModelRequest(model=goal.model or self._app.config.victoria_model, category=category),
            session or Session(),
            goal.strict_context,
            RunBudget(self._limits),
        )
        began = time.monotonic()
        trajectory = Trajectory(Path(self._app.folder), identifier)
        trajectory.write("goal", text=goal.text, method=method)
        tools = toolbox(
            self._app.config,
            self._app.environ,
            Path(self._app.folder),
            self._on_note,
            evidence_tools(self._app),
        )
        try:
            react = ReAct(
                MethodRun(ask, trajectory),
                tools,
                approve=self._approve,
                on_step=self._on_step,
                on_observed=self._on_observed,
            )
            result = await react.solve(MethodGoal(goal.text, goal.history))
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
            return await self._reported(refused.message, ask)
        except BaseException as error:
            trajectory.write("end", ending="interrupted", why=type(error).__name__)
            raise
        finally:
            trajectory.close()
            tools.close()
        if not result.ok and result.ending is not RunEnding.NEEDS_APPROVAL and about_stack(goal.text):
            return await self._reported(result.why or result.ending.value, ask, result.steps)
        if not result.ok:
            problem = _problem(result)
            raise RunFailed(
                problem, attempts=ask.attempts, correlation_id=identifier, seconds=time.monotonic() - began
            )
        return self._solution(result, ask)

    async def _reported(self, why: str, ask: ModelCaller, steps: Sequence[Observed] = ()) -> Solution:
        """Answer a goal about the stack without a model, by what was found out; the answer says so."""
        shown = {step.step.tool: step.result.text for step in steps if step.result.ok}
        report = shown.pop(CheckStack.name, None) or await stack_report(self._app)
        parts = [f"No model gave an honest answer ({why}). This is what `opskit doctor` finds:", report]
        for name, text in shown.items():
            parts += [f"{name}:", text]
        text = "\n".join(parts)
        return Solution(text, "doctor", "none", "opskit", tuple(ask.attempts), ())

    def _solution(self, result: LoopResult, ask: ModelCaller) -> Solution:
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
        return Solution(
            result.answer,
            "react",
            answered.model if answered else "none",
            answered.node if answered else "opskit",
            tuple(ask.attempts),
            tuple(steps),
            tuple(notes),
        )


def _problem(result: LoopResult) -> OpskitError:
    """Return why a run has no answer."""
    if result.ending is RunEnding.NEEDS_APPROVAL:
        return OpskitError(
            "GEN_001",
            result.why,
            remedy="run the command yourself, or allow it by `agent.policy.allow` in opskit.yaml",
        )
    return OpskitError("GEN_001", f"no honest answer: {result.why or result.ending.value}")
