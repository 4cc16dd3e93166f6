"""The examination of models (SPEC E5): which are to be tested, what that costs, and how each one answers.

A model is loaded, timed, then asked one short question while it is warm, through the router: so faults and
verdicts mean here what they mean for a user's request. Nothing is loaded that was not chosen by name or by
`all`, and no model gives way to another unless it was named.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from opskit.config.schema import Config, RouterConfig
from opskit.llm.answer import Answer, Ask, Attempt, NoAnswer, Outcome
from opskit.llm.catalog import NodeView
from opskit.llm.fit import Fit, gib
from opskit.llm.loads import load_budget_s
from opskit.llm.plan import Skipped, Wish, same_model
from opskit.llm.router import Router
from opskit.providers.base import DEFAULT_MODEL, ModelInfo
from opskit.result import Status
from opskit.system.host import is_loopback
from opskit.tags import correlated

#: Its answer is short and needs no special skill.
QUESTION = "Why is the sky blue? Answer with one short sentence."
MAX_TOKENS = 64
#: For a model that thinks aloud and had not begun its answer after MAX_TOKENS.
THINKING_TOKENS = 1024
#: A model with less than this left is on its way out: to ask it might load it again.
_ABOUT_TO_EXPIRE_S = 2.0


class Load(StrEnum):
    """What a test does to the memory of its node."""

    NONE = "none"
    LOADS = "loads"
    REPLACES = "replaces"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Which:
    """What to test: the models of these names, or all, or else those that are loaded already."""

    models: tuple[str, ...] = ()
    all: bool = False
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Examinee:
    """A model that is to be tested. `shown` is its name for people; `budget_s` how long its load may take."""

    node: str
    model: str
    shown: str
    load: Load
    size_bytes: int | None = None
    budget_s: float = 0.0
    fit: str = ""
    may_unload: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.shown} on {self.node}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Who is tested and who is not.

    `absent` was asked for by name and cannot be tested. `unloaded` and `untold` count models that would have
    to be loaded, or of which that cannot be told.
    """

    examinees: tuple[Examinee, ...]
    skipped: tuple[Skipped, ...] = ()
    absent: tuple[Skipped, ...] = ()
    unloaded: int = 0
    untold: int = 0

    @property
    def replacements(self) -> tuple[Examinee, ...]:
        return tuple(who for who in self.examinees if who.load is Load.REPLACES)

    def without_replacements(self) -> "Selection":
        """Nothing that would push a resident MLX model out."""
        declined = tuple(
            Skipped(who.node, who.model, "it would replace the resident model") for who in self.replacements
        )
        kept = tuple(who for who in self.examinees if who.load is not Load.REPLACES)
        return replace(self, examinees=kept, skipped=(*self.skipped, *declined))

    def announcement(self) -> list[str]:
        """What will happen, in sentences, before anything does."""
        lines = [_announced(who) for who in self.examinees if who.load is not Load.NONE]
        warm = len(self.examinees) - len(lines)
        if warm:
            lines.insert(0, f"{_models(warm)} loaded already {'is' if warm == 1 else 'are'} tested as found")
        lines += [f"not tested: {skip.model} on {skip.node}: {skip.why}" for skip in self.skipped]
        for count, told in ((self.unloaded, "not loaded"), (self.untold, "perhaps not loaded")):
            if count:
                are = "is" if count == 1 else "are"
                lines.append(f"not tested: {_models(count)} that {are} {told}; `--all` loads what fits")
        return lines


@dataclass(frozen=True, slots=True)
class Result:
    """How one model did.

    `state` is ok, slow, a fault, a verdict, or unloaded. Times are of the warm request, its load apart:
    `load_s` None means that nothing had to be loaded, or that it cannot be told.
    """

    examinee: Examinee
    status: Status
    state: str
    detail: str
    code: str | None = None
    load_s: float | None = None
    first_token_s: float | None = None
    total_s: float | None = None
    tokens: int | None = None
    tokens_per_s: float | None = None
    thinking_s: float | None = None
    answer: str = ""

    @property
    def works(self) -> bool:
        return self.state in ("ok", "slow")

    @property
    def key(self) -> tuple[str, str]:
        return self.examinee.node, self.examinee.model

    def as_json(self) -> dict[str, Any]:
        return {
            "node": self.examinee.node,
            "model": self.examinee.model,
            "name": self.examinee.shown,
            "works": self.works,
            "state": self.state,
            "detail": self.detail,
            "load": self.examinee.load.value,
            "load_s": _rounded(self.load_s),
            "first_token_s": _rounded(self.first_token_s),
            "thinking_s": _rounded(self.thinking_s),
            "total_s": _rounded(self.total_s),
            "tokens": self.tokens,
            "tokens_per_s": _rounded(self.tokens_per_s),
            "answer": self.answer,
        }


def select(
    which: Which,
    views: Sequence[NodeView],
    config: Config,
    fits: Callable[[NodeView, ModelInfo], Fit],
    started_with: Mapping[str, str],
) -> Selection:
    """Who is to be tested. Pure.

    `started_with` names the model behind DEFAULT_MODEL of a node, where that is known. Of each node the
    loaded models come first, before a load can push them out, then the small before the large.
    """
    examinees: list[Examinee] = []
    skipped: list[Skipped] = []
    absent: list[Skipped] = []
    unloaded = untold = 0
    found: set[str] = set()
    for view in views:
        here: list[Examinee] = []
        alias = started_with.get(view.name)
        for model in view.models:
            if model.name == alias:
                continue  # listed a second time: DEFAULT_MODEL is the one that loads nothing
            names = [name for name in which.models if _is(name, model, alias)]
            found.update(names)
            if which.models and not names:
                continue
            if not names and not _suits(config.router, which.category, model, alias):
                continue
            who = _examinee(view, model, alias, config, fits)
            objection = _objection(view, model, who, fits, named=bool(names))
            if who.load is not Load.NONE and not names and not which.all:
                known = view.is_resident(model) is not None
                unloaded += objection is None and known
                untold += objection is None and not known
            elif objection is None:
                here.append(who)
            else:
                (absent if names else skipped).append(Skipped(view.name, model.name, objection))
        here.sort(key=lambda who: (list(Load).index(who.load), who.size_bytes or 0))
        examinees += here
    blind = [view.name for view in views if view.fault is not None]
    unseen = f"; not read: {', '.join(blind)}" if blind else ""
    absent += [
        Skipped("", name, f"no node lists it{unseen}")
        for name in dict.fromkeys(which.models)
        if name not in found
    ]
    return Selection(tuple(examinees), tuple(skipped), tuple(absent), unloaded, untold)


async def examine(
    router: Router,
    examinees: Sequence[Examinee],
    config: Config,
    on_start: Callable[[Examinee], None] = lambda _: None,
) -> list[Result]:
    """The results, in the order given.

    Machines are tested side by side, the models of one machine one after the other: two at once would slow
    each other down, and might not fit in memory together.
    """
    lanes: dict[str, list[int]] = {}
    for index, who in enumerate(examinees):
        url = config.node(who.node).url
        lanes.setdefault("" if is_loopback(url) else urlsplit(url).hostname or "", []).append(index)
    results: dict[int, Result] = {}

    async def work(lane: list[int]) -> None:
        for index in lane:
            on_start(examinees[index])
            results[index] = await _examine(router, examinees[index], config)

    await asyncio.gather(*map(work, lanes.values()))
    return [results[index] for index in range(len(examinees))]


def _is(name: str, model: ModelInfo, alias: str | None) -> bool:
    return same_model(name, model.name) or (model.name == DEFAULT_MODEL and name == alias)


def _suits(router: RouterConfig, category: str | None, model: ModelInfo, alias: str | None) -> bool:
    """Whether a model is among those that a category prefers; a server's default may serve any."""
    patterns = router.categories.get(category or "", ())
    if not patterns or (model.name == DEFAULT_MODEL and alias is None):
        return True
    name = (alias if model.name == DEFAULT_MODEL and alias else model.name).lower()
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns)


def _examinee(
    view: NodeView,
    model: ModelInfo,
    alias: str | None,
    config: Config,
    fits: Callable[[NodeView, ModelInfo], Fit],
) -> Examinee:
    shown = f"{alias} (default)" if alias and model.name == DEFAULT_MODEL else model.name
    if view.is_resident(model) and not model.cloud:
        return Examinee(view.name, model.name, shown, Load.NONE, model.size_bytes)
    load = Load.LOADS
    if view.flavour == "mlx_lm":
        load = Load.REPLACES
    elif view.flavour == "openai" or model.cloud:
        load = Load.UNKNOWN
    budget_s = load_budget_s(config.budgets, model.size_bytes)
    room = fits(view, model)
    held = sum(loaded.size_bytes or 0 for loaded in view.resident)
    tight = room.ok and room.need_bytes is not None and room.have_bytes is not None
    may_unload: tuple[str, ...] = ()
    if tight and (room.need_bytes or 0) > (room.have_bytes or 0) - held:
        may_unload = tuple(loaded.name for loaded in view.resident)
    reason = room.reason if room.ok is None else ""
    return Examinee(view.name, model.name, shown, load, model.size_bytes, budget_s, reason, may_unload)


def _objection(
    view: NodeView,
    model: ModelInfo,
    who: Examinee,
    fits: Callable[[NodeView, ModelInfo], Fit],
    *,
    named: bool,
) -> str | None:
    """Why a model that was chosen is not tested after all; what is named may cost more than what is not."""
    if who.load is Load.NONE:
        return None
    if not named:
        if model.cloud:
            return "it runs in the cloud; `--model` tests it"
        if who.load is Load.REPLACES:
            return "it would replace the resident model of this server; `--model` tests it"
        if who.load is Load.UNKNOWN:
            return "this server does not tell what is loaded, or what a request costs; `--model` tests it"
    if model.cloud:
        return None
    room = fits(view, model)
    return room.reason if room.ok is False else None


def _announced(who: Examinee) -> str:
    size = f" ({gib(who.size_bytes)})" if who.size_bytes else ""
    match who.load:
        case Load.REPLACES:
            text = f"this replaces the resident model of {who.node} by {who.shown}"
        case Load.UNKNOWN:
            return f"this asks {who}, wherever it runs"
        case _:
            text = f"this loads {who}{size}"
    text += f", budget {int(who.budget_s)} s"
    if who.may_unload:
        text += f"; to make place the server may unload {', '.join(who.may_unload)}"
    elif who.fit and who.load is Load.LOADS:
        text += f"; whether it fits cannot be told ({who.fit})"
    return text


def _models(count: int) -> str:
    return f"{count} model{'' if count == 1 else 's'}"


async def _examine(router: Router, who: Examinee, config: Config) -> Result:
    view = await _fresh(router, who.node)
    if who.load is Load.NONE and not _still_loaded(view, who.model):
        detail = "it was unloaded before its turn, and is not loaded again for a test"
        return Result(who, Status.SKIP, "unloaded", detail)
    with correlated():
        tokens = MAX_TOKENS
        said = await _ask(router, who, tokens)
        first = _last(said)
        load_s = first.load_s if first is not None else None
        if _was_thinking(said):
            tokens = THINKING_TOKENS
            said = await _ask(router, who, tokens)
        if isinstance(said, Answer) and load_s is None and who.load in (Load.LOADS, Load.REPLACES):
            # The server loaded inside the request: asked again it is warm, and the difference was the load.
            cold = said.attempts[-1].first_sign_s or 0.0
            said = await _ask(router, who, tokens)
            if isinstance(said, Answer):
                load_s = max(0.0, cold - (said.attempts[-1].first_sign_s or 0.0))
    if isinstance(said, NoAnswer):
        return _failure(who, said, load_s, view)
    return _success(who, said, load_s, slow_s=config.probe.slow_first_token_s)


async def _fresh(router: Router, node: str) -> NodeView | None:
    """The node as it is now: an earlier load may have pushed a model out, or filled the memory."""
    catalog = router.catalog
    catalog.forget(node)
    await catalog.snapshot()
    view = catalog.view(node)
    if view is None or view.at == -math.inf:
        # Another node was quicker; a silent one is waited for only when it is the one in question.
        await catalog.snapshot(wait_for_all=True)
        view = catalog.view(node)
    return view


def _still_loaded(view: NodeView | None, model: str) -> bool:
    """True as well where it cannot be told."""
    if view is None or view.fault is not None or not view.residency_known:
        return True
    info = next((info for info in view.models if info.name == model), None)
    if info is None or info.resident is not None:
        return info is None or info.resident is True
    held = next((loaded for loaded in view.resident if loaded.name == model), None)
    if held is None:
        return False
    if held.expires_at is None:
        return True
    return (held.expires_at - datetime.now(UTC)).total_seconds() > _ABOUT_TO_EXPIRE_S


async def _ask(router: Router, who: Examinee, max_tokens: int) -> Answer | NoAnswer:
    """Ask this model on this node and no other."""
    wish = Wish(model=who.model, node=who.node)
    ask = Ask.of(
        QUESTION, wish=wish, max_tokens=max_tokens, temperature=0.0, length_is_fine=True, max_fallbacks=0
    )
    try:
        return await router.chat(ask)
    except NoAnswer as refused:
        return refused


def _last(said: Answer | NoAnswer) -> Attempt | None:
    return said.attempts[-1] if said.attempts else None


def _was_thinking(said: Answer | NoAnswer) -> bool:
    """It spoke up to the limit and had not begun its answer."""
    last = _last(said)
    return (
        isinstance(said, NoAnswer)
        and last is not None
        and last.finish_reason == "length"
        and (last.outcome is Outcome.REJECTED)
    )


def _success(who: Examinee, answer: Answer, load_s: float | None, *, slow_s: float) -> Result:
    attempt = answer.attempts[-1]
    loading = attempt.load_s or 0.0
    first_s = (attempt.first_token_s or 0.0) - loading
    sign_s = first_s if attempt.first_sign_s is None else attempt.first_sign_s - loading
    total_s = attempt.seconds - loading
    slow = sign_s > slow_s
    text = " ".join(answer.text.split())
    return Result(
        who,
        Status.WARN if slow else Status.PASS,
        "slow" if slow else "ok",
        f"its first token took {sign_s:.1f} s while it was warm" if slow else text[:120],
        load_s=load_s,
        first_token_s=first_s,
        total_s=total_s,
        tokens=answer.usage.completion_tokens,
        tokens_per_s=_speed(answer, total_s - sign_s),
        thinking_s=first_s - sign_s if first_s > sign_s else None,
        answer=text[:500],
    )


def _speed(answer: Answer, spoke_s: float) -> float | None:
    """By the server's own clock where it tells; else the tokens after the first, over their time."""
    tokens, eval_s = answer.usage.completion_tokens, answer.usage.eval_s
    if not tokens:
        return None
    if eval_s:
        return tokens / eval_s
    return (tokens - 1) / spoke_s if tokens > 1 and spoke_s > 0 else None


def _failure(who: Examinee, refused: NoAnswer, load_s: float | None, view: NodeView | None) -> Result:
    last = _last(refused)
    if last is None:
        state = view.fault.kind.value if view is not None and view.fault is not None else "unavailable"
        return Result(who, Status.FAIL, state, refused.message, refused.code, load_s)
    rejected = last.outcome is Outcome.REJECTED
    return Result(
        who,
        Status.WARN if rejected else Status.FAIL,
        last.fault or "unknown",
        f"no usable answer: {last.detail}" if rejected else last.detail,
        refused.code,
        load_s,
        total_s=last.seconds - (last.load_s or 0.0),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
