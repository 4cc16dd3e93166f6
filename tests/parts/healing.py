"""Recovery steps through the real healer, in a state folder of their own."""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from opskit.config.load import load
from opskit.config.schema import Config
from opskit.facts.survey import Survey
from opskit.records import replace
from opskit.recovery.audit import Audit
from opskit.recovery.command_runner import CommandRunner
from opskit.recovery.executor import Executor
from opskit.recovery.memory import Memory
from opskit.recovery.notice import Notice
from opskit.recovery.outcome import Outcome, RecoveryRun
from opskit.recovery.reconciler import Reconciler
from opskit.recovery.step import RecoveryContext, Step, recovery_context
from tests.parts.command import environment

#: Nothing is young, and the next repair may follow at once.
AT_ONCE = {"startup_grace_s": 0.0, "load_grace_s": 0.0, "step_s": 30.0, "backoff_s": 0.001}
QUICK = {"http_s": 1.0, "first_token_s": 1.0, "slow_first_token_s": 0.9, "slow_http_s": 0.9}


def written(folder: Path, content: Mapping[str, Any]) -> Path:
    """A configuration file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "opskit.yaml"
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False))
    return path


def configured(folder: Path, content: Mapping[str, Any], env: Mapping[str, str] | None = None) -> Config:
    """That configuration, with the rules of `AT_ONCE` and `QUICK`; those of recovery are not validated."""
    path = written(folder, {name: value for name, value in content.items() if name != "recovery"})
    loaded = load(str(path), environ=environment(folder, env), cwd=folder, in_docker=False).config
    recovery = replace(loaded.recovery, **{**AT_ONCE, **content.get("recovery", {})})
    return replace(loaded, recovery=recovery, probe=replace(loaded.probe, **QUICK))


@dataclass
class Healing:
    """What one machine remembers, and the runs over it."""

    folder: Path
    config: Config
    environ: dict[str, str]
    platform: str = "linux"
    clock: Callable[[], float] = time.time
    notices: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.memory = Memory(self.folder / "recovery.json")
        self.runner = CommandRunner(self.folder, self.environ)

    @asynccontextmanager
    async def context(self) -> AsyncIterator[RecoveryContext]:
        folder = self.folder
        async with Survey(self.config, self.environ, state_folder=folder, cwd=folder) as survey:
            yield await recovery_context(survey, self.config, self.memory, self.clock, self.platform)

    async def run(
        self,
        steps: Callable[[RecoveryContext], Sequence[Step]],
        *,
        dry: bool = False,
        budget_s: float = 120.0,
    ) -> RecoveryRun:
        async def tell(notice: Notice) -> None:
            self.notices.append(notice)

        audit = None if dry else Audit(self.folder, self.config.log)
        try:
            async with self.context() as context:
                executor = Executor(
                    self.config.recovery,
                    self.folder,
                    self.memory,
                    runner=self.runner,
                    audit=audit,
                    notify=tell,
                    run_id="run-1",
                    clock=self.clock,
                )
                return await Reconciler(list(steps(context)), executor).run(budget_s=budget_s)
        finally:
            if audit is not None:
                audit.close()


def outcome(run: RecoveryRun, target: str) -> Outcome:
    return next(one for one in run.outcomes if one.target == target)


def machine(home: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a run: a real PATH, a home of its own, and nothing of the person who tests."""
    home.mkdir(parents=True, exist_ok=True)
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **(env or {})}
