"""What is wrong with a text that came without an error, and the states in which nodes and agents are shown.

States are named by their words: `opskit.checks` stands beside this package, not below it. A test compares.
"""

from opskit.errors import CATALOGUE, Exit
from opskit.explain.entry import Explanation, ExplanationKind
from opskit.llm.verdict import Verdict


def _verdict(kind: Verdict, title: str, cause: str, remedy: str, *see: str) -> Explanation:
    return Explanation(ExplanationKind.VERDICT, kind.value, title, cause, remedy, "MODEL_004", see=see)


def _state(
    key: str,
    title: str,
    cause: str,
    remedy: str,
    code: str | None = None,
    exit_: Exit = Exit.FAILED,
    see: tuple[str, ...] = (),
) -> Explanation:
    status = CATALOGUE[code].http_status if code else None
    return Explanation(ExplanationKind.STATE, key, title, cause, remedy, code, status, exit_, see)


VERDICTS: tuple[Explanation, ...] = (
    _verdict(
        Verdict.EMPTY,
        "the answer is empty",
        "the model wrote nothing, nothing after its thoughts, or only control tokens, unseen characters, "
        "empty markup or null: a template that does not fit, or a model that ends at once",
        "`opskit models test` shows which models answer; raise max_tokens for a model that thinks aloud",
        "cut_off",
    ),
    _verdict(
        Verdict.ECHO,
        "the answer repeats the prompt",
        "the answer adds nothing to the prompt: it is the prompt, its beginning or copies of it, in whatever "
        "case, quotes or labels; a base model without chat training, or a wrong chat template, does that. A "
        "greeting, a completion, a choice out of the prompt, or a text to be repeated, translated or "
        "corrected is no echo",
        "use an instruct or chat model: `opskit models test` finds those that only echo",
    ),
    _verdict(
        Verdict.LOOP,
        "the answer repeats itself without end",
        "words, a sentence or a list item come again and again, more often than the goal asks for; a stream "
        "is stopped after about 300 such characters, or 2,000 in a table or code: a small or heavily "
        "quantised model, temperature 0, or a context that is full",
        "take a larger model, raise the temperature or num_ctx",
    ),
    _verdict(
        Verdict.CUT_OFF,
        "the answer ends at the token limit",
        "max_tokens was reached before the end; mlx_lm.server allows 512 when nothing is said",
        "raise max_tokens or num_ctx, or ask for less",
        "truncated",
    ),
)

STATES: tuple[Explanation, ...] = (
    _state(
        "ok",
        "it works",
        "the last rung of its ladder answered: a first token, or the status page of an agent",
        "nothing is to be done",
        exit_=Exit.OK,
    ),
    _state(
        "slow",
        "it works, slowly",
        "the first token or the page came later than `probe.slow_first_token_s` or `probe.slow_http_s` "
        "allow: a large model, part of it on the CPU, or other work on the machine",
        "`opskit models test` measures it, `opskit models loaded` shows what is in memory",
        exit_=Exit.OK,
    ),
    _state(
        "idle",
        "it is well and has no model loaded",
        "nobody asked lately, so the model was unloaded; a probe loads nothing by itself",
        "`opskit probe --load` loads the smallest model and asks it for a token",
        exit_=Exit.INCONCLUSIVE,
    ),
    _state(
        "busy",
        "it is working for somebody else",
        "no token came for the probe, but there is evidence of work: progress, other requests that ended, or "
        "processor time",
        "wait, then `opskit probe`",
        exit_=Exit.INCONCLUSIVE,
        see=("503",),
    ),
    _state(
        "loading",
        "it is loading a model",
        "a large model takes 30 to 90 s; meanwhile Ollama's list of loaded models may not answer",
        "wait, then `opskit probe`; do not cancel the request that loads",
        exit_=Exit.INCONCLUSIVE,
        see=("499", "503"),
    ),
    _state(
        "wedged",
        "it accepts connections and gives no token",
        "its generation thread died or hangs, or the process is stopped, while its health page stays green",
        "restart it; `opskit probe` names the process and the exact command",
        "MODEL_002",
        see=("first_token_timeout",),
    ),
    _state(
        "failing",
        "it answers with errors",
        "the model's runner crashes, no model is installed, or an agent runs into errors of its own",
        "`opskit probe --verbose` shows the rung and the error text; `opskit explain -` reads that text",
        "GEN_001",
        see=("runner_crashed", "500"),
    ),
    _state(
        "refused",
        "nothing listens at its address",
        "the server or the container is not running, or the port is another",
        "`ollama serve`, `mlx_lm.server --model DIR --port 11435` or `docker start NAME`; or correct the "
        "address",
        "COMM_001",
    ),
    _state(
        "unreachable",
        "its host cannot be reached",
        "the name does not resolve, there is no route, or a firewall drops the packets",
        "`opskit config show` tells where the address comes from; check the name and the network",
        "COMM_002",
        see=("connect_timeout",),
    ),
    _state(
        "unauthorised",
        "it refuses our key",
        "a key is missing, wrong or expired",
        "set `nodes.NAME.api_key: ${NAME}` (agents: `agents.NAME.api_key`) and export NAME",
        "COMM_001",
        see=("401", "403"),
    ),
    _state(
        "not configured",
        "it has no address",
        "it was switched off with an empty address, so it is not asked",
        "set its address: OLLAMA_API_URL, MLX_API_URL, VICTORIA_URL or VERONICA_URL",
        exit_=Exit.OK,
    ),
)
