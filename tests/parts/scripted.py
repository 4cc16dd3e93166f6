"""A provider that plays a script: for tests of routing, and for measuring what the router itself costs."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass

from opskit.providers.base import (
    CallCause,
    CallError,
    ChatRequest,
    End,
    Event,
    ModelInfo,
    Provider,
    Resident,
    Token,
)
from opskit.providers.kinds import ServerKind
from opskit.records import replace

SCRIPTED = ServerKind(name="scripted", label="scripted", phrase="a scripted provider")


@dataclass(frozen=True, slots=True)
class Pause:
    """A silence of so many seconds; infinite when None."""

    seconds: float | None = None


Step = Event | Pause | CallError
Script = Sequence[Step]


def says(text: str, *, reason: str = "stop") -> Script:
    """The script of a plain answer."""
    return (Token(text), End(reason))


class Scripted(Provider):
    """Holds models, each with the scripts of its next answers; the last script repeats.

    `listing`, `residency` and `health` are played before `models`, `resident` and `version` answer, `load`
    before a model is loaded; all may be replaced at any time. `resident` None: everything is loaded;
    `tells_residency` False: the server cannot say what is. `contexts` are the context lengths that models are
    loaded with. `loads`, `calls`, `listed` and `looked` tell what
    was asked of it.
    """

    def __init__(
        self,
        scripts: Mapping[str, Sequence[Script]],
        *,
        resident: Collection[str] | None = None,
        sizes: Mapping[str, int] | None = None,
        load: Mapping[str, Script] | None = None,
        cloud: Collection[str] = (),
        contexts: Mapping[str, int] | None = None,
        kind: ServerKind = SCRIPTED,
        loads_on_demand: bool = True,
        tells_residency: bool = True,
    ) -> None:
        self._scripts = {model: list(answers) for model, answers in scripts.items()}
        self._sizes = dict(sizes or {})
        self._load = dict(load or {})
        self._cloud = frozenset(cloud)
        self._contexts = dict(contexts or {})
        self._tells_residency = tells_residency
        self.loaded = set(self._scripts if resident is None else resident)
        self.kind = replace(kind, loads_on_demand=loads_on_demand)
        self.listing: Script = ()
        self.residency: Script = ()
        self.health: Script = ()
        self.calls: list[ChatRequest] = []
        self.loads: list[str] = []
        self.listed = 0
        self.looked = 0

    async def version(self) -> str:
        await _play_out(self.health)
        return "scripted"

    async def models(self) -> tuple[ModelInfo, ...]:
        self.listed += 1
        await _play_out(self.listing)
        return tuple(
            ModelInfo(name, size_bytes=self._sizes.get(name), cloud=name in self._cloud)
            for name in self._scripts
        )

    async def resident(self) -> tuple[Resident, ...] | None:
        self.looked += 1
        await _play_out(self.residency)
        if not self._tells_residency:
            return None
        return tuple(
            Resident(name, self._sizes.get(name), context_length=self._contexts.get(name))
            for name in self._scripts
            if name in self.loaded
        )

    async def load(self, model: str, *, num_ctx: int | None = None) -> None:
        self.loads.append(model)
        await _play_out(self._load.get(model, ()))
        self.loaded.add(model)
        if num_ctx is not None:
            self._contexts[model] = num_ctx

    async def unload(self, model: str) -> None:
        self.loaded.discard(model)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        self.calls.append(request)
        answers = self._scripts.get(request.model)
        if answers is None:
            raise CallError(CallCause.STATUS, f"model {request.model!r} not found", status=404)
        script = answers.pop(0) if len(answers) > 1 else answers[0]
        async with contextlib.aclosing(_play(script)) as events:
            async for event in events:
                yield event


async def _play(script: Script) -> AsyncGenerator[Event, None]:
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


async def _play_out(script: Script) -> None:
    async for _ in _play(script):
        pass
