"""A goal as a method gets it, and what a method is."""

from collections.abc import Awaitable, Callable

from opskit.agent.loop import answer_problem
from opskit.agent.method import about_machine
from opskit.agent.run_state import LoopResult, RunEnding
from opskit.providers.base import Message
from opskit.records import Record


class MethodGoal(Record):
    """A goal as a method gets it. `history` are the lines of the conversation before it.

    `results` are what tools have shown for it, `draft` an answer that rests on them. `hint` may help to find
    the way, and is never evidence.
    """

    text: str
    history: tuple[Message, ...] = ()
    results: tuple[str, ...] = ()
    draft: str = ""
    hint: str = ""

    @property
    def needs_evidence(self) -> bool:
        """Whether an answer without a look at this machine is none."""
        return about_machine(self.text)

    def described(self, *parts: tuple[str, str]) -> str:
        """Return the goal with its results, its hint and further titled parts, for a prompt."""
        hints = [("Hint, which may be outdated", self.hint)] if self.hint else []
        results = [("Result of a tool", text) for text in self.results]
        return "\n\n".join(
            f"{title}: {text}" for title, text in (("Goal", self.text), *results, *hints, *parts)
        )

    def ended(self, answer: str, notes: list[str] | None = None) -> LoopResult:
        """Return the end with this answer, or with why it is none."""
        problem = answer_problem(answer, self.text, self.results if self.needs_evidence else None)
        ending, why = problem or (RunEnding.FINISHED, "")
        return LoopResult(ending, "" if why else answer, why, notes=notes or [])


#: One way to work on a goal: to what it came to, or to why there is no honest answer. Raises NoAnswer.
Method = Callable[[MethodGoal], Awaitable[LoopResult]]
