"""The scenarios of `opskit drill`: each a fault that real servers show, and what a caller must see.

A primary and a healthy spare stand on loopback; the primary is scanned while it is well, then the fault is
switched on, as in life. The names follow the wire facts.
"""

from typing import Literal

from opskit.llm.faults import FaultKind as F
from opskit.llm.verdict import Verdict
from opskit.records import Record, replace

_LOAD = "slow-load,seconds=2"
#: What the caller must see in the end.
Expect = Literal["spare", "primary", "broken", "error", "either"]


class Scenario(Record):
    """One fault and its right outcome.

    `fault` is a spec for the primary, without its name (`crash,times=1`). `first` are the faults or verdicts
    that the first attempt may be recorded with, empty when it must succeed. `expect`: the spare's answer, the
    primary's own, a stream that breaks with an explicit error, or an honest error. `scanned`: the primary is
    known before the fault. `player` names how it is played: `once` for what one request can show.
    """

    name: str
    injected: str
    primary: Literal["ollama", "mlx"] = "ollama"
    fault: str = ""
    first: frozenset[str] = frozenset()
    expect: Expect = "spare"
    resident: bool = True
    streamed: bool = False
    spare: bool = True
    waits: bool = False
    scanned: bool = True
    player: str = "once"


def _scenario(
    name: str, injected: str, *first: F | Verdict, fault: str | None = None, **settings: object
) -> Scenario:
    """Return a scenario that is named after its fault, and after its primary where that is not Ollama."""
    kind = name.removeprefix("mlx-").removeprefix("llama-")
    return Scenario(
        name,
        injected,
        primary="ollama" if kind == name else "mlx",
        fault=kind if fault is None else fault,
        first=frozenset(failure.value for failure in first),
        **settings,  # type: ignore[arg-type]
    )


def _not_blamed(name: str, injected: str, first: F) -> Scenario:
    """A fault of one request: the model is asked again."""
    scenario = _scenario(name, injected, first, player="not-blamed")
    return replace(scenario, fault=f"{scenario.fault},times=1")


SCENARIOS: tuple[Scenario, ...] = (
    _scenario("refused", "Ollama's port closes", F.REFUSED, fault="refuse"),
    _scenario("silence", "Ollama accepts and never answers", F.FIRST_TOKEN_TIMEOUT, F.WEDGED, waits=True),
    _scenario("reset", "Ollama resets the connection", F.RESET),
    _scenario("crash-once", "the model runner dies once", F.RUNNER_CRASHED, fault="crash,times=1"),
    _scenario("crash", "the model runner dies every time", F.RUNNER_CRASHED, player="again"),
    _scenario("crash-old", "the runner dies with the text of old builds", F.RUNNER_CRASHED),
    _scenario("oom", "loading the model runs out of memory", F.OUT_OF_MEMORY, resident=False),
    _scenario("killed", "the kernel kills the runner: signal: killed", F.OUT_OF_MEMORY),
    _scenario("broken-file", "500, the file of the model is cut short", F.BROKEN_MODEL_FILE),
    _scenario("blob-missing", "404, and the model is listed", F.BROKEN_MODEL_FILE),
    _scenario("broken-template", "500, the chat template is broken", F.BROKEN_TEMPLATE),
    _scenario("unknown-architecture", "500, the server is too old for the model", F.UNKNOWN_ARCHITECTURE),
    _not_blamed("bad-option", "500 once for an option of the wrong type", F.BAD_REQUEST),
    _not_blamed("context-exceeded", "400 once, the prompt is longer than the context", F.CONTEXT_EXCEEDED),
    _not_blamed("unparsable", "500 once, one answer cannot be parsed", F.UNPARSABLE_ANSWER),
    _scenario("slow-load", "loading takes 2 s", fault=_LOAD, expect="primary", resident=False, waits=True),
    _scenario(
        "give-up-during-load",
        "the caller gives up during a load of 2 s and asks again",
        fault=_LOAD,
        expect="primary",
        resident=False,
        waits=True,
        player="give-up",
    ),
    _scenario("fast-503", "Ollama answers 503 server busy at once", F.BUSY),
    _scenario(
        "rate-limited",
        "429 with Retry-After: 30, a spare is there",
        F.RATE_LIMITED,
        fault="rate-limited,retry_after=30",
    ),
    _scenario(
        "retry-after",
        "429 with Retry-After: 1 once, no spare",
        F.RATE_LIMITED,
        fault="rate-limited,retry_after=1,times=1",
        expect="primary",
        spare=False,
        waits=True,
    ),
    _scenario("not-installed", "404, the model was removed", F.NOT_INSTALLED),
    _scenario(
        "ps-blocks", "/api/ps never answers while a runner loads", expect="either", waits=True, scanned=False
    ),
    _scenario("garbage", "200 with a body that is no JSON", F.BAD_PAYLOAD),
    _scenario("unauthorised", "401", F.UNAUTHORISED),
    _scenario(
        "error-inband",
        "an error line after three tokens under a 200",
        *(F.RUNNER_CRASHED, F.SERVER_ERROR),
        fault="error-inband,after=3",
    ),
    _scenario("empty", "an empty answer with 200", Verdict.EMPTY),
    _scenario("echo", "the prompt comes back", Verdict.ECHO),
    _scenario("loop", "one sentence for ever", Verdict.LOOP),
    _scenario("length", "the answer is cut at the token limit", Verdict.CUT_OFF),
    _scenario("done-false", "200 with done: false and half an answer", F.TRUNCATED),
    _scenario("cut-before", "the connection drops before the first token", F.TRUNCATED, fault="cut,after=0"),
    _scenario("cut-after", "the connection drops after three tokens", F.TRUNCATED, fault="cut,after=3"),
    _scenario(
        "cut-before-streamed",
        "streamed: the connection drops before the first token",
        F.TRUNCATED,
        fault="cut,after=0",
        streamed=True,
    ),
    _scenario(
        "cut-after-streamed",
        "streamed: the connection drops when text has been shown",
        F.TRUNCATED,
        fault="cut,after=30",
        expect="broken",
        streamed=True,
    ),
    _scenario("echo-streamed", "streamed: the prompt comes back", Verdict.ECHO, fault="echo", streamed=True),
    _scenario(
        "hang-midstream",
        "tokens stop in the middle, the connection stays",
        F.IDLE_TIMEOUT,
        fault="hang-midstream,after=3",
        waits=True,
    ),
    _scenario(
        "slow-token", "the first token takes 2 s", fault="slow-token,seconds=2", expect="primary", waits=True
    ),
    _scenario("mlx-zombie", "MLX: health 200, no tokens", F.WEDGED, waits=True),
    _scenario(
        "mlx-404",
        "MLX: 404 for everything",
        *(F.SERVER_ERROR, F.OUT_OF_MEMORY, F.NOT_INSTALLED, F.WEDGED),
        fault="notfound-all",
    ),
    _scenario("mlx-broken-file", "MLX: 404, broken weights", F.BROKEN_MODEL_FILE),
    _scenario("mlx-broken-template", "MLX: 404, no chat template", F.BROKEN_TEMPLATE),
    _scenario(
        "mlx-unknown-architecture", "MLX: 404, the server is too old for the model", F.UNKNOWN_ARCHITECTURE
    ),
    _not_blamed(
        "llama-context-exceeded",
        "llama.cpp: 400 once, the prompt is longer than the context",
        F.CONTEXT_EXCEEDED,
    ),
    _not_blamed(
        "llama-unparsable",
        "llama.cpp: an error under a 200 once, one answer cannot be parsed",
        F.UNPARSABLE_ANSWER,
    ),
    _scenario("mlx-empty-reply", "MLX: closed without a byte", F.EMPTY_REPLY),
    _scenario(
        "mlx-loading",
        "MLX: 503 with Retry-After: 1 while a model is staged",
        F.LOADING,
        fault="loading-503,retry_after=1",
    ),
    _scenario(
        "mlx-unknown-name",
        "MLX is asked for a name it does not list",
        fault="",
        expect="error",
        player="unknown-name",
    ),
    _scenario("flapping", "Ollama goes away and comes back", fault="", waits=True, player="flapping"),
    _scenario("both-dead", "both ports close", fault="", expect="error", player="both-dead"),
)
