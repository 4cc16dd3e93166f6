"""One question to a model."""

from opskit.agent.loop import LoopResult
from opskit.agent.methods.caller import CallOptions
from opskit.agent.methods.method import MethodGoal, MethodRun
from opskit.agent.prompt import prompt


class Simple:
    """Asks for a part of a goal. A whole goal of this method is asked by the engine, as it stands."""

    def __init__(self, run: MethodRun) -> None:
        self._run = run

    async def solve(self, goal: MethodGoal) -> LoopResult:
        text = await self._run.ask.text(
            prompt("answer"), goal.described(), goal.text, goal.history, CallOptions(is_final=True)
        )
        return goal.ended(text)
