"""The probes of a model's profile: a few short questions to a model that is loaded, each for one ability.

They go through the router: faults and verdicts mean here what they mean for a user's request, and a load is
not left before its end.
"""

import json
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from opskit.agent.step import AgentStep, StepError, called_step, object_schema, read_step
from opskit.app import App
from opskit.checks import model_exam, node_assessment
from opskit.llm.answer import Answer, Ask, Attempt, AttemptOutcome, NoAnswer
from opskit.llm.exam import fresh_view, still_loaded
from opskit.llm.exam_outcome import absent
from opskit.llm.faults import OF_ONE_REQUEST, FaultKind
from opskit.llm.plan import ModelRequest
from opskit.llm.profile import ModelProfile, Probe, StepMode, identity_of
from opskit.llm.prompt import least_tokens
from opskit.llm.router import Router
from opskit.llm.selection import ExaminedModel, ExamRequest, Load, ModelSelection
from opskit.llm.verdict import Verdict
from opskit.providers.base import CallError, Message, ToolSpec
from opskit.providers.node import Node
from opskit.records import Record, replace
from opskit.result import Finding, Report, Status
from opskit.tags import correlated

_WORD_TOKENS = 8
_TOKENS = 96
#: For a model that thinks aloud and had not begun its answer after _TOKENS.
_THINKING_TOKENS = 1024
#: What a schema demands and no model says of itself when it is asked for a colour.
_FRUITS = ("quince", "medlar")
_NOTE_CHARS = 8
_NOTE = {"type": "string", "maxLength": _NOTE_CHARS}
_SCHEMA = {"oneOf": [object_schema(fruit={"const": fruit}, note=_NOTE) for fruit in _FRUITS]}
_TOOL = ToolSpec(
    "read_sensor",
    "Read a sensor of this machine.",
    {"type": "object", "properties": {"sensor": {"type": "string"}}, "required": ["sensor"]},
)
#: Faults by which a server refuses a question while it answers others.
_TOO_LONG = frozenset({FaultKind.CONTEXT_EXCEEDED})
_REFUSALS = OF_ONE_REQUEST | {
    FaultKind.UNSUPPORTED,
    FaultKind.BROKEN_TEMPLATE,
    FaultKind.SERVER_ERROR,
    FaultKind.TRUNCATED,
}
_TEXT = "The river runs past the mill and under the old bridge, where two boats lie and a dog sleeps. " * 7


class _Reply(Record):
    """What came of one question; without an answer the attempt says why."""

    attempt: Attempt
    answer: Answer | None
    seconds: float

    @property
    def text(self) -> str:
        return "" if self.answer is None else self.answer.text.strip()

    @property
    def thinks(self) -> bool:
        return self.attempt.thought_chars > 0 or self.attempt.fault == Verdict.ONLY_THINKING


class ProfileProbes:
    """Probes one model on one node."""

    def __init__(
        self, router: Router, node: Node, examinee: ExaminedModel, on_wait: Callable[[str], None]
    ) -> None:
        self._router = router
        self._node = node
        self._request = ModelRequest(model=examinee.model, node=examinee.node)
        self._on_wait = on_wait
        self._probes: list[Probe] = []
        self._thinks = False

    async def profile(self) -> ModelProfile:
        """Return what the model can do. Raises NoAnswer where it does not answer at all."""
        prompt = (Message("user", f"{secrets.token_hex(4)}. {_TEXT}Answer with one word."),)
        long = await self._asked(Ask(prompt, max_tokens=_WORD_TOKENS), _TOO_LONG)
        read, least = long.attempt.usage.prompt_tokens, least_tokens(prompt)
        cut = read is not None and read < least
        whole = f"read {read} of at least {least} tokens" if cut else f"read {read or least} tokens"
        self._note("context", long, whole)
        # A model that is not led to JSON pads it with line breaks, which Ollama cuts off.
        question = 'Answer with one JSON object, such as {"colour": "red", "note": "warm"}.'
        ask = Ask.of(question, schema=_SCHEMA, mode=StepMode.SCHEMA, max_tokens=_TOKENS)
        schema = await self._asked(ask, _REFUSALS)
        enforced = _obeys(schema.text)
        self._note("schema", schema, "enforced" if enforced else "not enforced")
        ask = Ask.of(
            f"What does the sensor kitchen show? Call {_TOOL.name}.",
            tools=(_TOOL,),
            mode=StepMode.NATIVE,
            max_tokens=_TOKENS,
        )
        tools = await self._asked(ask, _REFUSALS)
        native = _is_call(lambda: None if tools.answer is None else called_step(tools.answer))
        written = _is_call(lambda: read_step(tools.text))
        self._note("tools", tools, "called" if native else "call written as text" if written else "no call")
        view = self._router.catalog.view(self._node.name)
        model = view.model(self._request.model or "") if view else None
        if view is None or model is None:
            raise NoAnswer("MODEL_001", f"{self._node.name} does not list {self._request.model} any more")
        return ModelProfile(
            node=view.name,
            model=model.name,
            identity=identity_of(view.likely_kind, model),
            probed_at=datetime.now(UTC),
            enforces_schema=enforced,
            native_tools=native,
            tools_as_text=written and not native,
            thinks=self._thinks or "thinking" in (model.capabilities or ()),
            trained_context=model.context_length,
            loaded_context=await self._loaded_context(model.name),
            read_tokens=read,
            prompt_cut=cut,
            load_s=long.attempt.load_s,
            probes=tuple(self._probes),
        )

    async def _asked(self, ask: Ask, refusals: frozenset[FaultKind]) -> _Reply:
        """Ask the model; raise NoAnswer for any fault but these. One that thinks first gets more tokens."""
        seconds = 0.0
        while True:
            answer = None
            question = replace(
                ask,
                request=self._request,
                temperature=0.0,
                length_is_fine=True,
                max_fallbacks=0,
                tests_for=refusals,
                on_wait=self._on_wait,
            )
            try:
                answer = await self._router.chat(question)
                attempt = answer.attempts[-1]
            except NoAnswer as refused:
                if not refused.attempts:
                    raise
                attempt = refused.attempts[-1]
                if attempt.outcome is AttemptOutcome.FAULT and attempt.fault not in refusals:
                    raise
            seconds += attempt.seconds - (attempt.load_s or 0.0)
            reply = _Reply(attempt, answer, seconds)
            self._thinks = self._thinks or reply.thinks
            if ask.max_tokens != _TOKENS or reply.text or not reply.thinks:
                return reply
            ask = replace(ask, max_tokens=_THINKING_TOKENS)

    def _note(self, name: str, reply: _Reply, outcome: str) -> None:
        usage, refused = reply.attempt.usage, reply.attempt.outcome is AttemptOutcome.FAULT
        self._probes.append(
            Probe(
                name=name,
                outcome=f"refused: {reply.attempt.detail}" if refused else outcome,
                seconds=round(reply.seconds, 4),
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
            )
        )

    async def _loaded_context(self, name: str) -> int | None:
        try:
            loaded = await (await self._node.provider()).resident() or ()
        except CallError:
            return None
        return next((model.context_length for model in loaded if model.name == name), None)


def _obeys(text: str) -> bool:
    """Tell whether a text is exactly what the schema allows."""
    try:
        said = json.loads(text)
    except ValueError:
        return False
    if not isinstance(said, dict) or set(said) != {"fruit", "note"}:
        return False
    return said["fruit"] in _FRUITS and isinstance(said["note"], str) and len(said["note"]) <= _NOTE_CHARS


def _is_call(read: Callable[[], AgentStep | None]) -> bool:
    """Tell whether what was read calls the function that was offered, with its argument."""
    try:
        step = read()
    except StepError:
        return False
    return step is not None and step.tool == _TOOL.name and isinstance(step.args.get("sensor"), str)


class ProfileRequest(Record):
    """Which models are to be probed, which profiles are known, and what is found of the others."""

    selection: ModelSelection
    known: tuple[ModelProfile, ...]
    findings: tuple[Finding, ...]


async def choose(app: App, nodes: Sequence[Node], name: str, *, load: bool, again: bool) -> ProfileRequest:
    """Read the nodes and find the model on them. Asks it nothing and loads nothing."""
    exam = await model_exam.choose(ExamRequest((name,)), nodes, app.router, app.config)
    views = {facts.config.name: facts.view for facts in exam.nodes}
    findings = [] if exam.selection.examinees else node_assessment.unread(exam.nodes)
    findings += map(absent, exam.selection.absent)
    known: list[ModelProfile] = []
    due: list[ExaminedModel] = []
    for examinee in exam.selection.examinees:
        view = views[examinee.node]
        profile, model = app.profiles.read(view.name, examinee.model), view.model(examinee.model)
        if profile and model and profile.identity == identity_of(view.likely_kind, model) and not again:
            known.append(profile)
        elif load or examinee.load is Load.NONE:
            due.append(examinee)
        else:
            findings.append(_unloaded(examinee))
    return ProfileRequest(replace(exam.selection, examinees=tuple(due)), tuple(known), tuple(findings))


async def profiles(
    app: App, nodes: Sequence[Node], request: ProfileRequest, on_wait: Callable[[str], None]
) -> tuple[list[ModelProfile], Report]:
    """Probe the chosen models, one after the other, and keep what was found. Raises StateError."""
    shown = list(request.known)
    findings = [*request.findings, *(_finding(profile, "known") for profile in request.known)]
    for examinee in request.selection.examinees:
        node = next(node for node in nodes if node.name == examinee.node)
        view = await fresh_view(app.router, node.name)
        if examinee.load is Load.NONE and not still_loaded(view, examinee.model):
            findings.append(_unloaded(examinee))
            continue
        try:
            with correlated():
                profile = await ProfileProbes(app.router, node, examinee, on_wait).profile()
        except NoAnswer as refused:
            fault = refused.attempts[-1].fault if refused.attempts else None
            target, why = f"{examinee.node}/{examinee.model}", (refused.message, refused.code, refused.remedy)
            findings.append(Finding("profile", target, Status.FAIL, fault or "unavailable", *why))
            continue
        app.profiles.write(profile)
        shown.append(profile)
        findings.append(_finding(profile, "probed"))
    return shown, Report("models profile", findings)


def _finding(profile: ModelProfile, state: str) -> Finding:
    target, detail = f"{profile.node}/{profile.model}", f"asked for a step by {profile.mode.value}"
    return Finding("profile", target, Status.PASS, state, detail, seconds=profile.seconds)


def _unloaded(examinee: ExaminedModel) -> Finding:
    is_unknown = examinee.load is Load.UNKNOWN
    state = "the server does not tell whether it is loaded" if is_unknown else "it is not loaded"
    target, detail = f"{examinee.node}/{examinee.model}", f"{state}, and it was never probed"
    remedy = f"`opskit models profile {examinee.shown} --node {examinee.node} --load`"
    return Finding("profile", target, Status.INCONCLUSIVE, "not_loaded", detail, remedy=remedy)
