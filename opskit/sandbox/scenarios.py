"""The scenarios of `opskit drill`: each a fault that real servers show, and what a caller must see.

A primary and a healthy spare stand on loopback; the primary is scanned while it is well, then the fault is
switched on, as in life. The names follow the wire facts.
"""

from typing import Literal

from opskit.llm.faults import FaultKind as F
from opskit.llm.verdict import Verdict
from opskit.records import Record

#: What the caller must see in the end.
Expect = Literal["spare", "primary", "broken", "error", "either"]


class Scenario(Record):
    """One fault and its right outcome.

    `fault` is a spec for the primary, without its name (`crash,times=1`). `first` are the faults or verdicts
    that the first attempt may be recorded with, empty when it must succeed. `expect`: the spare's answer, the
    primary's own, a stream that breaks with an explicit error, or an honest error. `player` names how it is
    played: `once` for what one request can show.
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
    player: str = "once"


def _scenario(name: str, injected: str, fault: str, *first: F | Verdict, **settings: object) -> Scenario:
    return Scenario(name, injected, fault=fault, first=frozenset(f.value for f in first), **settings)  # type: ignore[arg-type]


def _mlx(name: str, injected: str, fault: str, *first: F | Verdict, **settings: object) -> Scenario:
    return _scenario(name, injected, fault, *first, primary="mlx", **settings)


def _not_blamed(name: str, injected: str, fault: str, first: F, **settings: object) -> Scenario:
    """A fault of one request: the model is asked again."""
    return _scenario(name, injected, f"{fault},times=1", first, player="not-blamed", **settings)


SCENARIOS: tuple[Scenario, ...] = (
    _scenario("refused", "Ollama's port closes", "refuse", F.REFUSED),
    _scenario(
        "silence", "Ollama accepts and never answers", "silence", F.FIRST_TOKEN_TIMEOUT, F.WEDGED, waits=True
    ),
    _scenario("reset", "Ollama resets the connection", "reset", F.RESET),
    _scenario("crash-once", "the model runner dies once", "crash,times=1", F.RUNNER_CRASHED),
    _scenario("crash", "the model runner dies every time", "crash", F.RUNNER_CRASHED, player="again"),
    _scenario("crash-old", "the runner dies with the text of old builds", "crash-old", F.RUNNER_CRASHED),
    _scenario("oom", "loading the model runs out of memory", "oom", F.OUT_OF_MEMORY, resident=False),
    _scenario("killed", "the kernel kills the runner: signal: killed", "killed", F.OUT_OF_MEMORY),
    _scenario("broken-file", "500, the file of the model is cut short", "broken-file", F.BROKEN_MODEL_FILE),
    _scenario("blob-missing", "404, and the model is listed", "blob-missing", F.BROKEN_MODEL_FILE),
    _scenario("broken-template", "500, the chat template is broken", "broken-template", F.BROKEN_TEMPLATE),
    _scenario(
        "unknown-architecture",
        "500, the server is too old for the model",
        "unknown-architecture",
        F.UNKNOWN_ARCHITECTURE,
    ),
    _not_blamed("bad-option", "500 once for an option of the wrong type", "bad-option", F.BAD_REQUEST),
    _not_blamed(
        "context-exceeded",
        "400 once, the prompt is longer than the context",
        "context-exceeded",
        F.CONTEXT_EXCEEDED,
    ),
    _not_blamed("unparsable", "500 once, one answer cannot be parsed", "unparsable", F.UNPARSABLE_ANSWER),
    _scenario(
        "slow-load", "loading takes 2 s", "slow-load,seconds=2", expect="primary", resident=False, waits=True
    ),
    _scenario(
        "give-up-during-load",
        "the caller gives up during a load of 2 s and asks again",
        "slow-load,seconds=2",
        expect="primary",
        resident=False,
        waits=True,
        player="give-up",
    ),
    _scenario("fast-503", "Ollama answers 503 server busy at once", "fast-503", F.BUSY),
    _scenario(
        "rate-limited",
        "429 with Retry-After: 30, a spare is there",
        "rate-limited,retry_after=30",
        F.RATE_LIMITED,
    ),
    _scenario(
        "retry-after",
        "429 with Retry-After: 1 once, no spare",
        "rate-limited,retry_after=1,times=1",
        F.RATE_LIMITED,
        expect="primary",
        spare=False,
        waits=True,
    ),
    _scenario("not-installed", "404, the model was removed", "not-installed", F.NOT_INSTALLED),
    _scenario(
        "ps-blocks",
        "/api/ps never answers while a runner loads",
        "ps-blocks",
        expect="either",
        waits=True,
        player="cold",
    ),
    _scenario("garbage", "200 with a body that is no JSON", "garbage", F.BAD_PAYLOAD),
    _scenario("unauthorised", "401", "unauthorised", F.UNAUTHORISED),
    _scenario(
        "error-inband",
        "an error line after three tokens under a 200",
        "error-inband,after=3",
        F.RUNNER_CRASHED,
        F.SERVER_ERROR,
    ),
    _scenario("empty", "an empty answer with 200", "empty", Verdict.EMPTY),
    _scenario("echo", "the prompt comes back", "echo", Verdict.ECHO),
    _scenario("loop", "one sentence for ever", "loop", Verdict.LOOP),
    _scenario("length", "the answer is cut at the token limit", "length", Verdict.CUT_OFF),
    _scenario("done-false", "200 with done: false and half an answer", "done-false", F.TRUNCATED),
    _scenario("cut-before", "the connection drops before the first token", "cut,after=0", F.TRUNCATED),
    _scenario("cut-after", "the connection drops after three tokens", "cut,after=3", F.TRUNCATED),
    _scenario(
        "cut-before-streamed",
        "streamed: the connection drops before the first token",
        "cut,after=0",
        F.TRUNCATED,
        streamed=True,
    ),
    _scenario(
        "cut-after-streamed",
        "streamed: the connection drops when text has been shown",
        "cut,after=30",
        F.TRUNCATED,
        expect="broken",
        streamed=True,
    ),
    _scenario("echo-streamed", "streamed: the prompt comes back", "echo", Verdict.ECHO, streamed=True),
    _scenario(
        "hang-midstream",
        "tokens stop in the middle, the connection stays",
        "hang-midstream,after=3",
        F.IDLE_TIMEOUT,
        waits=True,
    ),
    _scenario(
        "slow-token", "the first token takes 2 s", "slow-token,seconds=2", expect="primary", waits=True
    ),
    _mlx("mlx-zombie", "MLX: health 200, no tokens", "zombie", F.WEDGED, waits=True),
    _mlx(
        "mlx-404",
        "MLX: 404 for everything",
        "notfound-all",
        F.SERVER_ERROR,
        F.OUT_OF_MEMORY,
        F.NOT_INSTALLED,
        F.WEDGED,
    ),
    _mlx("mlx-broken-file", "MLX: 404, broken weights", "broken-file", F.BROKEN_MODEL_FILE),
    _mlx("mlx-broken-template", "MLX: 404, no chat template", "broken-template", F.BROKEN_TEMPLATE),
    _mlx(
        "mlx-unknown-architecture",
        "MLX: 404, the server is too old for the model",
        "unknown-architecture",
        F.UNKNOWN_ARCHITECTURE,
    ),
    _not_blamed(
        "llama-context-exceeded",
        "llama.cpp: 400 once, the prompt is longer than the context",
        "context-exceeded",
        F.CONTEXT_EXCEEDED,
        primary="mlx",
    ),
    _not_blamed(
        "llama-unparsable",
        "llama.cpp: an error under a 200 once, one answer cannot be parsed",
        "unparsable",
        F.UNPARSABLE_ANSWER,
        primary="mlx",
    ),
    _mlx("mlx-empty-reply", "MLX: closed without a byte", "empty-reply", F.EMPTY_REPLY),
    _mlx(
        "mlx-loading",
        "MLX: 503 with Retry-After: 1 while a model is staged",
        "loading-503,retry_after=1",
        F.LOADING,
    ),
    _mlx(
        "mlx-unknown-name",
        "MLX is asked for a name it does not list",
        "",
        expect="error",
        player="unknown-name",
    ),
    _scenario("flapping", "Ollama goes away and comes back", "", waits=True, player="flapping"),
    _scenario("both-dead", "both ports close", "refuse", expect="error", player="both-dead"),
)
