"""Which models are to be tested, and what that costs: decided before anything is asked. Pure."""

from collections.abc import Callable, Sequence
from enum import StrEnum

from opskit.config.schema import Config, RouterConfig
from opskit.llm.catalog import NodeView
from opskit.llm.fit import Fit, gib
from opskit.llm.loads import load_budget_s
from opskit.llm.plan import Skipped, position_of
from opskit.providers.base import DEFAULT_MODEL, ModelInfo
from opskit.records import Record, replace
from opskit.text import counted


class Load(StrEnum):
    """What a test does to the memory of its node."""

    NONE = "none"
    LOADS = "loads"
    REPLACES = "replaces"
    UNKNOWN = "unknown"


class ExamRequest(Record):
    """What to test: the models of these names, or all, or else the loaded models."""

    models: tuple[str, ...] = ()
    all: bool = False
    category: str | None = None


class ExaminedModel(Record):
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


class ModelSelection(Record):
    """Which models are tested, and which are not.

    `absent` was asked for by name and cannot be tested. `unloaded` and `untold` count models that would have
    to be loaded, or of which that is unknown.
    """

    examinees: tuple[ExaminedModel, ...]
    skipped: tuple[Skipped, ...] = ()
    absent: tuple[Skipped, ...] = ()
    unloaded: int = 0
    untold: int = 0

    @property
    def replacements(self) -> tuple[ExaminedModel, ...]:
        return tuple(examinee for examinee in self.examinees if examinee.load is Load.REPLACES)

    def without_replacements(self) -> "ModelSelection":
        """Return the same without what would push a resident MLX model out."""
        declined = tuple(
            Skipped(examinee.node, examinee.model, "it would replace the resident model")
            for examinee in self.replacements
        )
        others = tuple(examinee for examinee in self.examinees if examinee.load is not Load.REPLACES)
        return replace(self, examinees=others, skipped=(*self.skipped, *declined))

    def loads(self) -> list[str]:
        """Say in sentences what will be loaded or replaced, before anything is."""
        return [_announced(examinee) for examinee in self.examinees if examinee.load is not Load.NONE]

    def announcement(self) -> list[str]:
        """Say in sentences what a test will do, before it does anything."""
        lines = self.loads()
        warm = len(self.examinees) - len(lines)
        if warm:
            lines.insert(
                0, f"{counted(warm, 'model')} loaded already {'is' if warm == 1 else 'are'} tested as found"
            )
        lines += [f"not tested: {skip.model} on {skip.node}: {skip.why}" for skip in self.skipped]
        for count, state in ((self.unloaded, "not loaded"), (self.untold, "perhaps not loaded")):
            if count:
                are = "is" if count == 1 else "are"
                lines.append(
                    f"not tested: {counted(count, 'model')} that {are} {state}; `--all` loads what fits"
                )
        return lines


def select(
    request: ExamRequest,
    views: Sequence[NodeView],
    config: Config,
    fits: Callable[[NodeView, ModelInfo], Fit],
) -> ModelSelection:
    """Choose the models to test. Pure.

    Of each node the loaded models come first, before a load can push them out, then the small before the
    large.
    """
    examinees: list[ExaminedModel] = []
    skipped: list[Skipped] = []
    absent: list[Skipped] = []
    unloaded = untold = 0
    listed: set[str] = set()
    for view in views:
        here: list[ExaminedModel] = []
        for model in view.models:
            names = [name for name in request.models if model.is_called(name)]
            listed.update(names)
            if request.models and not names:
                continue
            if not names and not _suits(config.router, request.category, model):
                continue
            room = fits(view, model)
            examinee = _examinee(view, model, config, room)
            objection = _objection(model, examinee.load, room, named=bool(names))
            if examinee.load is not Load.NONE and not names and not request.all:
                known = view.is_resident(model) is not None
                unloaded += objection is None and known
                untold += objection is None and not known
            elif objection is None:
                here.append(examinee)
            else:
                (absent if names else skipped).append(Skipped(view.name, model.name, objection))
        here.sort(key=lambda examinee: (list(Load).index(examinee.load), examinee.size_bytes or 0))
        examinees += here
    unread = [view.name for view in views if view.fault is not None]
    not_read = f"; not read: {', '.join(unread)}" if unread else ""
    absent += [
        Skipped("", name, f"no node lists it{not_read}")
        for name in dict.fromkeys(request.models)
        if name not in listed
    ]
    return ModelSelection(tuple(examinees), tuple(skipped), tuple(absent), unloaded, untold)


def _suits(router: RouterConfig, category: str | None, model: ModelInfo) -> bool:
    """Tell whether a model is one that a category prefers; a server's default may serve any."""
    patterns = router.categories.get(category or "", ())
    unknown = model.name == DEFAULT_MODEL and not model.aliases
    return not patterns or unknown or position_of(model, patterns) is not None


def _examinee(view: NodeView, model: ModelInfo, config: Config, room: Fit) -> ExaminedModel:
    examinee = ExaminedModel(view.name, model.name, model.shown, Load.NONE, model.size_bytes)
    if view.is_resident(model) and not model.cloud:
        return examinee
    load, kind = Load.LOADS, view.likely_kind
    if kind.naming_swaps:
        load = Load.REPLACES
    elif not kind.tells_residency or model.cloud:
        load = Load.UNKNOWN
    held = sum(loaded.size_bytes or 0 for loaded in view.resident)
    need, have = room.need_bytes, room.have_bytes
    tight = room.ok and need is not None and have is not None and need > have - held
    return replace(
        examinee,
        load=load,
        budget_s=load_budget_s(config.budgets, model.size_bytes),
        fit=room.reason if room.ok is None else "",
        may_unload=tuple(loaded.name for loaded in view.resident) if tight else (),
    )


def _objection(model: ModelInfo, load: Load, room: Fit, *, named: bool) -> str | None:
    """Return why a model is not tested after all; one that is named may cost more than others."""
    if load is Load.NONE:
        return None
    if not named:
        if model.cloud:
            return "it runs in the cloud; `--model` tests it"
        if load is Load.REPLACES:
            return "it would replace the resident model of this server; `--model` tests it"
        if load is Load.UNKNOWN:
            return "this server does not tell what is loaded, or what a request costs; `--model` tests it"
    return room.reason if room.ok is False and not model.cloud else None


def _announced(examinee: ExaminedModel) -> str:
    size = f" ({gib(examinee.size_bytes)})" if examinee.size_bytes else ""
    match examinee.load:
        case Load.REPLACES:
            text = f"this replaces the resident model of {examinee.node} by {examinee.shown}"
        case Load.UNKNOWN:
            return f"this asks {examinee}, wherever it runs"
        case _:
            text = f"this loads {examinee}{size}"
    text += f", budget {int(examinee.budget_s)} s"
    if examinee.may_unload:
        text += f"; to make place the server may unload {', '.join(examinee.may_unload)}"
    elif examinee.fit and examinee.load is Load.LOADS:
        text += f"; whether it fits cannot be told ({examinee.fit})"
    return text
