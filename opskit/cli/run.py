"""`opskit run "goal"`: one goal, one answer; who gave it goes to stderr."""

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.agent.method import METHODS, enhanced, method_of
from opskit.cli import render
from opskit.cli.inputs import checked_id, choice, goal_text, name_of_model
from opskit.cli.options import LocalOption, ModelOption, SharedOptions, shares
from opskit.errors import UsageError
from opskit.result import SCHEMA_VERSION

if TYPE_CHECKING:
    from opskit.agent.step import AgentStep
    from opskit.agent.tools.tool import NeedsApproval
    from opskit.app import App
    from opskit.engine.engine import Engine
    from opskit.engine.goal import Goal, RunResult, Solver
    from opskit.llm.answer import Attempt, Session

_WAITING = "waiting for standard input, which is added to the goal (`</dev/null` if there is none)"


@shares("sandbox", "verbose")
def run(
    shared: SharedOptions,
    goal: Annotated[
        str | None,
        typer.Argument(help="What to do; what is piped in is added. `-` or nothing: standard input alone."),
    ] = None,
    local: LocalOption = False,
    remote: Annotated[bool, "Through Victoria or not at all."] = False,
    model: ModelOption = None,
    category: Annotated[str | None, "reasoning, coding, fast or default; found out when not given."] = None,
    method: Annotated[
        str,
        "auto, simple (one question to a model), react (steps with tools), extended_thinking, "
        "swarm, consensus, tree_of_thoughts or hierarchical.",
    ] = "auto",
    max_steps: Annotated[
        int, typer.Option(min=1, max=50, help="Steps with tools; model calls are bounded by it.")
    ] = 8,
    session: Annotated[str | None, "Go on with the conversation of this id; any new id begins one."] = None,
    project: Annotated[str | None, "Whose memory is used: one of agent.allowed_projects."] = None,
    cache: Annotated[bool, "Take the answer that the same goal got a short time ago."] = False,
    background: Annotated[bool, "--async", "Queue it at Victoria, print the run's id, do not wait."] = False,
    follow: Annotated[str | None, "ID", "Wait for a run at Victoria and show it."] = None,
    stream: Annotated[bool, "Print the answer as it comes."] = False,
    strict_context: Annotated[
        bool, "No answer where the model could not read the whole prompt; answers in this process."
    ] = False,
) -> None:
    """Run a goal: through Victoria, or on the models here."""
    from opskit.engine.goal import Goal

    at_victoria, needs_local = remote or background, local or stream or strict_context
    for problem, is_wrong in {
        "--local and --remote exclude each other": local and remote,
        "--follow takes neither a goal nor --async": follow is not None and (goal is not None or background),
        "--async runs at Victoria: drop --local, --stream, --strict-context": background and needs_local,
        "Victoria chooses her model herself (VICTORIA_MODEL): drop --model": at_victoria
        and model is not None,
        "Victoria does not tell what her model read: drop --strict-context": at_victoria and strict_context,
    }.items():
        if is_wrong:
            raise UsageError(problem, remedy="`opskit run --help`")
    if follow is not None:
        task_id = checked_id(follow, "--follow")
        result = shared.run(lambda app: app.engine.victoria().follow(task_id, render.note))
        show_result(result, json=shared.json)
        return
    wanted = Goal(
        goal or "",
        "local" if local or strict_context else "remote" if at_victoria else "auto",
        name_of_model(model),
        category,
        strict_context,
        choice(method, ("auto", *METHODS), "method"),
        session_id=None if session is None else checked_id(session, "--session"),
        project=project,
        use_cache=cache,
    )

    async def work(app: "App") -> None:
        checked = _checked(app, wanted, is_piped=goal is None)
        if not background:
            pieces = stream and not shared.json and not strict_context
            await _run(app, checked, max_steps, pieces=pieces, json=shared.json)
            return
        receipt = await app.engine.victoria().submit(checked, max_steps)
        document = {"schema_version": SCHEMA_VERSION, "ok": True, **receipt}
        shared.show(document, lambda: render.line(str(receipt["task_id"])))
        if not shared.json:
            ways = "`opskit run --follow ID` waits for its answer, `opskit trace ID` shows its way"
            identifier = receipt.get("correlation_id")
            render.note(
                f"queued at Victoria{f' (correlation id {identifier})' if identifier else ''}: {ways}"
            )

    shared.run(work)


def _checked(app: "App", wanted: "Goal", *, is_piped: bool) -> "Goal":
    """Return the goal with its whole text. Raises UsageError for what the configuration does not allow."""
    from opskit.records import replace

    allowed = app.config.agent
    choice(wanted.project, (allowed.main_project, *allowed.allowed_projects), "allowed project")
    choice(wanted.category, app.config.router.categories, "category")
    given = None if is_piped else wanted.text
    text = goal_text(given, sys.stdin, app.config.limits.goal_bytes, lambda: render.note(_WAITING))
    return replace(wanted, text=text)


async def _run(app: "App", wanted: "Goal", max_steps: int, *, pieces: bool, json: bool) -> None:
    from opskit.agent.fact import FactSolver, asks_fact
    from opskit.engine.goal import RunFailed
    from opskit.llm.wording import parted

    method = wanted.method
    if method == "auto":
        method = method_of(wanted.text, enhanced=enhanced(app.environ))
    # One question to a model needs nothing of the agent, whose modules take a while to import.
    if method != "simple" or wanted.use_cache or (wanted.method == "auto" and parted(wanted.text)[1]):
        app.engine.solver = local_victoria(app, max_steps)
    elif asks_fact(wanted.text):
        app.engine.solver = FactSolver(app)
    with contextlib.ExitStack() as stack:
        if wanted.session_id is not None:
            from pathlib import Path

            from opskit.server.database import open_database
            from opskit.server.run_store import RunStore

            # This machine and its agent server share their conversations.
            store = RunStore(open_database(app.environ.get("DATABASE_URL"), Path(app.folder)), "")
            app.engine.sessions = stack.enter_context(contextlib.closing(store))
        try:
            result, shown = await answer(app.engine, wanted, stream=pieces)
        except RunFailed as failed:
            _account(failed.attempts)
            raise
    show_result(result, json=json, shown=shown)


def show_result(result: "RunResult", *, json: bool, shown: bool = False) -> None:
    """The answer to stdout, unless it is `shown`, and who gave it to stderr."""
    if result.prompt_cut is not None:
        render.note(f"warning: {result.prompt_cut.text}. Next: {result.cut_remedy}")
    if json:
        render.document(result.as_json())
        return
    if not shown:
        render.line(result.output.strip("\n"))
    _account(result.attempts)
    for note in result.notes:
        render.note(f"note: {note}")
    render.note(
        f"answered by {result.answered_by} in {result.seconds:.2f} s "
        f"(method {result.method}, correlation id {result.correlation_id})"
    )


def local_victoria(app: "App", max_steps: int = 8) -> "Solver":
    """The agent of this process; each of its steps is shown while it works."""
    from opskit.agent.run_state import RunLimits, RunListener
    from opskit.server.local_runs import LocalVictoria

    listener = RunListener(show_step, on_note=render.note, approve=ask_approval)
    return LocalVictoria(app, RunLimits(steps=max_steps), listener)


def show_step(step: "AgentStep") -> None:
    """One step of the agent on stderr, while it works."""
    import json

    arguments = json.dumps(step.args, ensure_ascii=False) if step.args else ""
    why = f": {render.printable(step.thought)}" if step.thought else ""
    render.note(f"step: {step.tool} {render.printable(arguments)}{why}")


async def ask_approval(needed: "NeedsApproval") -> bool | None:
    """Ask for a command at a terminal; without one the run waits for `opskit approve`."""
    import asyncio
    import shlex

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    render.note(f"the agent wants to run: {render.printable(shlex.join(needed.argv))}")
    render.note(f"  the policy asks: {render.printable(needed.why)} (rule {needed.rule})")
    return await asyncio.to_thread(typer.confirm, "  run it?", default=False, err=True)


async def answer(
    engine: "Engine", goal: "Goal", *, stream: bool, session: "Session | None" = None
) -> "tuple[RunResult, bool]":
    """Return the result, and whether its text was shown while it came."""
    from opskit.engine.goal import RunResult

    shown = False
    try:
        async with contextlib.aclosing(engine.stream(goal, session, render.note, pieces=stream)) as items:
            async for item in items:
                if isinstance(item, RunResult):
                    return item, shown
                shown = True
                render.piece(item)
    finally:
        if shown:
            render.piece("\n")
    raise AssertionError("a run ends with a result or raises")


def _account(attempts: "tuple[Attempt, ...]") -> None:
    for number, attempt in enumerate(attempts, 1):
        if attempt.fault is not None:
            render.note(
                f"attempt {number}: {attempt.model} on {attempt.node}: {attempt.fault} "
                f"after {attempt.seconds:.3f} s ({attempt.detail})"
            )
