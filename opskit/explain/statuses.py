"""HTTP statuses as the servers of this stack use them: Ollama, mlx_lm.server, agents, proxies, clouds.

Sources: wire facts A1 to A6 (Ollama), B1 and B2 (mlx_lm.server), C (OpenRouter, LocalAI, llama-swap).
"""

from http import HTTPStatus

from opskit.explain.entry import Explanation, ExplanationKind

#: Statuses that nginx, Ollama and others use without a registration.
PHRASES = {status.value: status.phrase for status in HTTPStatus if status >= 400} | {
    499: "Client Closed Request",
    529: "Overloaded",
}


def _status(number: int, cause: str, remedy: str, code: str, *see: str) -> Explanation:
    return Explanation(
        ExplanationKind.STATUS, str(number), PHRASES[number], cause, remedy, code, number, see=see
    )


STATUSES: tuple[Explanation, ...] = (
    _status(
        400,
        "the server could not use the request: JSON that does not parse, a prompt longer than the context, a "
        'keep_alive without a unit ("300"), a model that cannot chat; Ollama also answers 400 when its '
        "runner crashed while embedding",
        "the error text tells which (`opskit explain -` reads it); shorten the prompt or raise num_ctx, send "
        'keep_alive as a number or as "5m"',
        "VAL_002",
        "bad_request",
        "unsupported",
        "runner_crashed",
    ),
    _status(
        401,
        "no key or a wrong one: a cloud provider, an Ollama cloud model without a sign-in, or a proxy with a "
        "password; Ollama and mlx_lm.server themselves ask for none",
        "set `nodes.NAME.api_key: ${NAME}` and export NAME (`opskit config show` tells what holds); "
        "`ollama signin` for cloud models",
        "MODEL_001",
        "unauthorised",
    ),
    _status(
        402,
        "the credit at the cloud provider is used up",
        "add credit, or leave it to the models of this machine: `opskit run --local`",
        "MODEL_001",
        "unauthorised",
    ),
    _status(
        403,
        "the server knows who asks and refuses: Ollama sends an empty 403 for a foreign Host header (a proxy "
        "that passes its own name on) and one with text for cloud models that are switched off; OpenRouter "
        "for what its moderation flags",
        "behind a proxy send `Host: localhost`; `curl -i -H 'Host: localhost' URL/api/version` shows whether "
        "that was it",
        "MODEL_001",
        "unauthorised",
    ),
    _status(
        404,
        "from Ollama: the model is not installed, or the path is wrong; from mlx_lm.server: whatever went "
        "wrong before the first token (an unknown repository, memory, the chat template, a dead worker), so "
        "it does not mean that the model is missing; from an agent: no such endpoint or task",
        "`opskit models list` shows what is there, `ollama pull NAME` installs it; for MLX read the error "
        "text (`opskit explain -`) and send the exact name it was started with, or none",
        "MODEL_001",
        "not_installed",
        "server_error",
    ),
    _status(
        405,
        "the path is right and the method is wrong: Ollama takes GET for /api/tags, /api/ps and "
        "/api/version, POST for /api/chat and /api/generate",
        "send the method that the path wants; a redirect from http to https turns a POST into a GET",
        "VAL_002",
        "bad_request",
    ),
    _status(
        408,
        "the server or a proxy gave up waiting, for the body of the request or for the model behind it",
        "`opskit probe` tells slow, busy and wedged apart; raise `budgets.first_token_s` and the proxy's own "
        "limit for slow hardware",
        "MODEL_002",
        "first_token_timeout",
    ),
    _status(
        411,
        "mlx_lm.server takes no chunked uploads: the request came without Content-Length",
        "send the body with its length; let a proxy buffer requests (nginx: `proxy_request_buffering on`)",
        "VAL_002",
        "bad_request",
    ),
    _status(
        429,
        "more requests than allowed: the limit of a cloud provider, or of one model in llama-swap; Ollama "
        "and mlx_lm.server never send it",
        "wait as long as Retry-After says; `opskit models route` shows who else would be asked; send fewer "
        "at once (SMART_WORKER_MAX_CONCURRENT)",
        "MODEL_004",
        "rate_limited",
        "busy",
    ),
    _status(
        499,
        "the client went away before the answer; during a load that aborts the load, so another try with the "
        "same short timeout begins from zero and never gets through",
        "give a load its time: raise the caller's timeout above 90 s, or load first: `opskit probe --load`",
        "MODEL_002",
        "loading",
        "load_timeout",
    ),
    _status(
        500,
        "the text tells: the model's runner crashed (memory, a driver), its file or template is broken, the "
        "server is too old for it, an option is wrong, one answer could not be parsed, a load stood still "
        "for longer than OLLAMA_LOAD_TIMEOUT, or an agent ran into an error of its own",
        "`journalctl -u ollama -n 50` (macOS: ~/.ollama/logs/server.log) or `docker logs --tail 50 NAME` "
        "holds the reason; `opskit run --verbose` goes on with another model",
        "MODEL_004",
        "runner_crashed",
        "out_of_memory",
        "broken_model_file",
        "broken_template",
        "unknown_architecture",
        "load_timeout",
    ),
    _status(
        502,
        "a proxy or a router reached nobody behind it: the server is down or died in the middle (nginx, "
        "llama-swap), or the model of a cloud provider is down",
        "`opskit probe` shows which node does not answer and how to start it",
        "COMM_002",
        "server_error",
        "refused",
    ),
    _status(
        503,
        "two meanings: the model is still loading (it passes by itself), or the server is full: Ollama when "
        "more than OLLAMA_MAX_QUEUE requests wait for a load, OpenRouter when no provider is free; a newer "
        "mlx_lm.server says it on /health when its generation thread has ended",
        "`opskit probe` tells which; loading or full: wait and ask again, full again and again: send fewer "
        "at once; MLX with a dead thread: restart it",
        "MODEL_001",
        "loading",
        "busy",
        "wedged",
    ),
    _status(
        504,
        "a gateway lost patience before the model answered: Ollama sends not one byte until the model is "
        "loaded, so a single load can use up the 60 s that proxies allow",
        "load the model first (`opskit probe --load`), or raise the gateway's read timeout above the load "
        "time",
        "MODEL_002",
        "first_token_timeout",
        "loading",
    ),
)
