"""What a model can do for an agent, as it was probed on its server, and how it is asked for a step."""

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from opskit.errors import StateError
from opskit.providers.base import ModelInfo
from opskit.providers.kinds import ServerKind
from opskit.records import Record, asdict

FOLDER_NAME = "profiles"


class StepMode(StrEnum):
    """How a model is asked for a step: under a schema, by functions that it may call, or by words alone."""

    SCHEMA = "schema"
    NATIVE = "native"
    TEXT = "text"


class Probe(Record, kw_only=True):
    """One question of a profile and what it cost; tokens are None where the server does not count them."""

    name: str
    outcome: str
    seconds: float
    prompt_tokens: int | None
    completion_tokens: int | None


class ModelProfile(Record, kw_only=True):
    """A model on a node; None means that it cannot be told.

    `identity` changes with the weights and the version of the server: then it is probed again. `read_tokens`
    is what the server read of the longest prompt; with `prompt_cut` that was not all. `load_s` is None where
    nothing had to be loaded.
    """

    node: str
    model: str
    identity: str
    probed_at: datetime
    enforces_schema: bool
    native_tools: bool
    tools_as_text: bool
    thinks: bool
    trained_context: int | None = None
    loaded_context: int | None = None
    read_tokens: int | None = None
    prompt_cut: bool = False
    load_s: float | None = None
    probes: tuple[Probe, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(probe.seconds for probe in self.probes)

    @property
    def real_context(self) -> int | None:
        """The tokens that a request really has: what was read of a prompt that was cut, else what is told."""
        return self.read_tokens if self.prompt_cut else self.loaded_context

    @property
    def mode(self) -> StepMode:
        """How the agent asks this model for a step."""
        return _mode(schema=self.enforces_schema, native=self.native_tools)

    def as_json(self) -> dict[str, Any]:
        times = {"probed_at": self.probed_at.isoformat(timespec="seconds"), "seconds": round(self.seconds, 4)}
        return {**asdict(self), **times, "real_context": self.real_context, "step_mode": self.mode.value}


def step_mode(kind: ServerKind, model: ModelInfo | None, profile: ModelProfile | None) -> StepMode:
    """Return how a model is asked for a step: by its profile where it was probed, else by what is told of it.

    A schema comes first where the server enforces it: on small models each step is then valid, while their
    calls of functions seldom are.
    """
    if profile is not None and (model is None or profile.identity == identity_of(kind, model)):
        return profile.mode
    cloud, capabilities = (False, None) if model is None else (model.cloud, model.capabilities)
    # Ollama passes a schema on to a model in the cloud, where nothing enforces it.
    return _mode(schema=kind.enforces_schema and not cloud, native="tools" in (capabilities or ()))


def _mode(*, schema: bool, native: bool) -> StepMode:
    return StepMode.SCHEMA if schema else StepMode.NATIVE if native else StepMode.TEXT


def identity_of(kind: ServerKind, model: ModelInfo) -> str:
    """Return what a profile is true of: the server's kind and version, the weights and their quantisation."""
    facts = (model.version, model.size_bytes, model.parameters, model.quantization, model.context_length)
    return " ".join(str(part) for part in (kind.name, *facts, *model.aliases) if part is not None)


class ProfileStore:
    """The profiles in the state folder, a file for each model of a node."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER_NAME

    def read(self, node: str, model: str) -> ModelProfile | None:
        """Return the last profile; None where there is none that can be read."""
        try:
            content = self._path(node, model).read_bytes()
        except OSError:
            return None
        try:
            return msgspec.json.decode(content, type=ModelProfile)
        except ValueError:
            return None

    def write(self, profile: ModelProfile) -> None:
        """Replace the profile of a model. Raises StateError."""
        from opskit.system.textfile import write_text

        path = self._path(profile.node, profile.model)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_text(path, json.dumps(asdict(profile), default=datetime.isoformat, indent=1), mode=0o600)
        except OSError as error:
            raise StateError.of(path, error) from error

    def _path(self, node: str, model: str) -> Path:
        digest = hashlib.sha256(f"{node} {model}".encode()).hexdigest()
        return self._folder / f"{digest[:32]}.json"
