"""Why a request would go where it goes: the router's own plan, explained without asking any model."""

from collections.abc import Mapping, Sequence
from typing import Any

from opskit.checks.node_assessment import as_news, assess_fault
from opskit.config.schema import Config
from opskit.llm.answer import Session
from opskit.llm.catalog import with_started_model
from opskit.llm.plan import Candidate, ModelRequest, Plan, Skipped
from opskit.llm.refusal import refusal
from opskit.llm.router import Router
from opskit.providers.base import DEFAULT_MODEL
from opskit.records import Record, replace
from opskit.result import Finding, Report, Status


class Route(Record):
    """Who would be asked first, who would follow after a failure, and who would not be asked.

    Of `candidates` the first one is asked; the others show the order of preference. After a failure other
    rules count (SPEC A3, A4): `fallbacks` is that order, cut where the router gives up.
    """

    request: ModelRequest
    candidates: tuple[Candidate, ...]
    fallbacks: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    defaults: Mapping[str, str]

    def shown(self, node: str, model: str) -> str:
        return self.defaults[node] if model == DEFAULT_MODEL else model

    @property
    def fallback_names(self) -> str:
        """Who would follow after a failure, in words."""
        names = [f"{self.shown(model.node, model.model)} on {model.node}" for model in self.fallbacks]
        return ", then ".join(names) or "nobody"

    def as_json(self) -> dict[str, Any]:
        return {
            "category": self.request.category,
            "asked_for": self.request.model,
            "models": [self._json(rank, candidate) for rank, candidate in enumerate(self.candidates, 1)],
            "fallbacks": [self._json(rank, candidate) for rank, candidate in enumerate(self.fallbacks, 1)],
            "skipped": [{"node": s.node, "model": s.model or None, "why": s.why} for s in self.skipped],
        }

    def _json(self, rank: int, candidate: Candidate) -> dict[str, Any]:
        return {
            "rank": rank,
            "node": candidate.node,
            "model": candidate.model,
            "name": self.shown(candidate.node, candidate.model),
            "loaded": candidate.resident,
            "size_bytes": candidate.size_bytes,
            "why": candidate.why,
        }


async def explain(router: Router, config: Config, request: ModelRequest) -> tuple[Route, Report]:
    """The route of a request made now. Loads nothing."""
    choice = await router.explain(request)
    fallbacks: Sequence[Candidate] = ()
    if choice.candidates:
        first = choice.candidates[0]
        after = replace(request, model=None, fallback=True)
        follows = await router.explain(after, Session({(first.node, first.model)}))
        allowed = [
            candidate for candidate in follows.candidates if config.router.may_fall_back_to(candidate.source)
        ]
        fallbacks = allowed[: config.router.max_fallbacks]
    defaults: dict[str, str] = {}
    unread: list[Finding] = []
    for node in config.nodes:
        view = router.catalog.view(node.name)
        if view is not None and view.fault is not None:
            unread.append(as_news(assess_fault(node, view.fault, view.kind, 0.0)))
        elif view is not None:
            models = await with_started_model(node, view.models)
            defaults[node.name] = next((model.shown for model in models if model.name == DEFAULT_MODEL), "")
    route = Route(request, choice.candidates, tuple(fallbacks), choice.skipped, defaults)
    return route, Report("models route", [_verdict(route, config), *unread])


def _verdict(route: Route, config: Config) -> Finding:
    if route.candidates:
        first = route.candidates[0]
        detail = f"{route.shown(first.node, first.model)} on {first.node}: {first.why}"
        return Finding("route", route.request.category, Status.PASS, "ok", detail)
    refused = refusal(Plan((), route.skipped), route.request, [], seconds=0.0, partial="", nodes=config.nodes)
    return Finding(
        "route", route.request.category, Status.FAIL, "failing", refused.message, refused.code, refused.remedy
    )
