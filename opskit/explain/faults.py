"""How calls fail: every `FaultKind` of the router, with the cause behind it and the next thing to type.

`http_status` is what the wire shows with it; a connection that breaks shows none.
"""

from opskit.explain.entry import Explanation, ExplanationKind
from opskit.llm.faults import FaultKind


def _fault(
    kind: FaultKind,
    title: str,
    cause: str,
    remedy: str,
    code: str = "MODEL_004",
    status: int | None = None,
    see: tuple[str, ...] = (),
) -> Explanation:
    return Explanation(ExplanationKind.FAULT, kind.value, title, cause, remedy, code, status, see=see)


_CONNECTION = (
    _fault(
        FaultKind.REFUSED,
        "nothing listens at the address",
        "the server is not running, listens on another port or address, or `localhost` inside a container "
        "means the container itself",
        "start it (`ollama serve`, `mlx_lm.server --model DIR --port 11435`); inside Docker use "
        "host.docker.internal; `opskit config show` tells where the address comes from",
        "MODEL_001",
        see=("COMM_001",),
    ),
    _fault(
        FaultKind.UNREACHABLE,
        "the host cannot be reached",
        "its name does not resolve, there is no route to it, or the TLS handshake fails",
        "`opskit config show` tells where the address comes from; check its name, its scheme and the network",
        "MODEL_001",
        see=("COMM_002",),
    ),
    _fault(
        FaultKind.CONNECT_TIMEOUT,
        "no connection within the time allowed",
        "the host is switched off or a firewall drops what is sent to it",
        "check the address and the firewall; `budgets.connect_s` is how long a connection may take",
        "MODEL_001",
        see=("COMM_002",),
    ),
    _fault(
        FaultKind.RESET,
        "the server reset the connection",
        "the process behind the port died or was restarted in the middle of the request; counts as a crash, "
        "and the model is not asked again in this session",
        "look at the end of the server's log for the reason; `opskit probe` shows whether it is back",
        see=("runner_crashed",),
    ),
    _fault(
        FaultKind.EMPTY_REPLY,
        "the server closed the connection without a word",
        "mlx_lm.server does so for a parameter it does not accept and for an exception while it generates "
        "(the reason stands in its own log only); a proxy when its server vanished",
        "read the log of the server; leave out parameters that it may not know",
        see=("truncated",),
    ),
)

_TIMES = (
    _fault(
        FaultKind.FIRST_TOKEN_TIMEOUT,
        "no first token in time",
        "the model works on a long prompt, waits behind other requests (Ollama queues on a loaded model "
        "without limit and without an error), or is wedged",
        "`opskit probe --verbose` tells busy from wedged; raise `budgets.first_token_s` for slow hardware",
        "MODEL_002",
        504,
        ("wedged", "busy"),
    ),
    _fault(
        FaultKind.IDLE_TIMEOUT,
        "the answer stopped in the middle",
        "tokens came, then none for longer than `budgets.idle_s`: a hung runner, a machine asleep or "
        "swapping",
        "`opskit probe`; free memory (`opskit models loaded`), or raise `budgets.idle_s`",
        "MODEL_002",
        see=("wedged",),
    ),
    _fault(
        FaultKind.TOTAL_TIMEOUT,
        "the whole request took too long",
        "all attempts together used up `budgets.total_s`; it blames no single model",
        "raise `budgets.total_s`, ask for less, or take a faster model (`opskit models test`)",
        "MODEL_002",
    ),
    _fault(
        FaultKind.LOAD_TIMEOUT,
        "the model did not load in time",
        "the load takes longer than `budgets.load_s`, or stood still for longer than OLLAMA_LOAD_TIMEOUT: a "
        "slow disk, too little memory, or another load in front of it",
        "raise `budgets.load_s`, then `opskit probe --load` says how long a load takes here; check disk and "
        "memory",
        "MODEL_002",
        500,
        ("loading", "499"),
    ),
    _fault(
        FaultKind.LOADING,
        "the model is still loading",
        "weights are being read; that takes 30 to 90 s for a large model and passes by itself",
        "wait, then `opskit probe`; do not cancel, because a client that leaves aborts the load",
        "MODEL_002",
        503,
        ("499", "load_timeout"),
    ),
    _fault(
        FaultKind.WEDGED,
        "the server accepts requests and answers none",
        "its generation thread died or hangs while its health page stays green (mlx_lm.server after a memory "
        "error, an Ollama runner that lost its GPU)",
        "restart it: `opskit probe` names the process and the command",
        "MODEL_002",
        see=("first_token_timeout",),
    ),
)

_SERVER = (
    _fault(
        FaultKind.RUNNER_CRASHED,
        "the model's runner crashed",
        "the process that runs the model ended: most often memory, else a driver or a bug; the next request "
        "loads it again and may crash it again",
        "`journalctl -u ollama -n 50` (macOS: ~/.ollama/logs/server.log) holds the reason; take a smaller "
        "model or a smaller num_ctx",
        status=500,
        see=("out_of_memory", "500"),
    ),
    _fault(
        FaultKind.OUT_OF_MEMORY,
        "the model does not fit in memory",
        "weights, context and parallel requests need more than is free; Ollama may unload all other models "
        "before it gives up; a runner that ended with `signal: killed` was probably killed by the kernel for "
        "want of memory",
        "`opskit models loaded` shows what is in memory; `ollama stop NAME`, a smaller model or num_ctx, "
        "OLLAMA_NUM_PARALLEL=1; `journalctl -k -n 50` shows what the kernel killed",
        "MODEL_003",
        500,
        ("runner_crashed",),
    ),
    _fault(
        FaultKind.BROKEN_MODEL_FILE,
        "the model's file is broken",
        "the file is damaged, cut short or missing: a download that broke off, a full or failing disk, a "
        "blob that was deleted by hand; the server itself is well, and a restart does not help",
        "`ollama rm NAME`, then `ollama pull NAME` (MLX: `hf download NAME --force-download`) fetches it "
        "again; `df -h` shows whether the disk is full; if a fresh file fails too, update the server",
        status=500,
        see=("unknown_architecture", "not_installed"),
    ),
    _fault(
        FaultKind.BROKEN_TEMPLATE,
        "the model's chat template is broken",
        "the template that turns messages into a prompt does not parse, uses what the server does not know, "
        "or is missing; the weights and the server are well",
        "`ollama show --template NAME` shows it, `ollama pull NAME` fetches the published one; llama.cpp "
        "takes `--chat-template-file FILE`, mlx_lm.server `--chat-template TEMPLATE`",
        status=500,
        see=("bad_request",),
    ),
    _fault(
        FaultKind.UNKNOWN_ARCHITECTURE,
        "the server is too old for the model",
        "the model's architecture, tokenizer or file version is newer than the server, which does not know "
        "it; memory and file are well",
        "update the server (Ollama: `curl -fsSL https://ollama.com/install.sh | sh`, macOS: `brew upgrade "
        "ollama`; MLX: `pip install --upgrade mlx-lm`), or choose another model (`opskit models list`)",
        status=500,
        see=("broken_model_file",),
    ),
    _fault(
        FaultKind.BUSY,
        "the server is full",
        "Ollama has more than OLLAMA_MAX_QUEUE requests that wait for a load, all slots of a runner are "
        "taken, or no provider is free",
        "wait and ask again; send fewer at once; `opskit models route` shows who else would be asked",
        status=503,
        see=("503", "rate_limited"),
    ),
    _fault(
        FaultKind.RATE_LIMITED,
        "more requests than the provider allows",
        "the limit of a cloud account or of a free model",
        "wait as long as Retry-After says, or use the models here: `opskit run --local`",
        status=429,
        see=("429",),
    ),
    _fault(
        FaultKind.NOT_INSTALLED,
        "the node does not have the model",
        "the name is not installed on Ollama, or mlx_lm.server took it for a repository and did not find it",
        "`opskit models list` shows the exact names; `ollama pull NAME` installs one; for MLX leave the name "
        "out",
        status=404,
        see=("404", "not_listed"),
    ),
    _fault(
        FaultKind.NOT_LISTED,
        "the node does not list the model",
        "the model was deleted or renamed since the list was read; nothing was sent",
        "`opskit models list` reads the list again",
        see=("not_installed",),
    ),
    _fault(
        FaultKind.UNAUTHORISED,
        "the server refuses who asks",
        "a missing or wrong key, no credit, or a Host header that Ollama does not accept",
        "set `nodes.NAME.api_key: ${NAME}` and export NAME; behind a proxy send `Host: localhost`",
        "MODEL_001",
        401,
        ("401", "402", "403"),
    ),
    _fault(
        FaultKind.BAD_REQUEST,
        "the server could not use the request",
        "an option of the wrong type, a format, a schema or a grammar that does not parse, or roles that the "
        "template refuses; Ollama says so with 500 as well; the model is not to blame",
        "correct what the message names; `ollama show NAME --parameters` shows the model's own options",
        status=400,
        see=("400", "context_exceeded"),
    ),
    _fault(
        FaultKind.CONTEXT_EXCEEDED,
        "the prompt is longer than the context",
        "the prompt, with the answer that was asked for, has more tokens than the context the model is "
        "loaded with; the message names both; model and server are well",
        "shorten the prompt, or enlarge the context: `nodes.NAME.num_ctx: N` for Ollama, `llama-server -c "
        "N`, vLLM `--max-model-len N`",
        status=400,
        see=("400", "bad_request"),
    ),
    _fault(
        FaultKind.UNPARSABLE_ANSWER,
        "the server could not parse what the model wrote",
        "the parser for tool calls and thoughts gave up on one answer (llama.cpp: the expected peg-native "
        "format; Ollama: error parsing tool call); model and server are well",
        "ask again; if it is often so, update the server, lower the temperature or take a larger model",
        status=500,
        see=("bad_payload",),
    ),
    _fault(
        FaultKind.UNSUPPORTED,
        "the model cannot do what was asked",
        "an embedding model asked to chat, or a chat model asked for something it was not made for",
        "take a chat model: `opskit models route --category default` shows which",
        status=400,
        see=("400",),
    ),
    _fault(
        FaultKind.BAD_PAYLOAD,
        "the reply is not what the protocol says",
        "something else listens on that port, a proxy answered with a page of its own, or the JSON is broken",
        "`curl -i URL` shows who answers; check the port",
    ),
    _fault(
        FaultKind.TRUNCATED,
        "the answer broke off without its end",
        "the runner died while it wrote (Ollama's OpenAI path loses the error), or a proxy cut the stream",
        "look at the server's log at that moment; what came is no answer, ask again",
        see=("runner_crashed",),
    ),
    _fault(
        FaultKind.SERVER_ERROR,
        "the server answered with an error",
        "something failed on its side that has no meaning of its own here, a 500 with an unknown text "
        "included; mlx_lm.server reports most of its errors as 404",
        "read the error text and the server's log",
        status=502,
        see=("404", "502"),
    ),
)

FAULTS: tuple[Explanation, ...] = _CONNECTION + _TIMES + _SERVER
