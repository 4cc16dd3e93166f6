"""ReAct: understand, plan and execute in steps with tools; the first two only for goals of several parts."""

from opskit.agent.fact import only_small_models
from opskit.agent.loop import AgentLoop
from opskit.agent.methods.caller import MethodGoal, ModelCaller
from opskit.agent.prompt import prompt
from opskit.agent.run_state import Checkpoint, LoopResult, Observed, RunListener
from opskit.agent.step import AgentStep, object_schema
from opskit.agent.tools.toolbox import Toolbox
from opskit.llm.wording import has_parts
from opskit.records import replace
from opskit.trace.span import span

_UNDERSTOOD = object_schema(
    restated={"type": "string", "maxLength": 400},
    category={"enum": ["simple", "investigate", "multi_step"]},
    first_step={"type": "string", "maxLength": 200},
)


async def react(
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
