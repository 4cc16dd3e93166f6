"""What servers answer for a model, a request or an answer that is at fault, while the server itself is well.

Statuses and texts as recorded (wire facts A8, B2 and C); `{model}` is the name of the model.
"""

import json

from opskit.sandbox.kinds import FaultKind

_CONTEXT = {
    "error": {
        "code": 400,
        "message": "request (5120 tokens) exceeds the available context size (4096 tokens)",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 5120,
        "n_ctx": 4096,
    }
}
_UNPARSABLE = "The model produced output that does not match the expected peg-native format"

#: Ollama: (status, text of `error`).
OLLAMA = {
    FaultKind.KILLED: (500, "llama-server process has terminated: signal: killed"),
    FaultKind.BROKEN_FILE: (
        500,
        'tensor "blk.0.ffn_up.weight" offset+size (9437184) exceeds file size (4096)',
    ),
    FaultKind.BLOB_MISSING: (404, 'model "{model}" not found, try pulling it first'),
    FaultKind.BROKEN_TEMPLATE: (
        500,
        'template: :1:10: executing "" at <.Nothing>: can\'t evaluate field Nothing in type map',
    ),
    FaultKind.UNKNOWN_ARCHITECTURE: (
        500,
        "llama-server process has terminated: exit status 1: unknown model architecture: 'brandnew'",
    ),
    FaultKind.BAD_OPTION: (500, 'option "num_predict" must be of type integer'),
    FaultKind.CONTEXT_EXCEEDED: (400, json.dumps(_CONTEXT)),
    FaultKind.UNPARSABLE: (
        500,
        "error parsing tool call: raw='{\"name\":', err=unexpected end of JSON input",
    ),
}
#: mlx_lm.server answers 404 with the text of the exception.
MLX = {
    FaultKind.BROKEN_FILE: (404, "[load_safetensors] Invalid json header length /models/{model}"),
    FaultKind.BROKEN_TEMPLATE: (
        404,
        "Cannot use chat template functions because tokenizer.chat_template is not set",
    ),
    FaultKind.UNKNOWN_ARCHITECTURE: (404, "Model type brandnew not supported."),
    FaultKind.BAD_OPTION: (400, "max_tokens must be of type int"),
}
#: llama.cpp's server, in whose place the MLX server of the sandbox stands: the error object.
LLAMA_CPP = {
    FaultKind.CONTEXT_EXCEEDED: _CONTEXT["error"],
    FaultKind.UNPARSABLE: {"code": 500, "message": _UNPARSABLE, "type": "server_error"},
}
