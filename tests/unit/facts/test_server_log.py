"""What the lines of a model server's log tell, by logs that real servers wrote."""

from opskit.facts.kernel_log import KernelKill, kernel_kills
from opskit.facts.server_log import ServerLog, logged
from opskit.llm.faults import FaultKind
from opskit.logs.source import LineSplitter
from opskit.logs.times import timestamp

#: Ollama fb307609: a prompt that is cut, one that is refused, a runner that was killed, a client that left.
OLLAMA = """\
time=2026-11-28T05:32:40.036 level=INFO source=llama_server.go:1362 msg="llama-server started"
0.01.508.417 I slot launch_slot_: id  0 | task 0 | processing task, is_child = 0
[GIN] 2026/11/28 - 05:32:40 | 200 |  1.763300218s |       127.0.0.1 | POST     "/api/chat"
[GIN] 2026/11/28 - 05:32:51 | 500 |  1.525210855s |       127.0.0.1 | POST     "/api/chat"
time=2026-11-28T05:32:53.773 level=WARN source=llama_server.go:1196 msg="llama-server process no longer \
running" sys=9 string="signal: killed"
time=2026-11-28T05:32:54.606 level=WARN source=llama_server.go:317 msg="truncating input prompt" limit=2050 \
prompt=9010 keep=4 new=2050
0.19.013.311 E srv    send_error: task id = 6, error: request (9010 tokens) exceeds the available context \
size (4096 tokens), try increasing it
[GIN] 2026/11/28 - 05:33:12 | 400 |   24.452158ms |       127.0.0.1 | POST     "/api/chat"
[GIN] 2026/11/28 - 05:33:12 | 499 |          1m2s |       127.0.0.1 | POST     "/api/chat"
[GIN] 2026/11/28 - 05:33:13 | 404 |     295.748µs |       127.0.0.1 | GET      "/api/nothing"
time=2026-11-28T05:33:14.907 level=ERROR source=llama_server.go:1023 msg="llama-server terminated" \
error="signal: killed" exit=unknown
"""
#: llama.cpp b10488, whose clock begins with the process.
LLAMACPP = """\
0.00.000.368 I srv          init: initializing ...
listening on http://127.0.0.1:18471
0.06.027.351 E srv    send_error: task id = 0, error: request (9031 tokens) exceeds the available context \
size (512 tokens), try increasing it
0.06.268.650 I slot print_timing: id  0 | task 3 |        eval time =      49.08 ms /     4 tokens
0.16.027.351 E srv    send_error: task id = 9, error: request (77 tokens) exceeds the available context size \
(64 tokens), try increasing it
0.26.271.055 I srv          stop: all is well
"""
#: mlx_lm.server 0.32.2: the status is written before the work.
MLX = """\
2026-11-28 05:35:44,293 - INFO - Starting httpd at 127.0.0.1 on port 47625...
127.0.0.1 - - [28/Nov/2026 05:35:44] "POST /v1/chat/completions HTTP/1.1" 200 -
2026-11-28 05:35:44,367 - INFO - Prompt processing progress: 4/5
----------------------------------------
Exception occurred during processing of request from ('127.0.0.1', 55726)
Traceback (most recent call last):
  File "/lib/python3.11/site-packages/mlx_lm/server.py", line 1352, in do_POST
    self.handle_completion(request, stop_words)
RuntimeError: [metal::malloc] Attempting to allocate 14680064000 bytes which is too many
----------------------------------------
127.0.0.1 - - [28/Nov/2026 05:35:50] "GET /v1/models HTTP/1.1" 200 -
----------------------------------------
Exception occurred during processing of request from ('127.0.0.1', 55727)
Traceback (most recent call last):
  File "/lib/python3.11/site-packages/mlx_lm/server.py", line 1792, in do_GET
    self.handle_models_request()
huggingface_hub.errors.CacheNotFound: Cache directory not found: /x/hub.
----------------------------------------
127.0.0.1 - - [28/Nov/2026 05:35:51] "POST /v1/chat/completions HTTP/1.1" 200 -
Traceback (most recent call last):
  File "/lib/python3.11/site-packages/mlx_lm/server.py", line 1352, in do_POST
    self.wfile.write(content)
BrokenPipeError: [Errno 32] Broken pipe
"""
#: Local time, as GIN writes it.
NOON = timestamp(b"2026-11-28T05:32:00") or 0.0


def read(text: str, *, since: float = NOON, until: float = NOON + 300) -> ServerLog:
    lines = LineSplitter("server.log")
    batch = [*lines.feed(text.encode()), *lines.finish()]
    return logged("server.log", batch, since=since, until=until)


def test_ollamas_log_tells_failed_requests_with_their_reason():
    """Only requests for text count, each with what the lines before it name; a client that left is none."""
    log = read(OLLAMA)
    assert [(failure.kind, round(failure.at - NOON)) for failure in log.failures] == [
        (FaultKind.SERVER_ERROR, 51),
        (FaultKind.CONTEXT_EXCEEDED, 72),
    ]
    assert "9010 tokens" in log.failures[1].text
    assert log.answered_at is not None
    assert round(log.answered_at - NOON) == 40
    assert [(cut.prompt, cut.limit) for cut in log.cuts] == [(9010, 2050)]


def test_what_is_older_than_an_hour_is_not_told():
    """Failures and cut prompts before the window are left out."""
    log = read(OLLAMA, since=NOON + 60)
    assert [failure.kind for failure in log.failures] == [FaultKind.CONTEXT_EXCEEDED]
    assert log.cuts == ()
    assert log.answered_at is None


def test_llamacpps_clock_is_set_by_the_last_line():
    """Its lines have the seconds since its start; the file tells when the last one was written."""
    log = read(LLAMACPP, until=NOON + 100)
    assert [round(failure.at - NOON) for failure in log.failures] == [80, 90]
    assert log.answered_at is not None
    assert log.failures[0].at < log.answered_at < log.failures[1].at
    again = read(LLAMACPP + "0.00.000.100 I srv init: initializing ...\n0.00.500.000 I srv ready\n")
    assert again.failures == ()


def test_mlx_fails_after_its_status():
    """A traceback behind status 200 is a failure; that of a page, or of a client that left, is none."""
    log = read(MLX)
    [failure] = log.failures
    assert failure.kind is FaultKind.OUT_OF_MEMORY
    assert failure.text.startswith("RuntimeError: [metal::malloc]")


def test_a_line_without_any_time_counts_only_at_the_end():
    """Nobody knows when it was written, unless the file's own time says so."""
    line = "llama_model_load: error loading model: tensor 'x' data is not within the file bounds\n"
    assert read(line + "bye\n").failures == ()
    [failure] = read(f"hello\nERROR {line}").failures
    assert (failure.kind, failure.at) == (FaultKind.BROKEN_MODEL_FILE, NOON + 300)


def test_a_prompt_in_a_log_is_no_failure():
    """What people and models write may speak of memory and templates; an info line is no complaint."""
    assert (
        read('time=2026-11-28T05:32:40.000 level=INFO msg="prompt: out of memory, failed"\n').failures == ()
    )


def test_the_kernels_words_for_a_kill():
    """A kill for want of memory, by the machine or a control group; other messages are none."""
    lines = [
        (10.0, b"Memory cgroup out of memory: Killed process 2614 (llama-server) total-vm:828048kB, UID:0"),
        (20.0, b"Out of memory: Kill process 9 (ollama) score 900 or sacrifice child"),
        (5.0, b"Out of memory: Killed process 7 (ollama) total-vm:1kB"),
        (20.0, b"br-9799: port 1(veth) entered disabled state"),
    ]
    assert kernel_kills(lines, 10.0) == (
        KernelKill(10.0, 2614, "llama-server"),
        KernelKill(20.0, 9, "ollama"),
    )
