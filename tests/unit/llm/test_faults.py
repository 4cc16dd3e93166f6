"""The recorded examples of how calls fail, and what each of them means (wire facts A4, A5, B2, C)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opskit.llm.faults import ACTIONS, Fault, FaultKind, Scope, classify
from opskit.providers.base import CallError, Cause

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
    (500, 'POST predict: Post "http://127.0.0.1:41234/completion": EOF', K.RUNNER_CRASHED),
    (500, "an error was encountered while running the model: unexpected EOF", K.RUNNER_CRASHED),
    (500, "llama-server process has terminated: exit status 2", K.RUNNER_CRASHED),
    (500, "llama-server process no longer running: -1", K.RUNNER_CRASHED),
    (500, "llama runner process has terminated: signal: killed", K.RUNNER_CRASHED),
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
    (500, "mlx runner exited unexpectedly: signal: killed", K.RUNNER_CRASHED),
    (400, 'do embedding request: Post "http://127.0.0.1:41234/embedding": EOF', K.RUNNER_CRASHED),
    (
        400,
        "the prompt is longer than the context length currently available to the model; shorten",
        K.BAD_REQUEST,
    ),
    (400, "the input length exceeds the context length", K.BAD_REQUEST),
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
    (404, "Conversation roles must alternate user/assistant/user/assistant/...", K.SERVER_ERROR),
    (404, "generation thread died", K.WEDGED),
    (404, "list index out of range", K.SERVER_ERROR),
    (404, "Not Found", K.SERVER_ERROR),
    (400, "temperature must be a non-negative float", K.BAD_REQUEST),
    (400, "Invalid JSON in request body: Expecting value", K.BAD_REQUEST),
    (411, "Content-Length header is required", K.BAD_REQUEST),
]

#: OpenRouter, LocalAI, llama-swap (wire facts C), and statuses that speak for themselves (SPEC C13).
OTHERS = [
    (402, "Insufficient credits", K.UNAUTHORISED),
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
]

#: (cause, phase, kind): what the connection itself shows.
WIRE = [
    (Cause.REFUSED, "connect", K.REFUSED),
    (Cause.NAME, "connect", K.UNREACHABLE),
    (Cause.UNREACHABLE, "connect", K.UNREACHABLE),
    (Cause.TLS, "connect", K.UNREACHABLE),
    (Cause.TIMEOUT, "connect", K.CONNECT_TIMEOUT),
    (Cause.TIMEOUT, "request", K.FIRST_TOKEN_TIMEOUT),
    (Cause.RESET, "request", K.RESET),
    (Cause.RESET, "stream", K.RESET),
    (Cause.CLOSED, "request", K.EMPTY_REPLY),
    (Cause.CLOSED, "stream", K.TRUNCATED),
    (Cause.ENDED, "stream", K.TRUNCATED),
    (Cause.PAYLOAD, "stream", K.BAD_PAYLOAD),
    (Cause.NOT_LISTED, "request", K.NOT_LISTED),
]

errors = st.builds(
    CallError,
    st.sampled_from(Cause),
    st.text() | st.sampled_from([text for _, text, _ in OLLAMA + MLX + OTHERS]),
    phase=st.sampled_from(["connect", "request", "stream"]),
    status=st.none() | st.integers(0, 999),
    retry_after_s=st.none() | st.floats(0, 1e5),
    error_type=st.none() | st.text(max_size=20),
)


class TestRecordedExamples:
    @pytest.mark.parametrize("status, text, kind", OLLAMA + MLX + OTHERS)
    def test_a_recorded_answer_has_its_meaning(self, status, text, kind):
        """Each error that was read in a server's source or off the wire is told apart."""
        assert classify(CallError(Cause.STATUS, text, status=status)).kind is kind

    @pytest.mark.parametrize("cause, phase, kind", WIRE)
    def test_a_broken_connection_has_its_meaning(self, cause, phase, kind):
        """The same cut means something else before and within an answer."""
        assert classify(CallError(cause, "x", phase=phase)).kind is kind

    @pytest.mark.parametrize("status, text, kind", OLLAMA)
    def test_an_error_within_a_stream_means_the_same(self, status, text, kind):
        """Under a 200 the text alone must tell a crash from a lack of memory."""
        if kind in (K.RUNNER_CRASHED, K.OUT_OF_MEMORY) and text != "unexpected server status: 3":
            assert classify(CallError(Cause.IN_BAND, text, phase="stream", status=200)).kind is kind

    def test_a_model_being_staged_is_loading_by_its_type(self):
        """LocalAI says `model_loading` as a type, whatever the sentence."""
        error = CallError(
            Cause.STATUS, "please wait", status=503, error_type="model_loading", retry_after_s=7.0
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
        fault = classify(CallError(Cause.STATUS, text, status=status))
        assert fault.is_crash
        assert fault.action.session

    def test_a_500_is_a_crash(self):
        """SPEC A2: HTTP 500 is one without any text."""
        assert classify(CallError(Cause.STATUS, "whatever", status=500)).is_crash

    @pytest.mark.parametrize("phase", ["request", "stream"])
    def test_a_connection_reset_is_a_crash(self, phase):
        """SPEC A2: also a connection reset, before an answer or within it."""
        fault = classify(CallError(Cause.RESET, "reset", phase=phase))
        assert fault.is_crash
        assert fault.action.session

    @pytest.mark.parametrize("status, text", [(503, "server busy"), (429, "slow down"), (401, "no key")])
    def test_busy_and_locked_out_are_no_crashes(self, status, text):
        """A model is not lost for the session because its server is busy."""
        fault = classify(CallError(Cause.STATUS, text, status=status))
        assert not fault.is_crash
        assert not fault.action.session


class TestProperties:
    @given(errors)
    @example(CallError(Cause.STATUS, "", status=None))
    def test_classifying_never_raises_and_is_deterministic(self, error):
        """Any failure has one meaning, with its evidence kept."""
        fault = classify(error)
        assert fault == classify(error)
        assert (fault.detail, fault.status, fault.retry_after_s) == (
            error.text,
            error.status,
            error.retry_after_s,
        )

    @pytest.mark.parametrize("kind", FaultKind)
    def test_every_kind_has_an_action(self, kind):
        """No fault leaves the router without knowing what to do."""
        assert Fault(kind, "").action is ACTIONS[kind]

    @pytest.mark.parametrize("kind", [k for k in FaultKind if ACTIONS[k].scope is Scope.REQUEST])
    def test_a_fault_of_the_request_blames_no_model(self, kind):
        """A bad request or a spent budget opens no circuit and joins no failed set."""
        assert not ACTIONS[kind].counts
        assert not ACTIONS[kind].session
