"""Goals with a text below them, as `cat LOG | opskit run "..."` makes them: the text is the evidence."""

from opskit.agent.fact import only_small_models
from opskit.agent.grounding import YES_OR_NO, is_cyrillic, sentences, supported, ungrounded
from opskit.agent.method import is_general
from opskit.agent.question import paths_named
from opskit.agent.quoting import direct_answer, lines_asked, look_at, summary, summary_source
from opskit.agent.step import AgentStep
from opskit.agent.tools.files import SearchFileArguments, searched
from opskit.agent.tools.tool import ToolResult
from opskit.app import App
from opskit.engine.goal import HERE, NO_MODEL, GoalRun, RunResult
from opskit.errors import OpskitError
from opskit.llm.answer import Ask, NoAnswer
from opskit.llm.plan import ModelRequest
from opskit.llm.wording import parted
from opskit.providers.base import Message

_LINES = 200


async def solve_given(app: App, run: GoalRun) -> RunResult | None:
    """Answer out of the text of a goal; None where it has none, and where a model may be believed.

    Small models are believed only in what one line of the text says. Raises RunFailed.
    """
    goal, (question, text) = run.goal, parted(run.goal.text)
    if not text or paths_named(question):
        return None
    place = "текст" if is_cyrillic(question) else "the text"
    step, result = _look(question, place, text)
    if (answer := direct_answer(question, step, result)) is not None:
        return run.result(answer, "simple", NO_MODEL, HERE)
    name = goal.model or app.config.victoria_model
    # One line may say how the answer is to be, and is no evidence.
    is_evidence = len(text.splitlines()) > 1 and not is_general(question)
    if not is_evidence or not await only_small_models(app, name):
        return None
    ask = Ask((*goal.history, Message("user", goal.text)), ModelRequest(model=name, category=run.category))
    try:
        said = await app.router.chat(ask, run.session)
    except NoAnswer as refused:
        raise run.failure(refused, refused.attempts, refused.partial) from refused
    written, notes = said.text, list[str]()
    if summary_source(question, step, result) is not None:
        written, is_written = summary(question, place, text, written)
        notes += [] if is_written else ["the sentences are quoted: no summary of a model says just this"]
    elif YES_OR_NO.match(question) or not _is_said(question, place, written, result):
        why = f"no honest answer: no line of the text says what {said.model} says"
        raise run.failure(
            OpskitError(
                "GEN_001", why, remedy="ask a larger model with --model NAME, or for a line of the text"
            ),
            said.attempts,
        )
    answered = (written, "simple", said.model, said.node, said.attempts)
    return run.result(*answered, prompt_cut=said.prompt_cut, notes=tuple(notes))


def _look(question: str, place: str, text: str) -> tuple[AgentStep, ToolResult]:
    """Return the look at the text that suits the question."""
    step = look_at(question, place)
    if step.tool == "search_file":
        return step, searched(text.encode(), place, SearchFileArguments(**step.args), _LINES)
    read = ToolResult(text, evidence={"path": place}, lines=tuple(enumerate(text.splitlines(), 1)))
    return AgentStep(step.thought, "read_file", {"path": place}), read


def _is_said(question: str, place: str, answer: str, result: ToolResult) -> bool:
    asked = "\n".join(lines_asked(question, place, result.lines))
    return ungrounded(answer, question, [result.text]) is None and all(
        supported(part, asked, question) for part in sentences(answer)
    )
