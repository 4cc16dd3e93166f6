"""`opskit run "goal"`: one goal, one answer; who gave it goes to stderr."""

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import ConfigOption, DebugOption, JsonOption, SandboxOption, VerboseOption
from opskit.errors import UsageError

if TYPE_CHECKING:
    from opskit.agent.step import AgentStep
    from opskit.agent.tools.tool import NeedsApproval
    from opskit.app import App
    from opskit.engine import Engine, Goal, RunResult, Solver
    from opskit.llm.answer import Attempt


def run(
    goal: Annotated[
        str | None,
        typer.Argument(
            help="What to do; what is piped in is added. `-` or nothing: standard input alone.",
            show_default=False,
        ),
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="Answer in this process, without Victoria.")] = False,
    remote: Annotated[bool, typer.Option("--remote", help="Through Victoria or not at all.")] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The model to ask first (in this process).", show_default=False),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(
            help="reasoning, coding, fast or default; found out when not given.", show_default=False
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="auto, simple (one question to a model) or react (steps with tools)."),
    ] = "auto",
    max_steps: Annotated[int, typer.Option("--max-steps", min=1, max=50, help="Of the method react.")] = 8,
    background: Annotated[
        bool,
        typer.Option("--async", help="Queue it at Victoria, print the id of the run, and do not wait."),
    ] = False,
    follow: Annotated[
        str | None,
        typer.Option(
            "--follow", metavar="ID", help="Wait for a run at Victoria and show it.", show_default=False
        ),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer as it comes.")] = False,
    strict_context: Annotated[
        bool,
        typer.Option(
            "--strict-context",
            help="No answer where the model could not read the whole prompt; answers in this process.",
        ),
    ] = False,
    sandbox: SandboxOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Run a goal through Victoria when she answers, else through the models of this machine."""
    del debug  # read by main
    if local and remote:
        raise UsageError("--local and --remote exclude each other", remedy="`opskit run --help`")
    if follow is not None and (goal is not None or background):
        raise UsageError("--follow takes no goal", remedy="`opskit run --follow ID`")
    if background and (local or stream or strict_context):
        raise UsageError(
            "--async cannot be used with --local, --stream or --strict-context: it runs at Victoria",
            remedy="drop one of them",
        )
    remote = remote or background
    if remote and model is not None:
        raise UsageError(
            "--model cannot be used with --remote: Victoria chooses her model herself",
            remedy="set VICTORIA_MODEL where she runs, or use --local",
        )
    if remote and strict_context:
        raise UsageError(
            "--strict-context cannot be used with --remote: Victoria does not tell what her model read",
            remedy="drop one of them",
        )
    from opskit.agent.method import METHODS

    if method not in ("auto", *METHODS):
        raise UsageError(f"--method {method!r} is not known", remedy=f"use auto, {' or '.join(METHODS)}")
    if follow is not None:
        context.run(_follow(follow, sandbox=sandbox, config=config, json=json, verbose=verbose))
        return
    context.run(
        _run(
            goal,
            background=background,
            method=method,
            max_steps=max_steps,
            where="local" if local or strict_context else "remote" if remote else "auto",
            model=model,
            category=category,
            stream=stream and not json and not strict_context,
            strict_context=strict_context,
            sandbox=sandbox,
            config=config,
            json=json,
            verbose=verbose,
        )
    )


async def _run(
    goal: str | None,
    *,
    background: bool,
    method: str,
    max_steps: int,
    where: str,
    model: str | None,
    category: str | None,
    stream: bool,
    strict_context: bool,
    sandbox: bool,
    config: str | None,
    json: bool,
    verbose: bool,
) -> None:
    from opskit.agent.method import method_of
    from opskit.cli.inputs import goal_text, name_of_category, name_of_model
    from opskit.engine import Goal, RunFailed
    from opskit.result import SCHEMA_VERSION

    async with context.opened(config, verbose=verbose, sandbox=sandbox) as root:
        goal_given = Goal(
            goal_text(goal, sys.stdin, root.config.limits.goal_bytes, _waiting),
            where,
            name_of_model(model),
            name_of_category(category, root.config.router.categories),
            strict_context,
            method,
        )
        if background:
            receipt = await root.engine.submit(goal_given, {"method": method, "max_steps": max_steps})
            if json:
                render.document({"schema_version": SCHEMA_VERSION, "ok": True, **receipt})
            else:
                render.line(str(receipt["task_id"]))
                render.note("queued at Victoria; `opskit run --follow ID` waits for its answer")
            return
        if (method_of(goal_given.text) if method == "auto" else method) != "simple":
            root.engine.solver = local_victoria(root, max_steps)
        try:
            result = await _answer(root.engine, goal_given, stream=stream)
        except RunFailed as failed:
            _account(failed.attempts)
            raise
    show_result(result, json=json, shown=stream and result.node != "victoria")


async def _follow(task_id: str, *, sandbox: bool, config: str | None, json: bool, verbose: bool) -> None:
    async with context.opened(config, verbose=verbose, sandbox=sandbox) as root:
        result = await root.engine.follow(task_id, render.note)
    show_result(result, json=json)


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
        f"answered by {result.model} on {result.node} in {result.seconds:.2f} s "
        f"(method {result.method}, correlation id {result.correlation_id})"
    )


def local_victoria(app: "App", max_steps: int = 8) -> "Solver":
    """The agent of this process; each of its steps is shown while it works."""
    from opskit.agent.loop import RunLimits
    from opskit.server.local_victoria import LocalVictoria

    limits = RunLimits(steps=max_steps)
    return LocalVictoria(app, limits=limits, on_step=show_step, on_note=render.note, approve=ask_approval)


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


def _waiting() -> None:
    render.note("waiting for standard input, which is added to the goal (`</dev/null` if there is none)")


async def _answer(engine: "Engine", goal: "Goal", *, stream: bool) -> "RunResult":
    from opskit.engine import RunResult

    shown = False
    try:
        async with contextlib.aclosing(engine.stream(goal, None, render.note, pieces=stream)) as items:
            async for item in items:
                if isinstance(item, RunResult):
                    return item
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
