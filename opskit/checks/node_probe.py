"""The probe of one model node: tcp, http, models listed, model resident, first token (ops facts 0.1).

A probe does no harm: it asks only a resident model, for one token, by the rules of `opskit.llm.one_token`.
Nothing is loaded or swapped unless asked for.
"""

import asyncio
import math
import time
from functools import partial
from typing import NoReturn

from opskit.checks.node_assessment import assess_fit
from opskit.checks.probe_record import NodeProbe, ProbeEnded, ProbeOptions
from opskit.checks.probe_token import FirstToken, ask_for_answer, ask_for_token
from opskit.checks.remedies import stranger_remedy, unload_remedy
from opskit.checks.runner_assessment import (
    RunnerAssessment,
    assess_long_silence,
    assess_runner,
    assess_unlisted,
    assess_unserved,
)
from opskit.checks.state import SILENT_LIST, NodeState, state_of
from opskit.config.schema import Config, NodeConfig
from opskit.facts.node import NodeFacts, ReadingStep, read_node, with_contents
from opskit.facts.runner import known_weights, read_again, read_runners
from opskit.facts.survey import Survey
from opskit.llm.faults import SERVER_IS_WELL, classify, fault_remedy
from opskit.llm.fit import GIB, Fit, gib
from opskit.llm.loads import load_budget_s
from opskit.llm.one_token import is_overdue, may_be_asked
from opskit.providers.base import DEFAULT_MODEL, CallCause, CallError, ModelInfo, Provider, Resident
from opskit.providers.kinds import ServerKind
from opskit.providers.node import read_contents
from opskit.records import MutableRecord, replace
from opskit.result import Status
from opskit.system.host import available_memory_bytes, is_loopback
from opskit.text import listing

#: Weights of models that are loaded on one machine are hardly larger.
_LARGEST_BYTES = 60 * GIB
#: Between two readings of a runner that works, and of one that nobody seems to ask.
_RUNNER_AGAIN_S = 0.1
_UNSERVED_AGAIN_S = 0.2
#: So long a runner that is busy may show nothing that moves.
_RUNNER_STILL_S = 1.8
#: A question that gets no token for so long is looked after; so many readings in a row must agree.
_UNSERVED_S = 1.5
_UNSERVED_READINGS = 3


async def probe_node(survey: Survey, config: NodeConfig, options: ProbeOptions) -> NodeProbe:
    """Probe a node as far as it goes; where it ended and why. Never raises for what the server does."""
    began = time.monotonic()
    probe = NodeProbe(config=config, options=options, facts=NodeFacts(config=config))
    probing = _Probing(survey, probe)
    limit = limit_s(survey.config, may_load=options.load or options.model is not None)
    try:
        async with asyncio.timeout(limit):
            probe.state, probe.detail = await probing.run()
    except ProbeEnded:
        probing.blame_model()
    except TimeoutError:
        probe.state, probe.detail = NodeState.WEDGED, f"the probe was ended after {limit:.0f} s"
        probe.remedy = probe.fault = None
    problem = probe.facts.address_problem
    if problem is not None and probe.facts.error is None:
        probe.detail = f"{problem.detail}; {probe.detail}"
    if probe.state in (NodeState.WEDGED, NodeState.FAILING):
        probe.kept = await probing.kept()
    probe.seconds = time.monotonic() - began
    return probe


def limit_s(config: Config, *, may_load: bool = False) -> float:
    """Return the seconds within which a probe has ended by itself.

    Every probe has room for a load: a request may turn into one, and a server that loads is not left.
    """
    asking_s = 2 * config.probe.http_s + 2 * config.probe.first_token_s + config.probe.cycle_s
    loads_s = load_budget_s(config.budgets, _LARGEST_BYTES)
    return asking_s + loads_s * (2 if may_load else 1)


class _Probing(MutableRecord):
    survey: Survey
    probe: NodeProbe
    load_options: tuple[tuple[str, int], ...] = ()
    #: The model that is loaded or asked: a request that fails now is its fault, or that of the request.
    asked: str | None = None

    @property
    def config(self) -> NodeConfig:
        return self.probe.config

    async def run(self) -> tuple[NodeState, str]:
        """The state and its reason at the end of all stages. Raises ProbeEnded where one ends the probe."""
        whole = self.survey.config
        self.probe.facts = await self.survey.get(read_node, self.config, not_before=time.monotonic())
        await self._judge_facts()
        provider = await self.survey.node(self.config).provider()
        chosen = await self._choose(provider)
        with self.survey.probe_lock(self.config.name) as mine:
            if not mine:
                detail = "another probe is asking this node just now"
                self.probe.end(NodeState.BUSY, detail, stage="first token", status=Status.SKIP)
            weights = await self._judge_runner(chosen)
            # With other options Ollama would load the model again for this question.
            chosen = replace(chosen, load_options=self.load_options)
            self.asked = chosen.name
            state, detail, self.probe.first_token_s = await self._ask(provider, chosen, weights)
            self.probe.model = chosen.name
            if self.probe.options.goal is not None:
                # The direct model test of SPEC A5: a whole answer without Victoria, judged like any answer.
                await ask_for_answer(self.probe, provider, chosen, whole, self.probe.options.goal)
        http_s = self.probe.facts.http_s
        if http_s > whole.probe.slow_http_s and state is NodeState.OK:
            return NodeState.SLOW, f"its health page took {http_s:.1f} s; {detail}"
        return state, detail

    async def _judge_runner(self, chosen: Resident) -> str | None:
        """Look at the process that serves the model, where there is one; return the file of its weights.

        Raises ProbeEnded where that shows what a token would only show after a long wait.
        """
        if not self._has_runners or self.probe.loaded is not None:
            return None
        weights = await known_weights(self.survey, self.config, chosen.name)
        first = await read_runners(self.survey, self.config)
        if first.server is None:
            return weights
        own = first.of(weights)
        self.load_options = () if own is None else own.process.load_options
        began, seconds = time.monotonic(), 0.0
        assessment = assess_runner(chosen.name, weights, first, first, seconds)
        # What moves works, which is seen at once; what stands still is given the time of a batch.
        while assessment is not None and assessment.needs_time and seconds < _RUNNER_STILL_S:
            await asyncio.sleep(_RUNNER_AGAIN_S)
            last = await read_again(first, weights)
            seconds = time.monotonic() - began
            assessment = assess_runner(chosen.name, weights, first, last, seconds)
        if assessment is None and is_overdue(chosen):
            assessment = await self._judge_unserved(chosen.name, weights)
        if assessment is not None:
            await self._end_at_runner(chosen.name, assessment, seconds)
        return weights

    async def _ask(self, provider: Provider, chosen: Resident, weights: str | None) -> FirstToken:
        """Ask for a token; a runner that stays idle meanwhile shows that the server hangs."""
        question = asyncio.create_task(
            ask_for_token(
                self.probe,
                provider,
                chosen,
                self.survey.config,
                loads_at_start=self.probe.loaded is not None and not provider.kind.loads_on_demand,
                on_left=partial(self.survey.note_left, self.config, chosen.name),
            )
        )
        watch = asyncio.create_task(self._watch_runner(chosen, weights))
        try:
            await asyncio.wait({question, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not question.done() and (assessment := watch.result()) is not None:
                await self._end_at_runner(chosen.name, assessment, _UNSERVED_S)
            return await question
        finally:
            for task in (question, watch):
                task.cancel()
            await asyncio.gather(question, watch, return_exceptions=True)

    async def _watch_runner(self, chosen: Resident, weights: str | None) -> RunnerAssessment | None:
        """Wait until the runner of the model that was asked proves to be left out; None where it does not."""
        await asyncio.sleep(_UNSERVED_S)
        while self._has_runners and self.probe.loaded is None:
            assessment = await self._judge_unserved(chosen.name, weights)
            if assessment is None or assessment.state is NodeState.WEDGED:
                return assessment
            await asyncio.sleep(_RUNNER_AGAIN_S)
        return None

    async def _judge_unserved(self, model: str, weights: str | None) -> RunnerAssessment | None:
        """Return what it means that a request waits; between two requests a runner is idle for a moment."""
        assessment, slots = None, None
        for reading in range(_UNSERVED_READINGS):
            runners = await read_runners(self.survey, self.config)
            assessment, own = assess_unserved(model, weights, runners), runners.of(weights)
            if assessment is None or assessment.state is not NodeState.WEDGED or own is None:
                return assessment
            if reading and own.slots != slots:
                return None
            slots = own.slots
            await asyncio.sleep(_UNSERVED_AGAIN_S)
        return assessment

    async def kept(self) -> ServerKind:
        """Return the kind of server as the process on its port is kept; what that needs is imported now."""
        from opskit.checks.upkeep import kept, read_upkeep

        return kept(self.probe.facts.likely_kind, await read_upkeep(self.survey, self.config.url))

    @property
    def _has_runners(self) -> bool:
        return self.probe.facts.likely_kind.runs_model_processes and is_loopback(self.config.url)

    async def _end_at_runner(self, model: str, assessment: RunnerAssessment, seconds: float) -> NoReturn:
        wedged = assessment.state is NodeState.WEDGED
        self.probe.runner, remedy = assessment, assessment.remedy
        if assessment.scheduler and model in (resident.name for resident in self.probe.facts.resident):
            self.probe.model = model
        if wedged and remedy is None:
            remedy = unload_remedy(await self.kept(), model, self.config.url)
        self.probe.end(
            assessment.state,
            assessment.detail,
            stage="runner",
            seconds=seconds,
            status=Status.FAIL if wedged else Status.SKIP,
            remedy=remedy,
        )

    async def _judge_facts(self) -> None:
        """The stages that cost the server nothing: tcp, http, models, resident. Raises ProbeEnded."""
        facts, probe = self.probe.facts, self.probe
        if facts.address_problem is not None and facts.error is not None and facts.tcp is not None:
            probe.end_at_address(facts.address_problem, facts.error, facts.tcp, facts.http_s)
        if facts.tcp is not None:
            probe.connected(facts.tcp)
        if facts.failed is ReadingStep.HTTP and facts.error is not None:
            remedy = stranger_remedy(self.config) if facts.is_stranger else None
            reason = await probe.reason(facts.error, facts.http_s)
            probe.end(*reason, stage="http", seconds=facts.http_s, remedy=remedy)
        problem = facts.address_problem
        words = facts.version or "" if problem is None else problem.detail
        probe.add("http", Status.PASS if problem is None else Status.WARN, facts.http_s, words)
        if facts.failed is ReadingStep.MODELS and facts.error is not None:
            state, detail = await probe.reason(facts.error, facts.models_s)
            probe.add("models", Status.FAIL, facts.models_s, detail)
            probe.end(state, f"its list of models cannot be read: {detail}")
        names = [model.name for model in facts.models or ()]
        if not names:
            probe.add("models", Status.FAIL, facts.models_s, "no model that can chat is installed")
            probe.end(NodeState.FAILING, "the server runs, but no model that can chat is installed")
        probe.add("models", Status.PASS, facts.models_s, f"{len(names)}: {listing(names)}")
        await self._judge_residency()

    async def _judge_residency(self) -> None:
        facts, probe, silence = self.probe.facts, self.probe, self.probe.facts.silence
        if silence is not None and silence.cause is CallCause.TIMEOUT and facts.likely_kind.loads_on_demand:
            if self._has_runners:
                runners, began = await read_runners(self.survey, self.config), time.monotonic()
                assessment = assess_unlisted(runners)
                if assessment is None and await self._listed_late():
                    await self._judge_residency()
                    return
                seconds = time.monotonic() - began
                if assessment is None:
                    late = await read_runners(self.survey, self.config)
                    assessment = assess_long_silence(runners, late, seconds)
                if assessment is not None:
                    silent_s = probe.facts.resident_s
                    detail = f"/api/ps is silent for {silent_s:.1f} s"
                    probe.add("resident", Status.INCONCLUSIVE, silent_s, detail)
                    await self._end_at_runner("MODEL", assessment, seconds)
            seconds = probe.facts.resident_s
            detail = f"/api/ps is silent for {seconds:.1f} s: {SILENT_LIST}"
            status = Status.INCONCLUSIVE
            probe.end(NodeState.BUSY, detail, stage="resident", seconds=seconds, status=status)
        if silence is not None and silence.cause is not CallCause.STATUS:
            reason = await probe.reason(silence, facts.resident_s)
            probe.end(*reason, stage="resident", seconds=facts.resident_s)
        # One that lists models and cannot say which is loaded is neither well nor ill for that alone.
        if facts.resident:
            detail = listing([_described(model) for model in facts.resident])
            probe.add("resident", Status.PASS, facts.resident_s, detail)
        else:
            probe.add("resident", Status.SKIP, facts.resident_s, self._nothing_loaded("what"))
            await self._judge_load()

    async def _judge_load(self) -> None:
        """Look at a load that is under way: a model is listed when it is loaded. Raises ProbeEnded."""
        if not self._has_runners:
            return
        began = time.monotonic()
        assessment = assess_unlisted(await read_runners(self.survey, self.config))
        if assessment is not None and (assessment.stopped is not None or not self.probe.options.load):
            await self._end_at_runner("MODEL", assessment, time.monotonic() - began)

    async def _listed_late(self) -> bool:
        """Wait for what is loaded as long as for any page, where nothing shows why it is silent."""
        facts, provider = self.probe.facts, await self.survey.node(self.config).provider()
        contents = await read_contents(provider, models=facts.models or ())
        waited_s = facts.resident_s + contents.resident_s
        self.probe.facts = with_contents(
            facts, replace(contents, models_s=facts.models_s, resident_s=waited_s)
        )
        return contents.silence is None

    def _nothing_loaded(self, which: str) -> str:
        known = self.probe.facts.residency_known
        return "no model is loaded" if known else f"the server does not tell {which} is loaded"

    async def _choose(self, provider: Provider) -> Resident:
        """The model to ask; loads it only when the options allow. Raises ProbeEnded when there is none."""
        facts, probe, wanted = self.probe.facts, self.probe, self.probe.options.model
        if wanted is not None:
            model = facts.model_called(wanted)
            if model is None:
                pull = provider.kind.pull_hint("NAME")
                remedy = "`opskit models list` shows the names" + (f"; {pull} installs one" if pull else "")
                probe.listed = False
                probe.end(NodeState.IDLE, f"it does not list {wanted}", remedy=remedy)
            loaded = next((loaded for loaded in facts.resident if loaded.name == model.name), None)
            return loaded or await self._load(provider, model)
        if facts.resident:
            # Of several that may be asked the smallest: it answers soonest and disturbs least.
            resident = facts.resident
            return min(resident, key=lambda model: (not may_be_asked(model), model.size_bytes or math.inf))
        if not probe.options.load:
            nothing = self._nothing_loaded("which model")
            detail = f"{nothing}, so no token was asked for: a probe does not load"
            probe.end(NodeState.IDLE, detail, stage="first token", status=Status.SKIP)
        models = facts.models or ()
        fitting = [model for model in models if not model.cloud and self._fit(model).ok is not False]
        if not fitting:
            probe.end(NodeState.IDLE, "none of its models fits in the free memory")
        smallest = min(fitting, key=lambda model: (model.size_bytes or 0, model.parameters or 0))
        return await self._load(provider, smallest)

    async def _load(self, provider: Provider, model: ModelInfo) -> Resident:
        room, probe, began = self._fit(model), self.probe, time.monotonic()
        if room.ok is False:
            probe.add("load", Status.FAIL, 0.0, f"{model.name}: {room.reason}")
            probe.end(NodeState.FAILING, f"{model.name} was not loaded: {room.reason}")
        self.asked = model.name
        if provider.kind.loads_on_demand:
            budget = load_budget_s(self.survey.config.budgets, model.size_bytes)
            try:
                async with asyncio.timeout(budget):
                    await provider.load(model.name)
            except TimeoutError:
                detail = f"{model.name} was not loaded within {budget:.0f} s"
                probe.end(NodeState.LOADING, detail, stage="load", seconds=budget)
            except CallError as error:
                fault, seconds = classify(error), time.monotonic() - began
                detail = f"loading {model.name} failed: {fault.kind.value}: {fault.detail}"
                probe.end(state_of(fault), detail, stage="load", seconds=seconds, fault=fault)
        took = time.monotonic() - began
        probe.add("load", Status.PASS, took, f"{model.name} loaded in {took:.1f} s")
        probe.loaded = model.name
        return Resident(model.name)

    def blame_model(self) -> None:
        """Give a fault of the model or of the request its remedy, which is better than that of the state."""
        probe, model = self.probe, self.asked
        if model is None:
            return
        if probe.state is NodeState.FAILING:
            probe.model = model
        if probe.remedy_name or probe.fault in SERVER_IS_WELL:
            name, kind, again = (
                probe.remedy_name or str(probe.fault),
                probe.facts.likely_kind,
                "`opskit probe`",
            )
            probe.remedy = fault_remedy(name, model=model, node=self.config.name, server=kind, again=again)

    def _fit(self, model: ModelInfo) -> Fit:
        return assess_fit(self.probe.facts, model, self.survey.config.router, available_memory_bytes())


def _described(resident: Resident) -> str:
    size = resident.size_bytes
    partly = size is not None and resident.size_vram_bytes is not None and 0 < resident.size_vram_bytes < size
    name = "the model it was started with" if resident.name == DEFAULT_MODEL else resident.name
    return name + (f" ({gib(size)}{', partly on the CPU' if partly else ''})" if size else "")
