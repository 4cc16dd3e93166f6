"""Texts that people reported, in every surrounding in which they are pasted, and texts that say nothing."""

import json
from collections.abc import Callable

import pytest

from opskit.explain.search import explain

#: What the text says, and the key of its first explanation.
REPORTED = [
    # Ollama, by the wire and by its log.
    ("could not connect to ollama app, is it running?", "refused"),
    ("Error: could not connect to a running Ollama instance", "refused"),
    ("dial tcp 127.0.0.1:11434: connect: connection refused", "refused"),
    ("model 'llama3.2:3b' not found", "not_installed"),
    ('model "qwen3:14b" not found, try pulling it first', "not_installed"),
    ("server busy, please try again.  maximum pending requests exceeded", "busy"),
    ("model runner has unexpectedly stopped, this may be due to resource limitations", "runner_crashed"),
    ("an error was encountered while running the model: unexpected EOF", "runner_crashed"),
    ("llama-server process no longer running: 9 signal: killed", "out_of_memory"),
    ("llama-server process has terminated: signal: killed", "out_of_memory"),
    ("llama-server reported out-of-memory during startup: buffer 3", "out_of_memory"),
    ("ggml_aligned_malloc: insufficient memory (attempted to allocate 222.51 MB)", "out_of_memory"),
    ("model requires more system memory (41.2 GiB) than is available (12.0 GiB)", "out_of_memory"),
    ("model requires 13.1 GiB but only 9.2 GiB are available (after 1.0 GiB overhead)", "out_of_memory"),
    ("unable to load full model on GPU", "out_of_memory"),
    ("vk_error_out_of_device_memory", "out_of_memory"),
    ("Memory cgroup out of memory: Killed process 2614 (llama-server) total-vm:828048kB", "out_of_memory"),
    ("timed out waiting for llama-server to start - ", "load_timeout"),
    ("client connection closed before llama-server finished loading, aborting load", "499"),
    ("invalid file magic", "broken_model_file"),
    ('tensor "blk.0.attn" offset+size (98362432) exceeds file size (5000)', "broken_model_file"),
    ('template: :1:10: executing "" at <.Nope>: can\'t evaluate field Nope', "broken_template"),
    ('option "num_predict" must be of type integer', "bad_request"),
    ("no slots available after 10 retries", "busy"),
    ("mlx runner failed: exit status 1", "runner_crashed"),
    ("model list cache unavailable", "server_error"),
    ("This server does not support embeddings. Start it with `--embeddings`", "unsupported"),
    ("registry.ollama.ai/library/smol:latest does not support tools", "unsupported"),
    ("truncating input prompt limit=2050 prompt=9010 keep=4 new=2050", "prompt_cut"),
    ("the prompt is longer than the context length currently available to the model", "context_exceeded"),
    ("the input length exceeds the context length", "context_exceeded"),
    ("missing request body", "bad_request"),
    ('time: missing unit in duration "300"', "bad_request"),
    ("llama_model_load: unknown model architecture: 'qwen3next'", "unknown_architecture"),
    # llama.cpp.
    (
        "request (9031 tokens) exceeds the available context size (512 tokens), try increasing it",
        "context_exceeded",
    ),
    ("The model produced output that does not match the expected peg-native format", "unparsable_answer"),
    ("Invalid API Key", "unauthorised"),
    ("Loading model", "loading"),
    ("Unable to generate parser for this template. Automatic parser generation failed", "broken_template"),
    ("JSON schema error at #: unrecognized type nonsense", "bad_request"),
    # mlx_lm.server.
    ("[metal::malloc] Resource limit (499000) exceeded.", "out_of_memory"),
    ("Repository Not Found for url: https://huggingface.co/api/models/no/such.", "not_installed"),
    ("Cannot find an appropriate cached snapshot folder for the specified revision", "not_installed"),
    ("generation thread died", "wedged"),
    ("Cache directory not found: /home/me/.cache/huggingface/hub", "hub_cache_missing"),
    ("Model type qwen3_next not supported.", "unknown_architecture"),
    # Programs around them.
    ("listen tcp 127.0.0.1:11434: bind: address already in use", "port_taken"),
    (
        "[Errno 98] error while attempting to bind on address ('0.0.0.0', 8010): address already in use",
        "port_taken",
    ),
    ("Bind for 0.0.0.0:8080 failed: port is already allocated", "port_taken"),
    ("write /var/lib/docker/tmp/x: no space left on device", "disk_full"),
    ("OSError: [Errno 24] Too many open files", "too_many_files"),
    ("sqlite3.OperationalError: database is locked", "database_locked"),
    ('FATAL:  password authentication failed for user "atra"', "password_rejected"),
    ('exec: "curl": executable file not found in $PATH', "program_missing"),
    ("OCI runtime exec failed: exec failed: unable to start container process", "container_start_failed"),
    ("toomanyrequests: You have reached your pull rate limit", "pull_limit"),
    ("pull access denied for atra/victoria, repository does not exist", "image_missing"),
    ("ModuleNotFoundError: No module named 'mlx_lm'", "module_missing"),
    ("QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00", "pool_exhausted"),
    ("FATAL: sorry, too many clients already", "pool_exhausted"),
    ('FATAL:  too many connections for role "app"', "pool_exhausted"),
    ('FATAL:  role "app" does not exist', "role_missing"),
    ('FATAL:  database "shop" does not exist', "database_missing"),
    ('no pg_hba.conf entry for host "::1", user "app", database "shop"', "host_not_allowed"),
    ("/bin/sh: can't fork: Resource temporarily unavailable", "too_many_processes"),
    ("RuntimeError: can't start new thread", "too_many_processes"),
    ("exec /usr/local/bin/api: exec format error", "wrong_platform"),
    ("sh: can't create /run.pid: Read-only file system", "read_only"),
    ("PermissionError: [Errno 13] Permission denied: '/data/state'", "path_not_permitted"),
    ("open /data/state: permission denied", "path_not_permitted"),
    (
        "redis.exceptions.ConnectionError: Error 111 connecting to localhost:6379. Connection refused.",
        "refused",
    ),
    ("SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate", "certificate"),
    ("tls: failed to verify certificate: x509: certificate has expired or is not yet valid", "certificate"),
    ("Hostname mismatch, certificate is not valid for 'llm.local'", "certificate"),
    ("SSL: WRONG_VERSION_NUMBER] wrong version number", "unreachable"),
    ("http: server gave HTTP response to HTTPS client", "unreachable"),
    ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "DOCKER_001"),
    ("permission denied while trying to connect to the Docker daemon socket", "docker_not_permitted"),
    ("network atra-network declared as external, but could not be found", "docker_network_missing"),
    ("container victoria-agent is unhealthy", "container_unhealthy"),
    ("victoria-agent exited with code 137", "exit_137"),
    ("lookup host.docker.internal: no such host", "unreachable"),
]


def escaped(text: str) -> str:
    return json.dumps({"error": text})


SURROUNDINGS: dict[str, Callable[[str], str]] = {
    "bare": str,
    "ansi": lambda text: f"\x1b[31mERROR\x1b[0m \x1b[1m{text}\x1b[0m",
    "json": escaped,
    "json in json": lambda text: json.dumps({"error": {"message": escaped(text), "type": "api_error"}}),
    "json log": lambda text: json.dumps({"level": "error", "ts": "2026-11-20T10:00:00Z", "msg": text}),
    "compose": lambda text: f"ollama-1  | 2026-11-20T10:00:00.123456789Z {text}",
    "logfmt": lambda text: f"time=2026-11-20T10:00:00.1Z level=ERROR source=a.go:1 msg={json.dumps(text)}",
    "syslog": lambda text: f"Nov 20 10:00:00 host ollama[812]: {text}",
    "capitals": str.upper,
    "in a log": lambda text: f"2026-11-20 10:00:00,123 - INFO - starting\n{text}\nbye",
    "in a traceback": lambda text: (
        "Traceback (most recent call last):\n"
        '  File "/app/main.py", line 12, in ask\n    raise RuntimeError(text)\n'
        f"RuntimeError: {text}"
    ),
    "wrapped between words": lambda text: f"ollama[812]: {text}".replace(" ", "\n", 3),
    "wrapped within a word": lambda text: f"{text[: len(text) // 2]}\n{text[len(text) // 2 :]}",
    "crlf": lambda text: f"{text}\r\n",
}
#: What sounds alike and says something else, or nothing.
SILENT = [
    "all tests passed",
    "memory: 21.8 GiB of 23.5 GiB available",
    "INFO loaded template chatml in 12 ms",
    "port 11434 is free",
    "the model answered in 0.3 s",
    "Killed time while waiting",
    "error budget: 99.9 % left",
    "GET /api/tags answered 200 OK in 3 ms",
    "I have read the certificate of incorporation",
    "exited with code 0",
    "0 files are open, 137 tokens were written",
    "pulled 3 of 3 layers, no limit reached",
    "module 4 of the course: no module is missing",
    "the database locks at midnight",
    "the password of user atra was changed",
    "prompt eval time = 189.00 ms / 31 tokens",
    "address 12 is in use by nobody",
]


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_a_reported_text_is_explained(surrounding: str):
    """Each text of the reports has its own explanation first, whatever stands around it."""
    wrapped = ((SURROUNDINGS[surrounding](text), key) for text, key in REPORTED)
    said = {text: ([match.entry.key for match in explain(text)] or ["nothing"], key) for text, key in wrapped}
    assert {text: keys for text, (keys, key) in said.items() if keys[0] != key} == {}


@pytest.mark.parametrize("text", SILENT)
def test_what_says_nothing_is_not_explained(text: str):
    """A word that a failure has too is no failure."""
    assert [match.entry.key for match in explain(text)] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("ModuleNotFoundError: No module named 'mlx_lm'", "unreachable"),
        (
            "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00",
            "connect_timeout",
        ),
        ("certificate verify failed: self-signed certificate", "unreachable"),
        ("No module named 'timeout_tools'", "connect_timeout"),
    ],
)
def test_a_part_of_a_word_explains_nothing(text: str, wrong: str):
    """What a text merely resembles is not among its explanations."""
    assert wrong not in [match.entry.key for match in explain(text)]


def test_another_server_is_not_called_ollama():
    """A refused connection names the server that was asked where the text does."""
    [match, *_] = explain("Error 111 connecting to localhost:6379. Connection refused.")
    assert "`ollama serve`" not in match.entry.remedy.partition(";")[0]
