"""The recorded examples of how calls fail, and what each of them means (wire facts A4, A5, A8, B2, C)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opskit.llm.faults import OF_ONE_MODEL, OF_ONE_REQUEST, Action, Fault, FaultKind, Scope, classify
from opskit.providers.base import CallCause, CallError, without_reason
from opskit.providers.failures import error_text

K = FaultKind
LIMITS = "this may be due to resource limitations or an internal error, check ollama server logs for details"

#: (status, text, kind): what Ollama answers (wire facts A4).
OLLAMA = [
    (404, "model 'llama3:8b' not found", K.NOT_INSTALLED),
    (404, 'model "llama3:8b" not found, try pulling it first', K.NOT_INSTALLED),
    (503, "server busy, please try again.  maximum pending requests exceeded", K.BUSY),
    (499, "request canceled", K.SERVER_ERROR),
    (500, f"model runner has unexpectedly stopped, {LIMITS}", K.RUNNER_CRASHED),
    (500, f"model runner has unexpectedly stopped, {LIMITS}: CUDA error: out of memory", K.OUT_OF_MEMORY),
    (500, f"model failed to load, {LIMITS}", K.RUNNER_CRASHED),
    (500, 'POST predict: Post "http://127.0.0.1:41234/completion": EOF', K.RUNNER_CRASHED),
    (500, 'do load request: Post "http://127.0.0.1:41234/load": EOF', K.RUNNER_CRASHED),
    (500, 'health resp: Get "http://127.0.0.1:41234/health": dial tcp 127.0.0.1:41234', K.RUNNER_CRASHED),
    (500, "llama runner process has terminated: GGML_ASSERT(tensor) failed", K.RUNNER_CRASHED),
    (500, "CUDA error: an illegal memory access was encountered", K.RUNNER_CRASHED),
    (500, "an error was encountered while running the model: unexpected EOF", K.RUNNER_CRASHED),
    (500, "llama-server process has terminated: exit status 2", K.RUNNER_CRASHED),
    (500, "llama-server process no longer running: -1", K.RUNNER_CRASHED),
    (500, "llama-server process has terminated: signal: segmentation fault (core dumped)", K.RUNNER_CRASHED),
    (500, "llama runner process has terminated: signal: killed", K.OUT_OF_MEMORY),
    (500, "llama runner process has terminated: cudaMalloc failed: out of memory", K.OUT_OF_MEMORY),
    (500, "llama-server reported out-of-memory during startup: ggml", K.OUT_OF_MEMORY),
    (500, "model requires more system memory (41.2 GiB) than is available (12.0 GiB)", K.OUT_OF_MEMORY),
    (
        500,
        "model requires 41.2 GiB but only 12.0 GiB are available (after 2.0 GiB overhead)",
        K.OUT_OF_MEMORY,
    ),
    (500, "unable to load full model on GPU", K.OUT_OF_MEMORY),
    (500, "timed out waiting for llama-server to start - stalled", K.LOAD_TIMEOUT),
    (500, "timed out waiting for llama runner to start - progress 0.31 - ", K.LOAD_TIMEOUT),
    (500, "timeout waiting for mlx runner to start", K.LOAD_TIMEOUT),
    (500, "no slots available after 10 retries", K.BUSY),
    (500, "unexpected server status: 3", K.RUNNER_CRASHED),
    (500, "mlx runner failed: exit status 1", K.RUNNER_CRASHED),
    (500, "mlx runner exited unexpectedly: signal: killed", K.OUT_OF_MEMORY),
    (500, "mlx runner exited unexpectedly: exit status 1", K.RUNNER_CRASHED),
    (400, 'do embedding request: Post "http://127.0.0.1:41234/embedding": EOF', K.RUNNER_CRASHED),
    (
        400,
        "the prompt is longer than the context length currently available to the model; shorten",
        K.CONTEXT_EXCEEDED,
    ),
    (400, "the input length exceeds the context length", K.CONTEXT_EXCEEDED),
    (400, '"nomic-embed-text" does not support chat', K.UNSUPPORTED),
    (400, "missing request body", K.BAD_REQUEST),
    (401, "unauthorized", K.UNAUTHORISED),
    (403, "remote model is unavailable: cloud is disabled", K.UNAUTHORISED),
    *(
        (500, f"llama runner: {words}", K.OUT_OF_MEMORY)
        for words in (
            "out of memory",
            "out of device memory",
            "cudaMalloc failed",
            "hipMalloc failed",
            "failed to allocate buffer",
            "allocation failed",
            "not enough memory",
            "insufficient memory",
            "VK_ERROR_OUT_OF_DEVICE_MEMORY",
            "ErrorOutOfMemory",
        )
    ),
]

#: What mlx_lm.server answers: 404 for whatever goes wrong early (wire facts B2), 400 since 0.32.2.
MLX = [
    (404, "Repository Not Found for url: https://huggingface.co/api/models/no/such.", K.NOT_INSTALLED),
    (404, "Repo id must be in the form 'repo_name' or 'namespace/repo_name'", K.NOT_INSTALLED),
    (404, "Cannot find an appropriate cached snapshot folder for the specified revision", K.NOT_INSTALLED),
    (404, "We couldn't connect to 'https://huggingface.co' to load the files", K.NOT_INSTALLED),
    (404, "[metal::malloc] Resource limit (499000) exceeded.", K.OUT_OF_MEMORY),
    (404, "[METAL] Command buffer execution failed: Insufficient Memory", K.OUT_OF_MEMORY),
    (404, "Conversation roles must alternate user/assistant/user/assistant/...", K.BAD_REQUEST),
    (404, "[load_safetensors] Invalid json header length /models/a/model.safetensors", K.BROKEN_MODEL_FILE),
    (404, "[load] Invalid header in file /models/a/weights.00.safetensors", K.BROKEN_MODEL_FILE),
    (404, "[read] Unable to read 4096 bytes from file.", K.BROKEN_MODEL_FILE),
    (404, "Error while deserializing header: header too large", K.BROKEN_MODEL_FILE),
    (404, "No safetensors found in /models/a", K.BROKEN_MODEL_FILE),
    (404, "Missing 3 parameters: model.layers.0.weight", K.BROKEN_MODEL_FILE),
    (404, "Model type brandnew not supported.", K.UNKNOWN_ARCHITECTURE),
    (404, "Cannot use chat template functions because tokenizer.chat_template is not set", K.BROKEN_TEMPLATE),
    (404, "'tools_in_user_message' is undefined", K.BROKEN_TEMPLATE),
    (404, "expected token 'end of print statement', got 'name'", K.BROKEN_TEMPLATE),
    (404, "Encountered unknown tag 'generation'.", K.BROKEN_TEMPLATE),
    (404, "No filter named 'tojsonx' found.", K.BROKEN_TEMPLATE),
    (404, "generation thread died", K.WEDGED),
    (404, "list index out of range", K.SERVER_ERROR),
    (404, "Not Found", K.SERVER_ERROR),
    (400, "temperature must be a non-negative float", K.BAD_REQUEST),
    (400, "Invalid JSON in request body: Expecting value", K.BAD_REQUEST),
    (411, "Content-Length header is required", K.BAD_REQUEST),
]

BLOB = "/root/.ollama/models/blobs/sha256-9811e90b0eecf2b194aafad5bb386279f338a45412a9e6f86b718cca6626c495"

#: A 500 of Ollama that is no crash (wire facts A8), and what its runner says of a file that it cannot load.
NO_CRASH = [
    (500, "invalid file magic", K.BROKEN_MODEL_FILE),
    (500, 'tensor "blk.0.ffn_up" offset+size (9437184) exceeds file size (4096)', K.BROKEN_MODEL_FILE),
    (500, f"unable to load model: {BLOB}", K.BROKEN_MODEL_FILE),
    (500, "unable to load model: F:\\AI Models\\blobs\\sha256-bb44ce787b29", K.BROKEN_MODEL_FILE),
    (
        500,
        (
            "llama-server process has terminated: exit status 1: error loading model: tensor "
            "'blk.2.ffn_up.weight' "
            "data is not within the file bounds, model is corrupted or incomplete"
        ),
        K.BROKEN_MODEL_FILE,
    ),
    (500, "gguf_init_from_reader: invalid magic characters: 'garb', expected 'GGUF'", K.BROKEN_MODEL_FILE),
    (500, "gguf_init_from_reader: failed to read key-value pairs", K.BROKEN_MODEL_FILE),
    (500, "done_getting_tensors: wrong number of tensors; expected 292, got 291", K.BROKEN_MODEL_FILE),
    (500, "error loading model: missing tensor 'output_norm.weight'", K.BROKEN_MODEL_FILE),
    (500, "error loading model hyperparameters: key not found in model: llama.block", K.BROKEN_MODEL_FILE),
    (500, 'template: :1:10: executing "" at <.X>: can\'t evaluate field X in type', K.BROKEN_TEMPLATE),
    (500, 'template: :3: function "toJsonX" not defined', K.BROKEN_TEMPLATE),
    (500, 'option "num_predict" must be of type integer', K.BAD_REQUEST),
    (500, 'invalid format: "yaml"; expected "json" or a valid JSON Schema object', K.BAD_REQUEST),
    (500, "error loading model: unknown model architecture: 'mllama'", K.UNKNOWN_ARCHITECTURE),
    (
        500,
        (
            "llama-server process has terminated: exit status 1: error loading model: "
            "unknown model architecture: 'x'"
        ),
        K.UNKNOWN_ARCHITECTURE,
    ),
    (500, "error loading model vocabulary: unknown pre-tokenizer type: 'x'", K.UNKNOWN_ARCHITECTURE),
    (500, "tensor 'a' has invalid ggml type 40. should be in [0, 39)", K.UNKNOWN_ARCHITECTURE),
    (
        500,
        "this GGUF file is version 4 but this software only supports up to version 3",
        K.UNKNOWN_ARCHITECTURE,
    ),
    (412, "The model you are pulling requires a newer version of Ollama.", K.UNKNOWN_ARCHITECTURE),
    (500, "error parsing tool call: raw='{', err=unexpected end of JSON input", K.UNPARSABLE_ANSWER),
    (500, "error parsing tool call: raw='CUDA error: out of memory', err=invalid", K.UNPARSABLE_ANSWER),
    (500, "XML syntax error on line 5: element <function> closed by </parameter>", K.UNPARSABLE_ANSWER),
    (
        500,
        (
            "llama-server process has terminated: exit status 1: ggml_aligned_malloc: "
            "insufficient memory (attempted "
            "to allocate 222.51 MB)"
        ),
        K.OUT_OF_MEMORY,
    ),
    (500, "error loading model: unable to allocate CUDA0 buffer", K.OUT_OF_MEMORY),
    (500, "llama-server process has terminated: exit status 137", K.OUT_OF_MEMORY),
    (500, "timed out waiting for llama-server to start - ", K.LOAD_TIMEOUT),
    (501, "This server does not support embeddings. Start it with `--embeddings`", K.UNSUPPORTED),
    (400, "registry.ollama.ai/library/x does not support tools", K.UNSUPPORTED),
    (500, "something that nobody has seen yet", K.SERVER_ERROR),
]

#: llama.cpp's server, most of it recorded from a real one (b10488) with a real model.
LLAMA_CPP = [
    (
        500,
        "The model produced output that does not match the expected peg-native format",
        K.UNPARSABLE_ANSWER,
    ),
    (500, "The model produced output that does not match the expected hermes-2 format", K.UNPARSABLE_ANSWER),
    (
        400,
        "request (671 tokens) exceeds the available context size (256 tokens), try increasing it",
        K.CONTEXT_EXCEEDED,
    ),
    (
        400,
        (
            "the request exceeds the available context size. try increasing the context size "
            "or enable context shift"
        ),
        K.CONTEXT_EXCEEDED,
    ),
    (500, "Context size has been exceeded.", K.CONTEXT_EXCEEDED),
    (
        500,
        (
            "input (812 tokens) is too large to process. increase the physical batch size "
            "(current batch size: 512)"
        ),
        K.CONTEXT_EXCEEDED,
    ),
    (400, "Failed to initialize samplers: failed to parse grammar", K.BAD_REQUEST),
    (400, "Field 'max_tokens': type must be number, but is string", K.BAD_REQUEST),
    (
        400,
        (
            "Unable to generate parser for this template. Automatic parser generation "
            "failed: JSON schema error at #: "
            "unrecognized type nonsense"
        ),
        K.BAD_REQUEST,
    ),
    (
        400,
        (
            "Unable to generate parser for this template. Automatic parser generation "
            "failed: While executing "
            "FilterExpression at line 1, column 150 in source: ... Error: Unknown (built-in) "
            "filter 'nofilter'"
        ),
        K.BROKEN_TEMPLATE,
    ),
    (
        400,
        (
            "While executing CallExpression at line 1, column 156 in source: ... Error: "
            "Jinja Exception: Conversation "
            "roles must alternate user/assistant"
        ),
        K.BAD_REQUEST,
    ),
    (500, "Jinja Exception: weird thing", K.BROKEN_TEMPLATE),
    (500, "image input is not supported - hint: you may need to provide the mmproj", K.UNSUPPORTED),
    (501, "This server does not support reranking. Start it with `--reranking`", K.UNSUPPORTED),
]

#: What other servers say of a prompt that is too long, of a model that they do not know, of their own death.
PEERS = [
    (
        400,
        (
            "This model's maximum context length is 4096 tokens. However, you requested 6379 "
            "tokens (6029 in the "
            "messages, 350 in the completion). Please reduce the length of the messages or completion."
        ),
        K.CONTEXT_EXCEEDED,
    ),
    (
        400,
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        K.CONTEXT_EXCEEDED,
    ),
    (
        400,
        "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
        K.CONTEXT_EXCEEDED,
    ),
    (
        400,
        "Requested token count exceeds the model's maximum context length of 4096 tokens.",
        K.CONTEXT_EXCEEDED,
    ),
    (400, "prompt is too long: 210000 tokens > 200000 maximum", K.CONTEXT_EXCEEDED),
    (
        400,
        "The number of tokens to keep from the initial prompt is greater than the context length",
        K.CONTEXT_EXCEEDED,
    ),
    (400, "Requested tokens (2285) exceed context window of 2048", K.CONTEXT_EXCEEDED),
    (400, "Model architectures ['BrandNewForCausalLM'] are not supported for now.", K.UNKNOWN_ARCHITECTURE),
    (500, "Error when loading model: ValueError: Model type glm9 not supported.", K.UNKNOWN_ARCHITECTURE),
    (400, "you must provide a chat template if the tokenizer does not define one", K.BROKEN_TEMPLATE),
    (400, "unexpected tokens remaining in message header: ['to=functions']", K.UNPARSABLE_ANSWER),
    (500, "EngineCore encountered an issue. See stack trace (above) for the root cause.", K.RUNNER_CRASHED),
    (502, "upstream command exited prematurely but successfully", K.RUNNER_CRASHED),
]

#: (status, body, kind): where `error.type` or `error.code` says it, whatever the sentence.
BODIES = [
    (400, {"error": {"message": "no", "type": "exceed_context_size_error", "code": 400}}, K.CONTEXT_EXCEEDED),
    (
        400,
        {"error": {"message": "no", "type": "invalid_request_error", "code": "context_length_exceeded"}},
        K.CONTEXT_EXCEEDED,
    ),
    (501, {"error": {"message": "no", "type": "not_supported_error", "code": 501}}, K.UNSUPPORTED),
    (200, {"error": {"message": "no", "type": "not_supported_error", "code": 501}}, K.UNSUPPORTED),
    (500, {"error": {"message": "no", "type": "invalid_request_error"}}, K.BAD_REQUEST),
    (500, {"error": {"message": "no", "type": "server_error"}}, K.SERVER_ERROR),
    (404, {"error": {"message": "no", "code": "model_not_found"}}, K.NOT_INSTALLED),
    (400, {"error": {"message": "no", "code": "tool_use_failed"}}, K.UNPARSABLE_ANSWER),
    (200, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, K.BUSY),
    (200, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}, K.RATE_LIMITED),
    (200, {"type": "error", "error": {"type": "authentication_error", "message": "no"}}, K.UNAUTHORISED),
    (
        400,
        {
            "error": '{"error":{"code":400,"message":"request (28904 tokens) exceeds the available '
            "context size "
            '(256 tokens)","type":"exceed_context_size_error","n_prompt_tokens":28904,"n_ctx":256}}'
        },
        K.CONTEXT_EXCEEDED,
    ),
]

#: OpenRouter, LocalAI, llama-swap (wire facts C), and statuses that speak for themselves (SPEC C13).
OTHERS = [
    (402, "Insufficient credits", K.NO_CREDIT),
    (404, "No models loaded. Please load a model with the `lms load` command.", K.NOT_LOADED),
    (400, "Model is unloaded.", K.NOT_LOADED),
    (503, "No models are currently loaded.", K.NOT_LOADED),
    (503, "No model is loaded. Please load a model in the UI first.", K.NOT_LOADED),
    (404, "The model `m` does not exist.", K.NOT_INSTALLED),
    (
        400,
        "Invalid model name passed in model=m. Call `/v1/models` to view available models",
        K.NOT_INSTALLED,
    ),
    (403, "flagged by moderation", K.UNAUTHORISED),
    (408, "request timed out", K.FIRST_TOKEN_TIMEOUT),
    (429, "Rate limit exceeded: free-models-per-min", K.RATE_LIMITED),
    (502, "Provider returned error", K.SERVER_ERROR),
    (503, "no available model provider", K.BUSY),
    (504, "gateway timeout", K.FIRST_TOKEN_TIMEOUT),
    (503, "model is still loading", K.LOADING),
    (503, "Loading model", K.LOADING),
    (529, "Overloaded", K.BUSY),
    (422, "unprocessable", K.BAD_REQUEST),
    (200, "the server ended the answer with an error", K.SERVER_ERROR),
    (200, "an error was encountered while running the model: unexpected EOF", K.RUNNER_CRASHED),
    (500, "", K.RUNNER_CRASHED),
    (500, without_reason(500), K.RUNNER_CRASHED),
    (500, "Internal Server Error", K.RUNNER_CRASHED),
    (502, without_reason(502), K.SERVER_ERROR),
]
EXAMPLES = OLLAMA + NO_CRASH + LLAMA_CPP + MLX + PEERS + OTHERS
#: Kinds that the status alone tells, so that the same text means less under a 200.
BY_STATUS = {K.UNAUTHORISED, K.NOT_INSTALLED, K.RATE_LIMITED, K.FIRST_TOKEN_TIMEOUT, K.LOADING}
IN_BAND = [(text, kind) for _, text, kind in OLLAMA + NO_CRASH + LLAMA_CPP if kind not in BY_STATUS]
IN_BAND = [pair for pair in IN_BAND if "max_tokens" not in pair[0]]

#: What the router does after each kind, written out: the truth is here, not in the code under test.
EXPECTED = {
    K.REFUSED: Action(Scope.NODE, at_once=True, session=False, overload=False, wait=False, counts=True),
    K.UNREACHABLE: Action(Scope.NODE, at_once=True, session=False, overload=False, wait=False, counts=True),
    K.CONNECT_TIMEOUT: Action(
        Scope.NODE, at_once=True, session=False, overload=False, wait=False, counts=True
    ),
    K.UNAUTHORISED: Action(Scope.NODE, at_once=True, session=False, overload=False, wait=False, counts=True),
    K.NO_CREDIT: Action(Scope.NODE, at_once=True, session=False, overload=False, wait=False, counts=True),
    K.RATE_LIMITED: Action(Scope.NODE, at_once=False, session=False, overload=True, wait=True, counts=True),
    K.RESET: Action(Scope.MODEL, at_once=False, session=True, overload=False, wait=False, counts=True),
    K.EMPTY_REPLY: Action(Scope.MODEL, at_once=False, session=False, overload=False, wait=False, counts=True),
    K.FIRST_TOKEN_TIMEOUT: Action(
        Scope.MODEL, at_once=True, session=False, overload=False, wait=False, counts=True
    ),
    K.IDLE_TIMEOUT: Action(
        Scope.MODEL, at_once=False, session=False, overload=False, wait=False, counts=True
    ),
    K.LOAD_TIMEOUT: Action(Scope.MODEL, at_once=True, session=False, overload=False, wait=False, counts=True),
    K.WEDGED: Action(Scope.MODEL, at_once=True, session=False, overload=False, wait=False, counts=True),
    K.RUNNER_CRASHED: Action(
        Scope.MODEL, at_once=False, session=True, overload=False, wait=False, counts=True
    ),
    K.OUT_OF_MEMORY: Action(Scope.MODEL, at_once=True, session=True, overload=False, wait=False, counts=True),
    K.BROKEN_MODEL_FILE: Action(
        Scope.MODEL, at_once=True, session=True, overload=False, wait=False, counts=True
    ),
    K.BROKEN_TEMPLATE: Action(
        Scope.MODEL, at_once=True, session=True, overload=False, wait=False, counts=True
    ),
    K.UNKNOWN_ARCHITECTURE: Action(
        Scope.MODEL, at_once=True, session=True, overload=False, wait=False, counts=True
    ),
    K.LOADING: Action(Scope.MODEL, at_once=False, session=False, overload=False, wait=True, counts=False),
    K.BUSY: Action(Scope.MODEL, at_once=False, session=False, overload=True, wait=True, counts=True),
    K.NOT_INSTALLED: Action(Scope.MODEL, at_once=True, session=True, overload=False, wait=False, counts=True),
    K.NOT_LOADED: Action(Scope.MODEL, at_once=False, session=False, overload=False, wait=False, counts=True),
    K.NOT_LISTED: Action(Scope.MODEL, at_once=False, session=True, overload=False, wait=False, counts=False),
    K.UNSUPPORTED: Action(Scope.MODEL, at_once=True, session=True, overload=False, wait=False, counts=True),
    K.BAD_PAYLOAD: Action(Scope.MODEL, at_once=False, session=False, overload=False, wait=False, counts=True),
    K.TRUNCATED: Action(Scope.MODEL, at_once=False, session=False, overload=False, wait=False, counts=True),
    K.SERVER_ERROR: Action(
        Scope.MODEL, at_once=False, session=False, overload=False, wait=False, counts=True
    ),
    K.TOTAL_TIMEOUT: Action(
        Scope.REQUEST, at_once=False, session=False, overload=False, wait=False, counts=False
    ),
    K.BAD_REQUEST: Action(
        Scope.REQUEST, at_once=False, session=False, overload=False, wait=False, counts=False
    ),
    K.CONTEXT_EXCEEDED: Action(
        Scope.REQUEST, at_once=False, session=False, overload=False, wait=False, counts=False
    ),
    K.UNPARSABLE_ANSWER: Action(
        Scope.REQUEST, at_once=False, session=False, overload=False, wait=True, counts=False
    ),
}

#: (cause, phase, kind): what the connection itself shows.
WIRE = [
    (CallCause.REFUSED, "connect", K.REFUSED),
    (CallCause.NAME, "connect", K.UNREACHABLE),
    (CallCause.UNREACHABLE, "connect", K.UNREACHABLE),
    (CallCause.TLS, "connect", K.UNREACHABLE),
    (CallCause.TIMEOUT, "connect", K.CONNECT_TIMEOUT),
    (CallCause.TIMEOUT, "request", K.FIRST_TOKEN_TIMEOUT),
    (CallCause.RESET, "request", K.RESET),
    (CallCause.RESET, "stream", K.RESET),
    (CallCause.CLOSED, "request", K.EMPTY_REPLY),
    (CallCause.CLOSED, "stream", K.TRUNCATED),
    (CallCause.ENDED, "stream", K.TRUNCATED),
    (CallCause.PAYLOAD, "stream", K.BAD_PAYLOAD),
    (CallCause.NOT_LISTED, "request", K.NOT_LISTED),
]

errors = st.builds(
    CallError,
    st.sampled_from(CallCause),
    st.text() | st.sampled_from([text for _, text, _ in EXAMPLES]),
    phase=st.sampled_from(["connect", "request", "stream"]),
    status=st.none() | st.integers(0, 999),
    retry_after_s=st.none() | st.floats(0, 1e5),
    error_type=st.none() | st.text(max_size=20),
)


class TestRecordedExamples:
    @pytest.mark.parametrize("status, text, kind", EXAMPLES)
    def test_a_recorded_answer_has_its_meaning(self, status, text, kind):
        """Each error that was read in a server's source or off the wire is told apart."""
        assert classify(CallError(CallCause.STATUS, text, status=status)).kind is kind

    @pytest.mark.parametrize("cause, phase, kind", WIRE)
    def test_a_broken_connection_has_its_meaning(self, cause, phase, kind):
        """The same cut means something else before and within an answer."""
        assert classify(CallError(cause, "x", phase=phase)).kind is kind

    @pytest.mark.parametrize("text, kind", IN_BAND)
    def test_an_error_within_a_stream_means_the_same(self, text, kind):
        """Under a 200 the text alone tells every kind that no status told."""
        assert classify(CallError(CallCause.IN_BAND, text, phase="stream", status=200)).kind is kind

    @pytest.mark.parametrize("status, body, kind", BODIES)
    def test_the_type_of_an_error_body_outranks_its_sentence(self, status, body, kind):
        """`error.type` and `error.code` are read, also from JSON in a string and under a 200."""
        text, error_type = error_text(body)
        cause = CallCause.IN_BAND if status == 200 else CallCause.STATUS
        assert classify(CallError(cause, text, status=status, error_type=error_type)).kind is kind

    def test_a_runner_that_was_killed_is_probably_out_of_memory(self):
        """Nobody saw who sent the signal: the detail says `probably`, and where the kernel writes it."""
        fault = classify(
            CallError(CallCause.STATUS, "llama runner process has terminated: signal: killed", status=500)
        )
        assert "probably" in fault.detail
        assert "journalctl -k" in fault.detail

    def test_a_lack_of_memory_that_is_told_is_not_called_probable(self):
        """What the server says outright is passed on as it is."""
        text = "cudaMalloc failed: out of memory"
        assert classify(CallError(CallCause.STATUS, text, status=500)).detail == text

    def test_a_model_being_staged_is_loading_by_its_type(self):
        """LocalAI says `model_loading` as a type, whatever the sentence."""
        error = CallError(
            CallCause.STATUS, "please wait", status=503, error_type="model_loading", retry_after_s=7.0
        )
        assert classify(error) == Fault(K.LOADING, "please wait", 503, 7.0)


class TestCrashes:
    @pytest.mark.parametrize(
        "text",
        ["model runner has unexpectedly stopped", "the process unexpectedly stopped", "CUDA: Out Of Memory"],
    )
    @pytest.mark.parametrize("status", [200, 400, 404, 500, 502])
    def test_the_texts_of_the_specification_are_crashes(self, text, status):
        """SPEC A2: these texts are a crash under any status, and the model joins the failed set."""
        fault = classify(CallError(CallCause.STATUS, text, status=status))
        assert fault.is_crash
        assert fault.action.session

    @pytest.mark.parametrize("text", ["", without_reason(500), "Internal Server Error"])
    def test_a_500_without_a_reason_is_a_crash(self, text):
        """SPEC A2: nothing says that it is anything else."""
        assert classify(CallError(CallCause.STATUS, text, status=500)).is_crash

    def test_a_500_with_an_unknown_reason_is_no_crash(self):
        """The next model is asked and the circuit counts it, but the session does not lose the model."""
        fault = classify(CallError(CallCause.STATUS, "whatever", status=500))
        assert fault.kind is K.SERVER_ERROR
        assert not fault.is_crash
        assert not fault.action.session
        assert fault.action.counts

    @pytest.mark.parametrize(
        "status, text, kind", [row for row in NO_CRASH if row[2] in OF_ONE_MODEL | OF_ONE_REQUEST]
    )
    def test_a_500_of_a_model_or_a_request_is_no_crash(self, status, text, kind):
        """The runner did not die of it, whatever else the text says."""
        assert not classify(CallError(CallCause.STATUS, text, status=status)).is_crash

    @pytest.mark.parametrize("phase", ["request", "stream"])
    def test_a_connection_reset_is_a_crash(self, phase):
        """SPEC A2: also a connection reset, before an answer or within it."""
        fault = classify(CallError(CallCause.RESET, "reset", phase=phase))
        assert fault.is_crash
        assert fault.action.session

    @pytest.mark.parametrize("status, text", [(503, "server busy"), (429, "slow down"), (401, "no key")])
    def test_busy_and_locked_out_are_no_crashes(self, status, text):
        """A model is not lost for the session because its server is busy."""
        fault = classify(CallError(CallCause.STATUS, text, status=status))
        assert not fault.is_crash
        assert not fault.action.session


class TestProperties:
    @given(errors)
    @example(CallError(CallCause.STATUS, "", status=None))
    def test_classifying_never_raises_and_is_deterministic(self, error):
        """Any failure has one meaning, with its evidence kept."""
        fault = classify(error)
        assert fault == classify(error)
        assert fault.detail.startswith(error.text)
        assert (fault.status, fault.retry_after_s) == (error.status, error.retry_after_s)

    def test_the_table_of_actions_is_whole(self):
        """Each kind stands in it, and no other."""
        assert set(EXPECTED) == set(FaultKind)

    @pytest.mark.parametrize("kind, action", EXPECTED.items())
    def test_every_kind_has_its_action(self, kind, action):
        """Scope, circuit, session, overload, patience and count of each fault are as written out above."""
        assert Fault(kind, "").action == action

    @pytest.mark.parametrize("kind", sorted(OF_ONE_MODEL))
    def test_a_fault_of_one_model_says_nothing_of_its_node(self, kind):
        """A broken file is permanent for the model, and the other models of the node are well."""
        assert kind.action.scope is Scope.MODEL
        assert kind.action.session

    @pytest.mark.parametrize("kind", [k for k in FaultKind if k.action.scope is Scope.REQUEST])
    def test_a_fault_of_the_request_blames_no_model(self, kind):
        """A bad request or a spent budget opens no circuit and joins no failed set."""
        assert not kind.action.counts
        assert not kind.action.session
