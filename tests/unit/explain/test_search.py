"""Recorded texts and the explanations they ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.explain.catalogue import ENTRIES
from opskit.explain.search import explain, near
from opskit.llm.faults import FaultKind
from opskit.tags import Tag, format_line


def keys(text: str) -> list[str]:
    return [match.entry.key for match in explain(text)]


#: What servers say (wire facts A4, B2): the text alone gives the fault away.
SERVERS = [
    (
        "Error: model runner has unexpectedly stopped, this may be due to resource limitations",
        "runner_crashed",
    ),
    ("llama runner process has terminated: signal: killed", "out_of_memory"),
    ("llama runner process has terminated: exit status 2", "runner_crashed"),
    ('{"error":"POST predict: Post \\"http://127.0.0.1:41234/completion\\": EOF"}', "runner_crashed"),
    ("mlx runner failed: exit status 1", "runner_crashed"),
    ("ggml_backend: cudaMalloc failed: out of memory", "out_of_memory"),
    ("model requires more system memory (41.2 GiB) than is available (12.0 GiB)", "out_of_memory"),
    ("[metal::malloc] Resource limit (499000) exceeded.", "out_of_memory"),
    ('Error: model "llama3:8b" not found, try pulling it first', "not_installed"),
    ("Repository Not Found for url: https://huggingface.co/api/models/no/such.", "not_installed"),
    ("server busy, please try again.  maximum pending requests exceeded", "busy"),
    ('"nomic-embed-text" does not support chat', "unsupported"),
    ("timed out waiting for llama runner to start - progress 0.31 - ", "load_timeout"),
    ("model is still loading", "loading"),
    ('{"error":{"type":"model_loading"},"loading":{"model":"x"}}', "loading"),
    ('{"error": "generation thread died"}', "wedged"),
    ("the prompt is longer than the context length currently available to the model", "context_exceeded"),
    (
        (
            '{"error":{"code":400,"message":"the request exceeds the available context size","type":'
            '"exceed_context_size_error","n_prompt_tokens":671,"n_ctx":256}}'
        ),
        "context_exceeded",
    ),
    (
        (
            '{"error":"{\\"error\\":{\\"code\\":400,\\"message\\":\\"no\\",\\"type\\":'
            '\\"exceed_context_size_error\\"}}"}'
        ),
        "context_exceeded",
    ),
    (
        "openai.BadRequestError: Error code: 400 - {'error': {'code': 'context_length_exceeded'}}",
        "context_exceeded",
    ),
    ("Error: 500 Internal Server Error: invalid file magic", "broken_model_file"),
    ("Error: 500 Internal Server Error: unable to load model: /m/blobs/sha256-98", "broken_model_file"),
    (
        "llama_model_load: error loading model: tensor 'a' data is not within the file bounds",
        "broken_model_file",
    ),
    ("Error: 500 Internal Server Error: template: :1:10: executing at <.X>", "broken_template"),
    ("jinja2.exceptions.UndefinedError: 'x' is undefined", "broken_template"),
    ("llama_model_load: error loading model: unknown model architecture: 'mllama'", "unknown_architecture"),
    ("ValueError: Model type glm9 not supported.", "unknown_architecture"),
    ('Error: 500 Internal Server Error: option "num_predict" must be of type integer', "bad_request"),
    ("The model produced output that does not match the expected peg-native format", "unparsable_answer"),
    ("This server does not support embeddings. Start it with `--embeddings`", "unsupported"),
    ("missing request body", "bad_request"),
    ('{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}', "unauthorised"),
    ("client connection closed before llama-server finished loading, aborting load", "499"),
    ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "DOCKER_001"),
    ("Error response from daemon: No such container: victoria-agent", "DOCKER_002"),
    ("Memory cgroup out of memory: Killed process 4242 (ollama)", "out_of_memory"),
]

#: What kernels and client libraries say of a broken connection.
CONNECTIONS = [
    ("dial tcp 127.0.0.1:11434: connect: connection refused", "refused"),
    ('Head "http://127.0.0.1:11434/": dial tcp 127.0.0.1:11434: connect: connection refused', "refused"),
    (
        'Post "http://127.0.0.1:11434/api/chat": dial tcp 127.0.0.1:11434: connect: connection refused',
        "refused",
    ),
    ("httpx.ConnectError: [Errno 111] Connection refused", "refused"),
    ("connect ECONNREFUSED 127.0.0.1:11434", "refused"),
    ("curl: (7) Failed to connect to localhost port 8010: Couldn't connect to server", "refused"),
    ("Connection reset by peer", "reset"),
    ("BrokenPipeError: [Errno 32] Broken pipe", "reset"),
    ("socket.gaierror: [Errno -2] Name or service not known", "unreachable"),
    ("dial tcp: lookup ollama: no such host", "unreachable"),
    ("connect: no route to host", "unreachable"),
    ("ssl.SSLCertVerificationError: certificate verify failed: self-signed certificate", "certificate"),
    ("dial tcp 10.0.0.9:11434: i/o timeout", "connect_timeout"),
    ("aiohttp.client_exceptions.ConnectionTimeoutError: Connection timeout to host", "connect_timeout"),
    ("requests.exceptions.ReadTimeout: Read timed out. (read timeout=5)", "first_token_timeout"),
    ("context deadline exceeded (Client.Timeout exceeded while awaiting headers)", "first_token_timeout"),
    ("curl: (52) Empty reply from server", "empty_reply"),
    ("httpx.RemoteProtocolError: Server disconnected without sending a response.", "empty_reply"),
    ("peer closed connection without sending complete message body (incomplete chunked read)", "truncated"),
    ("json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)", "bad_payload"),
]

#: Where a number is a status.
STATUSES = [
    ("HTTP 429 Too Many Requests", "429"),
    ("HTTP/1.1 404 Not Found", "404"),
    ('127.0.0.1 - - [20/Nov/2026 10:00:00] "POST /v1/chat/completions HTTP/1.1" 404 -', "404"),
    ('[GIN] 2026/11/20 - 10:00:00 | 499 |  1.2s |  127.0.0.1 | POST  "/api/chat"', "499"),
    ("httpx.HTTPStatusError: Server error '502 Bad Gateway' for url 'http://x'", "502"),
    ("urllib.error.HTTPError: HTTP Error 403: Forbidden", "403"),
    ("curl: (22) The requested URL returned error: 503", "503"),
    ("openai.RateLimitError: Error code: 429 - {'error': 'slow'}", "429"),
    ('{"error": {"message": "no credit", "code": 402}}', "402"),
    ("AxiosError: Request failed with status code 504", "504"),
    ("upstream status=408", "408"),
    ("service answered 500", "500"),
]

#: Numbers that are none.
NO_STATUS = [
    "took 500 ms",
    'File "main.py", line 404, in main',
    "the answer is 429",
    "port 503 is taken",
    "container exited with exit code 404",
    "4290 tokens, 5000 characters",
    "error 4045",
    "model served 500 requests",
]


#: Lines of healthy servers in which words of faults occur.
HEALTHY = [
    "llama_context: n_ctx_seq (4096) < n_ctx_train (131072) -- the full capacity will not be utilized",
    "llama_model_loader: loaded meta data with 34 key-value pairs and 292 tensors from model.gguf",
    "print_info: arch = llama, format = GGUF V3 (latest)",
    "main: chat template, chat_template: chatml, example_format: <|im_start|>system",
    'msg="requested context size too large for model" num_ctx=65536 n_ctx_train=8192',
    "srv init: Chat format: peg-native",
    "using jinja to render the prompt, grammar: none",
]


class TestTexts:
    @pytest.mark.parametrize("line", HEALTHY)
    def test_a_line_of_a_healthy_server_is_no_fault(self, line):
        """Everyday lines of a log that name templates, files and contexts explain nothing."""
        assert keys(line) == []

    @pytest.mark.parametrize("text, key", SERVERS + CONNECTIONS)
    def test_a_known_sentence_leads_to_its_fault_first(self, text, key):
        """What a server or a client library is known to say is recognised, and nothing stands before it."""
        assert keys(text)[0] == key

    @pytest.mark.parametrize("text, key", STATUSES)
    def test_a_status_is_recognised_in_its_context(self, text, key):
        """A number counts as a status where the text says that it is one."""
        assert key in keys(text)

    @pytest.mark.parametrize("text", NO_STATUS)
    def test_a_bare_number_in_a_text_is_no_status(self, text):
        """Never a guess: durations, ports, lines and counts explain nothing."""
        assert keys(text) == []

    def test_the_words_of_a_body_outrank_its_status(self):
        """mlx_lm.server says 404 for lack of memory: the memory comes first."""
        found = keys('HTTP/1.0 404 Not Found {"error": "[metal::malloc] Resource limit (499000) exceeded."}')
        assert found[:2] == ["out_of_memory", "404"]

    def test_a_refused_request_to_a_server_is_no_crash_of_its_runner(self):
        """The address in a client's own error is not taken for that of a runner."""
        text = 'Error: Post "http://127.0.0.1:11434/api/chat": dial tcp 127.0.0.1:11434: connection refused'
        assert keys(text) == ["refused"]

    def test_a_code_in_a_line_is_found(self):
        """A line of our own error output leads to its code."""
        assert keys("opskit: MODEL_001: no node can answer: ollama at http://x. Next: ...")[0] == "MODEL_001"

    def test_a_body_over_several_lines_is_read(self):
        """A pretty-printed error response is one body."""
        text = '{\n  "error": {\n    "type": "model_loading"\n  }\n}'
        assert keys(text) == ["loading"]

    def test_a_traceback_is_read_by_what_it_says_not_by_the_code_it_shows(self):
        """Source lines of frames explain nothing; the exceptions do, the cause as well as the last one."""
        text = (
            "Traceback (most recent call last):\n"
            '  File "a.py", line 500, in connect\n'
            '    raise TimeoutError("read timed out")\n'
            "ConnectionRefusedError: [Errno 111] Connection refused\n\n"
            "During handling of the above exception, another exception occurred:\n\n"
            "Traceback (most recent call last):\n"
            '  File "b.py", line 404, in go\n'
            "    return self._go()\n"
            "httpx.HTTPStatusError: Server error '503 Service Unavailable' for url 'http://x'\n"
        )
        assert keys(text) == ["refused", "503"]


class TestOurOwnLines:
    @pytest.mark.parametrize("kind", FaultKind)
    def test_a_tagged_line_leads_to_its_fault(self, kind):
        """The field of an [LLM_ERROR] line says what happened; its detail adds nothing."""
        line = format_line(
            Tag.LLM_ERROR, {"node": "mlx", "fault": kind.value, "detail": "HTTP 404 Not Found"}
        )
        assert keys(line) == [kind.value]

    def test_a_tagged_line_of_a_container_is_read_behind_its_prefix(self):
        """`docker compose logs` puts the service in front."""
        assert keys('victoria-agent  | [LLM_PARSE] verdict=echo preview="hi"') == ["echo"]

    def test_a_field_inside_a_quoted_value_is_no_field(self):
        """A preview that quotes somebody else's log line is text."""
        line = '[LLM_PARSE] verdict=echo preview="fault=wedged"'
        assert keys(line) == ["echo"]

    def test_a_tagged_line_of_another_writer_is_read_by_its_text(self):
        """A tag without a known field still has its sentence."""
        assert keys("[LLM_ERROR] model runner has unexpectedly stopped") == ["runner_crashed"]

    def test_an_attempt_of_a_run_leads_to_its_fault(self):
        """The narration of `run` can be pasted."""
        assert keys("attempt 2: default_model on mlx: wedged after 3.047 s (no token in 3.0 s)") == ["wedged"]

    def test_a_row_of_a_probe_leads_to_its_state(self):
        """The table of `probe` can be pasted."""
        assert keys("mlx       node   fail    failing            3.350  HTTP says nothing") == ["failing"]

    def test_a_word_in_brackets_that_is_no_state_hides_nothing(self):
        """Only states count in the form of a remedy; other lines of that form are read as text."""
        assert keys("worker (retry): connection refused") == ["refused"]


class TestQuestions:
    @pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.kind.value}-{e.key}")
    def test_every_key_finds_itself(self, entry):
        """Asking for a key gives it, and nothing of another key."""
        found = explain(entry.key)
        assert entry in [match.entry for match in found]
        assert {match.entry.key for match in found} == {entry.key}

    @pytest.mark.parametrize("text", ["HTTP 503", "error 503", "503", "status: 503"])
    def test_a_status_may_be_asked_for_in_words(self, text):
        """A status with a word before it is that status."""
        assert keys(text) == ["503"]

    @pytest.mark.parametrize("number, key", [("418", "bad_request"), ("507", "server_error")])
    def test_a_status_without_an_explanation_gets_what_the_router_makes_of_it(self, number, key):
        """No status is unknown: the router treats it as something."""
        assert keys(number) == [key]

    def test_a_short_question_may_name_a_word_anywhere(self):
        """`mlx wedged` asks for wedged."""
        assert keys("mlx wedged") == ["wedged", "wedged"]

    def test_a_long_sentence_is_not_searched_for_words(self):
        """Everyday words such as busy and slow are no findings in prose."""
        assert keys("the office was busy and the lift was slow today") == []

    @pytest.mark.parametrize(
        "text, key",
        [("weged", "wedged"), ("crash", "runner_crashed"), ("MODEL_009", "MODEL_001")],
    )
    def test_a_miss_names_what_may_have_been_meant(self, text, key):
        """A mistyped key leads to near ones."""
        assert key in near(text)


@given(st.text() | st.text(alphabet='HTP/1. 450{}":errostaucd=[]|GIN\n', max_size=300))
def test_no_text_breaks_the_search(text):
    """Whatever is pasted, the search ends with entries of the catalogue, each once."""
    found = [(match.entry.kind, match.entry.key) for match in explain(text)]
    assert len(found) == len(set(found))
    assert len(near(text)) <= 5


@pytest.mark.parametrize("code", ["126", "127", "130", "137", "139", "143"])
@pytest.mark.parametrize(
    "form", ["{}", "exit_{}", "exit code {}", "Exited ({}) 2 minutes ago", "exited with code {}"]
)
def test_an_exit_status_is_explained_however_it_is_asked_for(form: str, code: str):
    """A number alone is what `echo $?` shows."""
    assert [match.entry.key for match in explain(form.format(code))] == [f"exit_{code}"]
