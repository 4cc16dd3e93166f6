"""One run of recovery, from the lock to the summary."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opskit.config.load import ensure_state_dir
from opskit.config.schema import Config
from opskit.errors import Exit, OpskitError, StateError
from opskit.facts.agent import read_agent
from opskit.facts.container_survey import EVENTS_FACT
from opskit.facts.survey import Survey
from opskit.providers.agent import LEVELS
from opskit.records import Record, replace
from opskit.recovery import hands_off
from opskit.recovery.executor import executing
from opskit.recovery.outcome import STATE_STEP, Outcome, RecoveryRun, RepairResult
from opskit.recovery.reconciler import Reconciler, chosen
from opskit.recovery.step import RecoveryContext, Step, recovery_context
from opskit.text import counted

if TYPE_CHECKING:
    from opskit.facts.survey import Survey

#: More than the memory of recovery takes, with the events of Docker: a run must not fail in its middle.
_ROOM_BYTES = 512 * 1024
_UNREMEMBERED = "nothing is remembered in this run, and a container is started once an hour at most"
Steps = Callable[[RecoveryContext], Sequence[Step]]


def all_steps(context: RecoveryContext) -> Sequence[Step]:
    """Return the steps of this stack in the order of SPEC B12; nothing is looked at yet."""
    from opskit.recovery.steps.compose_project import compose_projects
    from opskit.recovery.steps.docker_daemon import docker_daemon, docker_network
    from opskit.recovery.steps.network import internet, wifi
    from opskit.recovery.steps.servers import agents, nodes

    steps = [
        wifi(context),
        internet(context),
        docker_daemon(context),
        docker_network(context),
        *compose_projects(context),
        *nodes(context),
        *agents(context),
    ]
    return [step for step in steps if step is not None]


class RecoverOptions(Record):
    """What a run may do. `only` are names of steps, or of families of them such as `compose`.

    `now` repairs also what people stopped, took down or edited just now; pauses hold all the same.
    """

    dry: bool = False
    only: tuple[str, ...] = ()
    budget_s: float | None = None
    now: bool = False


async def recover(
    survey: "Survey",
    options: RecoverOptions,
    *,
    platform: str,
    config: Config | None = None,
    steps: Steps = all_steps,
    note: Callable[[str], None] = lambda _text: None,
    clock: Callable[[], float] = time.time,
) -> RecoveryRun:
    """Look at everything, repair what may be repaired, remember it, notify people.

    `config` has the rules, by default the survey's. Raises OpskitError RECOVER_001 when another run
    holds the lock (at once), RECOVER_002 for an unknown name in `only`, StateError when state cannot be read
    or written.
    """
    from opskit.recovery.notifier import NoticesBeside, Notifier

    folder = survey.state_folder
    unwritable: StateError | None = None
    try:
        ensure_state_dir(folder, _ROOM_BYTES)
    except StateError as error:
        unwritable = error
        note(f"{unwritable.code}: {unwritable.message}; {_UNREMEMBERED}")

    config, environ = config or survey.config, survey.environ
    if options.now:
        config = replace(config, recovery=replace(config.recovery, hands_off_s=0.0))
    async with executing(
        config,
        environ,
        folder,
        source="recover",
        dry=options.dry,
        clock=clock,
        note=note,
        is_lasting=unwritable is None,
    ) as executor:
        memory = executor.memory
        notifier = Notifier(config.notices, memory, environ, platform, clock, note)
        beside = NoticesBeside(notifier, config.notices.timeout_s)
        if not options.dry:
            executor.notify = beside
        context = await recovery_context(survey, config, memory, clock, platform)
        known = steps(context)
        reconciler = Reconciler(known, executor, only=chosen(known, options.only))
        if not options.dry:
            beside.begin(executor.run_id)
        try:
            run = await reconciler.run(budget_s=options.budget_s or config.recovery.budget_s)
        except BaseException:
            await beside.end(0.0)
            raise
        if run.mutations and EVENTS_FACT in memory.facts:
            # What people did while the run lasted, before Docker forgets it.
            with contextlib.suppress(OpskitError):
                await hands_off.read_events(context, ())
        if unwritable is not None:
            state = Outcome(
                STATE_STEP,
                str(folder),
                RepairResult.MANUAL,
                "unwritable",
                f"{unwritable.message}; {_UNREMEMBERED}",
                remedy=unwritable.remedy,
                code=unwritable.code,
            )
            run = replace(run, outcomes=[state, *run.outcomes])
            await executor.notify_person(state)
        if not options.dry:
            await beside.end()
            memory.remember(run)
            memory.save()
            content = run.as_memory()
            shown = {name: content[name] for name in ("seconds", "exit", "counts", "mutations")}
            executor.write("run_ended", **shown)
            await notifier.ping_end(executor.run_id, int(run.exit()), summary(run))
    return run


def summary(run: RecoveryRun) -> str:
    lines = [f"{outcome.target}: {outcome.result.value} {outcome.cause}".rstrip() for outcome in run.outcomes]
    counts = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in run.counts.items())
    return "\n".join([f"{counts}; {counted(run.mutations, 'command')} in {run.seconds:.1f} s", *lines])


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
    from opskit.recovery.steps.servers import agent_step

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
