"""A provider that plays a script: for tests of routing, and for measuring what the router itself costs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from opskit.providers.base import CallError, ChatRequest, End, Event, ModelInfo, Resident, Token


@dataclass(frozen=True, slots=True)
class Pause:
    """A silence of so many seconds; infinite when None."""

    seconds: float | None = None


Step = Event | Pause | CallError
Script = Sequence[Step]


def says(text: str, *, reason: str = "stop") -> Script:
    """The script of a plain answer."""
    return (Token(text), End(reason))


class Scripted:
    """Holds models, each with the scripts of its next answers; the last script repeats."""

    flavour = "scripted"

    def __init__(
        self,
        scripts: Mapping[str, Sequence[Script]],
        *,
        resident: Sequence[str] | None = None,
        sizes: Mapping[str, int] | None = None,
        load: Mapping[str, Script] | None = None,
    ) -> None:
        self._scripts = {model: list(answers) for model, answers in scripts.items()}
        self._resident = set(self._scripts if resident is None else resident)
        self._sizes = dict(sizes or {})
        self._load = dict(load or {})
        self.loads_on_demand = True
        self.calls: list[ChatRequest] = []
        self.loads: list[str] = []

    async def version(self) -> str:
        return "scripted"

    async def models(self) -> tuple[ModelInfo, ...]:
        return tuple(ModelInfo(name, size_bytes=self._sizes.get(name)) for name in self._scripts)

    async def resident(self) -> tuple[Resident, ...]:
        return tuple(Resident(name) for name in self._scripts if name in self._resident)

    async def load(self, model: str, *, num_ctx: int | None = None) -> None:  # noqa: ARG002 - part of the protocol
        self.loads.append(model)
        async for _ in _play(self._load.get(model, ())):
            pass
        self._resident.add(model)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        self.calls.append(request)
        answers = self._scripts[request.model]
        script = answers.pop(0) if len(answers) > 1 else answers[0]
        async for event in _play(script):
            yield event

    async def aclose(self) -> None:
        """Nothing to give back."""


async def _play(script: Script) -> AsyncIterator[Event]:
    for step in script:
        if isinstance(step, Pause):
            if step.seconds is None:
                await asyncio.Event().wait()
            else:
                await asyncio.sleep(step.seconds)
        elif isinstance(step, CallError):
            raise step
        else:
            yield step
