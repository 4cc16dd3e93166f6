"""The findings of an examination: each with what to type next, by its fault and the kind of server. Pure."""

from collections.abc import Sequence

from opskit.llm.catalog import NodeView
from opskit.llm.exam import ExamResult
from opskit.llm.exam_outcome import ExamOutcome
from opskit.llm.faults import FaultKind
from opskit.llm.plan import Skipped
from opskit.llm.remedies import fault_remedy
from opskit.llm.verdict import Verdict
from opskit.providers.kinds import ServerKind
from opskit.result import Finding, Report, Status

_CRASHES = {
    FaultKind.RUNNER_CRASHED,
    FaultKind.RESET,
    FaultKind.EMPTY_REPLY,
    FaultKind.TRUNCATED,
    FaultKind.SERVER_ERROR,
    FaultKind.BAD_PAYLOAD,
}
_SILENCES = {
    FaultKind.WEDGED,
    FaultKind.FIRST_TOKEN_TIMEOUT,
    FaultKind.IDLE_TIMEOUT,
    FaultKind.TOTAL_TIMEOUT,
}
_ABSENCES = {FaultKind.REFUSED, FaultKind.UNREACHABLE, FaultKind.CONNECT_TIMEOUT}


def report(outcome: ExamOutcome, views: Sequence[NodeView]) -> Report:
    """Return nodes that were not read, each model, models that were not tested, and the sum."""
    kinds = {view.name: view.likely_kind for view in views}
    return Report(
        "models test",
        [
            *outcome.unread,
            *(_tested(result, kinds[result.examinee.node]) for result in outcome.results),
            *map(absent, outcome.selection.absent),
            *map(_skipped, outcome.selection.skipped),
            _sum(outcome),
        ],
    )


def _tested(result: ExamResult, kind: ServerKind) -> Finding:
    examinee = result.examinee
    slow = "`opskit models loaded` shows whether it is partly on the CPU" if result.state == "slow" else None
    times = {
        key: value for key, value in result.as_json().items() if key.endswith("_s") and value is not None
    }
    return Finding(
        check="model",
        target=f"{examinee.node}/{examinee.model}",
        status=result.status,
        state=result.state,
        detail=result.detail,
        code=result.code,
        remedy=slow if result.works else _remedy(result, kind),
        seconds=result.total_s or 0.0,
        evidence=times,
    )


def absent(skip: Skipped) -> Finding:
    """Return the finding of a model that was asked for by name, and cannot be asked."""
    target, state, code = skip.model, "not_installed", "MODEL_001"
    remedy = f"`opskit models list` shows the names; `ollama pull {skip.model}` installs one"
    if skip.node:
        target, state, code = f"{skip.node}/{skip.model}", "out_of_memory", "MODEL_003"
        remedy = "`opskit models loaded` shows what fills the memory; `opskit models list` shows what fits"
    return Finding("model", target, Status.FAIL, state, skip.why, code, remedy)


def _skipped(skip: Skipped) -> Finding:
    return Finding("model", f"{skip.node}/{skip.model}", Status.SKIP, "not tested", skip.why)


def _sum(outcome: ExamOutcome) -> Finding:
    tested, working = outcome.tested, outcome.working
    if not tested:
        remedy = "`opskit models list` shows what there is, `opskit probe` what answers"
        if outcome.selection.unloaded or outcome.selection.untold:
            remedy = "`opskit models test --all` loads and tests every model that fits"
        status, detail = Status.INCONCLUSIVE, _why_nothing(outcome)
        return Finding("exam", "models", status, "nothing tested", detail, "MODEL_001", remedy)
    seconds = sum(result.total_s or 0.0 for result in tested)
    if len(working) == len(tested):
        detail = f"all {len(tested)} models tested work" if len(tested) > 1 else "the one model tested works"
        return Finding("exam", "models", Status.PASS, "ok", detail, seconds=seconds)
    broken = ", ".join(f"{result.examinee} ({result.state})" for result in tested if not result.works)
    detail = f"{len(working)} of {len(tested)} tested models work; not: {broken}"
    return Finding("exam", "models", Status.FAIL, "failing", detail, "MODEL_004", seconds=seconds)


def _why_nothing(outcome: ExamOutcome) -> str:
    selection = outcome.selection
    reasons = [f"{skip.model}: {skip.why}" for skip in (*selection.absent, *selection.skipped)]
    reasons += [f"{result.examinee}: {result.detail}" for result in outcome.results]
    if reasons:
        return f"nothing was tested: {'; '.join(reasons[:4])}"
    unread = ", ".join(finding.target for finding in outcome.unread)
    loaded = (
        f"no model is known to be loaded ({unread} could not be read)" if unread else "no model is loaded"
    )
    return f"{loaded}, so there was none to test"


def _remedy(result: ExamResult, kind: ServerKind) -> str | None:
    model, node, state = result.examinee.model, result.examinee.node, result.state
    again = f"`opskit models test --node {node} --model {model}`"
    if state in _CRASHES:
        if kind.log:
            return f"{kind.log} tells why; then {again}"
        return f"look at the log of {node}, restart it, {again}"
    if state in _SILENCES:
        if kind.unload:
            return f"{kind.unload_hint(model)}, then {again}; if that hangs: {kind.restart}"
        return f"`opskit probe --verbose` tells busy and wedged apart; restart {node} if wedged"
    if state in _ABSENCES:
        return "`opskit probe` tells what answers and how to start the rest"
    if state == Verdict.ONLY_THINKING:
        return f"{model} needs more tokens to think than the test allows; choose a model that thinks less"
    if state in set(Verdict):
        if kind.pull:
            return f"its template may be broken: {kind.pull_hint(model)} renews it"
        return "its chat template may be broken: use another conversion of the model"
    if state == "unloaded":
        return f"`opskit models test --model {model}` loads it"
    remedy = (
        fault_remedy(FaultKind(state), model=model, node=node, server=kind, again=again)
        if state in set(FaultKind)
        else None
    )
    return remedy or "`opskit probe --verbose` shows the state of the node"
