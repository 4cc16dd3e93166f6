"""`recover levels` (SPEC B12): Victoria's three levels; one that is off is brought back by one restart."""

from collections.abc import Callable, Mapping
from typing import Any

from opskit.errors import Exit, OpskitError
from opskit.facts.agent import read_agent
from opskit.facts.survey import Survey
from opskit.providers.agent import LEVELS
from opskit.records import Record, replace
from opskit.recovery.outcome import RecoveryRun
from opskit.recovery.run import RecoverOptions, recover
from opskit.recovery.steps.agents import agent_step


class Levels(Record):
    """`before` and `now` are what Victoria said of each level; None when she does not say."""

    run: RecoveryRun
    before: Mapping[str, bool] | None
    now: Mapping[str, bool] | None

    @property
    def exit(self) -> Exit:
        """That of the run; but 1 while a level is off, whatever the reason, and 3 when it is unknown."""
        if self.run.exit() is not Exit.OK:
            return self.run.exit()
        if self.now is None:
            return Exit.INCONCLUSIVE
        return Exit.OK if all(self.now.get(level) for level in LEVELS) else Exit.FAILED

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Each level, before and now, in words."""

        def word(levels: Mapping[str, bool] | None, level: str) -> str:
            return "not told" if levels is None else "on" if levels.get(level) else "off"

        return [(level, word(self.before, level), word(self.now, level)) for level in LEVELS]

    def as_json(self) -> dict[str, Any]:
        content = {**self.run.as_json(), "command": "recover levels"}
        content["levels"] = {"before": self.before, "now": self.now}
        return {**content, "ok": self.exit is Exit.OK, "exit": int(self.exit)}


async def levels(survey: "Survey", *, dry: bool, platform: str, note: Callable[[str], None]) -> Levels:
    """Look, restart `victoria-agent` if a level is off, and wait by her status until all are on.

    A person asked for it, so what recovery did before does not hold it back; pauses and the lock do. Raises
    OpskitError RECOVER_001, RECOVER_002 when no Victoria is configured, StateError.
    """
    config = survey.config
    agent = config.agent_named("victoria")
    if agent is None:
        problem = "there is no Victoria in the configuration"
        raise OpskitError("RECOVER_002", problem, remedy="set VICTORIA_URL")
    before = (await read_agent(survey, agent)).levels
    at_once = replace(config.recovery, backoff_s=0.001, backoff_max_s=0.001, retry_s=0.001)
    run = await recover(
        survey,
        RecoverOptions(dry=dry),
        config=replace(config, recovery=at_once),
        steps=lambda context: [agent_step(context, agent, all_levels=True)],
        platform=platform,
        note=note,
    )
    return Levels(run, before, (await read_agent(survey, agent)).levels if run.mutations else before)
