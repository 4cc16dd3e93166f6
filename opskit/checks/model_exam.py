"""The examination of models as a whole: the choice, the questions, what it comes to afterwards."""

from collections.abc import Callable, Sequence

from opskit.checks.node_assessment import unread
from opskit.checks.upkeep import with_upkeep
from opskit.config.schema import Config
from opskit.facts.node import NodeFacts, read_all_metadata
from opskit.facts.survey import Survey
from opskit.llm.exam import examine
from opskit.llm.exam_outcome import ExamOutcome, recommend, report
from opskit.llm.router import Router
from opskit.llm.selection import ExaminedModel, ExamRequest, ModelSelection, select
from opskit.providers.node import Node
from opskit.records import Record
from opskit.result import Report


class ModelExam(Record):
    """An examination before it begins: its nodes as they were read, and the models that are chosen."""

    request: ExamRequest
    nodes: tuple[NodeFacts, ...]
    selection: ModelSelection


async def choose(request: ExamRequest, nodes: Sequence[Node], router: Router, config: Config) -> ModelExam:
    """Read the nodes and choose the models. Asks none and loads none."""
    facts = await read_all_metadata(nodes)
    selection = select(request, [node.view for node in facts], config, router.fits)
    return ModelExam(request, facts, selection)


async def carry_out(
    exam: ModelExam,
    nodes: Sequence[Node],
    router: Router,
    survey: Survey,
    on_start: Callable[[ExaminedModel], None],
) -> tuple[ExamOutcome, Report]:
    """Examine the chosen models. `on_start` is called with each as its turn comes."""
    config = survey.config
    results = await examine(router, exam.selection.examinees, config, on_start)
    failing = {result.examinee.node for result in results if not result.works}
    facts = await with_upkeep(survey, exam.nodes, failing)
    # A load may have pushed models out: read again, but not where there was no answer before.
    answered = {node.config.name for node in exam.nodes if node.error is None and node.silence is None}
    again = await read_all_metadata([node for node in nodes if node.name in answered])
    reread = {node.config.name: node.view for node in again}
    views = [node.view for node in facts]
    category = exam.request.category
    advice = recommend(
        results,
        [reread.get(view.name, view) for view in views],
        config,
        [category] if category else list(config.router.categories),
    )
    outcome = ExamOutcome(exam.selection, tuple(results), advice, tuple(unread(facts)))
    return outcome, report(outcome, views)
