"""The examination of one stack, and whether what was said is true."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.stacks.scene import scene
from tests.acceptance.stacks.stack import Stack
from tests.parts.command import Result
from tests.parts.plain_host import PlainHost


@dataclass(frozen=True, kw_only=True)
class Verdict:
    stack: Stack
    result: Result | None
    seconds: float
    error: str = ""
    """Why the stack could not be set up."""

    @property
    def causes(self) -> Sequence[Mapping[str, Any]]:
        if self.result is None or not self.result.out:
            return ()
        return self.result.document.get("causes", ())  # type: ignore[no-any-return]

    @property
    def missed(self) -> list[str]:
        return [
            wanted for wanted in self.stack.causes if not any(_is(cause, wanted) for cause in self.causes)
        ]

    @property
    def false(self) -> list[str]:
        """The causes that are none; what follows from a true one is no accusation."""
        true = (*self.stack.causes, *self.stack.also)
        keys = {cause["key"] for cause in self.causes if any(_is(cause, wanted) for wanted in true)}
        for cause in self.causes:
            if cause["follows_from"] in keys:
                keys.add(cause["key"])
        return [cause["key"] for cause in self.causes if cause["key"] not in keys]

    @property
    def silent(self) -> list[str]:
        """The words that a true cause should hold and none does."""
        texts = [
            str(cause) for cause in self.causes if any(_is(cause, wanted) for wanted in self.stack.causes)
        ]
        return [word for word in self.stack.words if not any(word in text for text in texts)]

    @property
    def right(self) -> bool:
        expected = (1,) if self.stack.causes else (0, 3)
        if self.result is None or self.error or self.result.status not in expected:
            return False
        return not (self.missed or self.false or self.silent)

    @property
    def explanation(self) -> str:
        """What is true, what was said, and what is wrong with it."""
        said = [f"{cause['key']}: {cause['title']} {list(cause['evidence'])}" for cause in self.causes]
        lines = [
            self.stack.story,
            f"true: {', '.join(self.stack.causes) or 'nothing is wrong'}",
            f"said: {'; '.join(said) or 'nothing is wrong'}",
            f"missed: {self.missed}; false: {self.false}; words that are missing: {self.silent}",
        ]
        if self.result is not None:
            lines.append(f"exit status {self.result.status}; stderr: {self.result.err[-2000:]}")
        return "\n".join([*lines, self.error])

    @property
    def row(self) -> dict[str, Any]:
        said = [cause["key"] for cause in self.causes]
        return {
            "stack": self.stack.name,
            "true": list(self.stack.causes),
            "said": said,
            "right": self.right,
            "seconds": round(self.seconds, 1),
            "explanation": self.explanation,
        }


def judged(stack: Stack, home: Path, parts: Mapping[str, Any], host: PlainHost) -> Verdict:
    """Set the stack up, run the doctor on it, and take it down."""
    began = time.monotonic()
    result, error = None, ""
    with scene(home, parts, host) as surroundings:
        steps = stack.setup(surroundings)
        try:
            next(steps)
            result = surroundings.doctor()
        except Exception as exc:
            error = f"the stack could not be set up: {type(exc).__name__}: {exc}"
        finally:
            steps.close()  # type: ignore[attr-defined]
    return Verdict(stack=stack, result=result, seconds=time.monotonic() - began, error=error)


def _is(cause: Mapping[str, Any], wanted: str) -> bool:
    return any(entry in (cause["id"], cause["key"]) for entry in wanted.split("|"))
