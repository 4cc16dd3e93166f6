"""What `opskit recover` prints: one line a target, commands whole for copying, a verdict."""

from typing import TYPE_CHECKING

from opskit.cli import render
from opskit.recovery.outcome import RepairResult
from opskit.result import plain_document

if TYPE_CHECKING:
    from opskit.errors import OpskitError
    from opskit.recovery.outcome import RecoveryRun

_ABOUT = {
    RepairResult.OK: "well",
    RepairResult.REPAIRED: "repaired",
    RepairResult.WAITING: "on their way by themselves",
    RepairResult.LEFT: "left alone",
    RepairResult.PAUSED: "paused",
    RepairResult.WOULD_REPAIR: "would be repaired",
    RepairResult.NOT_YET: "waiting for their next try",
    RepairResult.FAILED: "not mended",
    RepairResult.MANUAL: "for a person",
    RepairResult.GAVE_UP: "given up",
    RepairResult.INCONCLUSIVE: "not judged",
}


def run(content: "RecoveryRun", *, as_json: bool, detailed: bool, absent: bool = False) -> None:
    """The outcomes; what is not part of this stack is left out of the text, unless `absent`."""
    if as_json:
        render.document(content.as_json(detailed=detailed))
        return
    shown = [outcome for outcome in content.outcomes if absent or outcome.result is not RepairResult.ABSENT]
    rows = []
    for outcome in shown:
        what = outcome.cause or ("well" if outcome.result is RepairResult.OK else outcome.state)
        result = outcome.result.value.replace("_", " ")
        rows.append((outcome.target, result, f"{outcome.seconds:.1f}", what))
    render.table(("target", "result", "seconds", "what"), rows)
    for outcome in shown:
        for command in outcome.planned:
            render.line(f"{outcome.target}: would run `{command.shown}`")
        for done in outcome.ran:
            end = "" if done.exit == 0 else f": {done.said}"
            render.line(f"{outcome.target}: ran `{done.command.shown}` in {done.seconds:.1f} s{end}")
        if (
            outcome.remedy
            and not outcome.planned
            and not outcome.ran
            and outcome.as_finding().status not in ("pass", "skip")
        ):
            render.line(f"{outcome.target}: {render.printable(outcome.remedy)}")
    render.line(_verdict(content))


def another(problem: "OpskitError", *, as_json: bool) -> None:
    """Another run holds the lock, and that is no news for a timer."""
    if as_json:
        render.document(plain_document("recover", status="skip", detail=problem.message))
    else:
        render.note(f"{problem.message}: nothing to do")


def _verdict(content: "RecoveryRun") -> str:
    counts = [
        f"{count} {words}"
        for result, words in _ABOUT.items()
        if (count := content.counts.get(result.value, 0))
    ]
    was = "command was" if content.mutations == 1 else "commands were"
    changed = f"{content.mutations} {was} run" if content.mutations else "nothing was changed"
    about = ", ".join(counts) or "nothing of the stack is on this machine"
    return f"{about}; {changed}; {content.seconds:.1f} s"
