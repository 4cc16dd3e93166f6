"""One question to a model."""

from opskit.agent.loop import LoopResult
from opskit.agent.methods.caller import ModelCaller
from opskit.agent.methods.method import MethodGoal


class Simple:
    """Asks a part of a goal. A whole goal of this method is asked by the engine, as it stands."""

    def __init__(self, ask: ModelCaller) -> None:
        self._ask = ask

    async def solve(self, goal: MethodGoal) -> LoopResult:
        return goal.ended(await self._ask.text("answer", goal))
