"""What the model calls and steps of one run may cost together, whichever method makes them."""

import time
from collections.abc import Callable, Sequence

from opskit.agent.run_state import RunLimits
from opskit.llm.answer import Answer, Attempt, NoAnswer
from opskit.records import replace

#: A step takes up to three answers until its format is right; plan, nudges and conclusion come on top.
_CALLS_PER_STEP, _MORE_CALLS = 3, 8
#: The part of the time that steps may take: the answer comes out of what remains.
_STEPS_SHARE = 0.8
_CHARS_PER_TOKEN = 3


class BudgetSpentError(NoAnswer):
    """The run has reached one of its limits: no model is asked any more."""

    def __init__(self, limit: str) -> None:
        super().__init__(
            "GEN_001",
            f"the run reached its limit of {limit}",
            remedy="ask for less at once, or choose a method that costs less: `--method react`",
        )


class RunBudget:
    """The limits of one run and what remains of them. `clock` is monotonic seconds."""

    def __init__(self, limits: RunLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._deadline = clock() + limits.wall_s
        self._calls = self._most_calls = limits.steps * _CALLS_PER_STEP + _MORE_CALLS
        self._tokens = self._calls * limits.step_tokens
        self._steps = limits.steps

    def take(self, max_tokens: int, spare: int = 0) -> int:
        """Take one call and return how many tokens it may have. Raises BudgetSpentError.

        `spare` calls, with their tokens and the last part of the time, must remain for what comes after it.
        """
        end = self._deadline - (self.limits.wall_s * (1 - _STEPS_SHARE) if spare else 0.0)
        tokens = self._tokens - spare * self.limits.step_tokens
        for spent, limit in (
            (self._clock() >= end, f"{self.limits.wall_s:g} s"),
            (self._calls <= spare, f"{self._most_calls} model calls"),
            (tokens < 1, f"{self._most_calls * self.limits.step_tokens} tokens"),
        ):
            if spent:
                raise BudgetSpentError(limit)
        self._calls -= 1
        granted = min(max_tokens, tokens)
        self._tokens -= granted
        return granted

    def settle(self, granted: int, attempts: Sequence[Attempt], answer: Answer | None = None) -> None:
        """Give back the tokens that an answer did not need, and the time in which models were loaded."""
        self._deadline += sum(attempt.load_s or 0.0 for attempt in attempts)
        if answer is not None:
            used = answer.usage.completion_tokens or len(answer.text) // _CHARS_PER_TOKEN
            self._tokens += max(0, granted - used)

    def for_steps(self) -> RunLimits:
        """Return the limits of steps with tools. Raises BudgetSpentError where none is left."""
        if self._steps < 1:
            raise BudgetSpentError(f"{self.limits.steps} steps")
        wall_s = max(0.0, self._deadline - self._clock()) * _STEPS_SHARE
        return replace(self.limits, steps=self._steps, wall_s=wall_s)

    def took_steps(self, count: int) -> None:
        self._steps -= count
