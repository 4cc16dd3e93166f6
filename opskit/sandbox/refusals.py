"""What servers answer for a model, a request or an answer that is at fault, while the server itself is well.

Statuses and texts as recorded (wire facts A8, B2 and C); `{model}` is the name of the model.
"""

import json

from opskit.sandbox.kinds import SandboxFaultKind

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
    SandboxFaultKind.KILLED: (500, "llama-server process has terminated: signal: killed"),
    SandboxFaultKind.BROKEN_FILE: (
        500,
        'tensor "blk.0.ffn_up.weight" offset+size (9437184) exceeds file size (4096)',
    ),
    SandboxFaultKind.BLOB_MISSING: (404, 'model "{model}" not found, try pulling it first'),
    SandboxFaultKind.BROKEN_TEMPLATE: (
        500,
        'template: :1:10: executing "" at <.Nothing>: can\'t evaluate field Nothing in type map',
    ),
    SandboxFaultKind.UNKNOWN_ARCHITECTURE: (
        500,
        "llama-server process has terminated: exit status 1: unknown model architecture: 'brandnew'",
    ),
    SandboxFaultKind.BAD_OPTION: (500, 'option "num_predict" must be of type integer'),
    SandboxFaultKind.CONTEXT_EXCEEDED: (400, json.dumps(_CONTEXT)),
    SandboxFaultKind.UNPARSABLE: (
        500,
        "error parsing tool call: raw='{\"name\":', err=unexpected end of JSON input",
    ),
}
#: mlx_lm.server answers 404 with the text of the exception.
MLX = {
    SandboxFaultKind.BROKEN_FILE: (404, "[load_safetensors] Invalid json header length /models/{model}"),
    SandboxFaultKind.BROKEN_TEMPLATE: (
        404,
        "Cannot use chat template functions because tokenizer.chat_template is not set",
    ),
    SandboxFaultKind.UNKNOWN_ARCHITECTURE: (404, "Model type brandnew not supported."),
    SandboxFaultKind.BAD_OPTION: (400, "max_tokens must be of type int"),
}
#: llama.cpp's server, in whose place the MLX server of the sandbox stands: the error object.
LLAMA_CPP = {
    SandboxFaultKind.CONTEXT_EXCEEDED: _CONTEXT["error"],
    SandboxFaultKind.UNPARSABLE: {"code": 500, "message": _UNPARSABLE, "type": "server_error"},
}
