"""The level of a line, however it is written, is the same for `--level` and for the statistics."""

import pytest

from opskit.logs.record import LogEntry, facts, without_prefix
from opskit.logs.scan import hits
from opskit.logs.select import EntryFilter
from opskit.logs.stats import Feeder, LogTally

ERRORS = (
    b"\x1b[32m2026-05-04 10:20:30\x1b[0m | \x1b[31m\x1b[1mERROR   \x1b[0m | \x1b[36mpay\x1b[0m - boom",
    b"\x1b[31mERROR\x1b[0m:    Exception in ASGI application",
    b"2026-05-04 10:20:30 [\x1b[35;1mCRITICAL\x1b[0m] worker lost",
    b"\x1b[1;31mFATAL\x1b[0m out of disk",
    b"ERROR | started badly",
    b"2026/05/04 10:20:30 [error] 7#7: *1 connect() failed",
    b"[Mon May 04 10:20:30.000 2026] [core:crit] [pid 7] no memory",
    b'{"level":50,"time":1777890030500,"pid":1,"hostname":"a","msg":"boom"}',
    b'{"name":"pay","level":60,"msg":"boom","time":"2026-05-04T10:20:30Z","v":0}',
    b'{"version":"1.1","host":"a","short_message":"boom","level":3}',
    b'level=50 msg="boom"',
    b"E0504 10:20:30.500000      17 pay.go:20] boom",
    b"F0504 10:20:30.500000      17 pay.go:20] boom",
    b"0.06.027.351 E srv    send_error: task id = 0, error: boom",
    b"cpp-1  | 61.06.027.351 E srv    send_error: boom",
    b'[GIN] 2026/05/04 - 10:20:30 | 500 |  3.428625625s |  127.0.0.1 | POST     "/api/chat"',
    b'[GIN] 2026/05/04 - 10:20:30 |\x1b[97;41m 503 \x1b[0m|  42.04ms |  ::1 |\x1b[97;46m POST \x1b[0m "/"',
    b'pay-1  | [GIN] 2026/05/04 - 10:20:30 | 500 |  5m0s |  127.0.0.1 | POST     "/api/chat"',
    b"2026-05-04T10:20:30.616Z [error    ] db down                        host=db1",
    b"\x1b[2m2026-05-04T10:20:30.6Z\x1b[0m [\x1b[31m\x1b[1merror    \x1b[0m] \x1b[1mdb down\x1b[0m",
    b"                    ERROR    down                                          app.py:44",
    b'{"text": "x | ERROR | down", "record": {"level": {"icon": "X", "name": "ERROR", "no": 40}}}',
    b'{"timestamp":"2026-05-04 10:20:30.566 UTC","pid":5863,"error_severity":"ERROR","message":"no"}',
    b'2026-05-04 10:20:30.566 UTC,"me","db",5863,"::1",6b,1,"INSERT",x,3/6,7,ERROR,23505,"no",,',
    b'{"@t":"2026-05-04T10:20:30Z","@l":"Fatal","@m":"down"}',
    b'{"level":"dpanic","ts":1777890030.5,"msg":"a bug"}',
    b'{"timeUnixNano":"1777890030500000000","severityNumber":17,"body":{"stringValue":"down"}}',
    b'{"severityText":"","severityNumber":"SEVERITY_NUMBER_FATAL2","body":{"stringValue":"down"}}',
    b'{"body":"down","severity_number":"<SeverityNumber.ERROR: 17>","timestamp":"2026-05-04T10:20:30Z"}',
    b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":9},{"severityNumber":18}]}]}]}',
    b'{"t":{"$date":"2026-05-04T10:20:30.500+00:00"},"s":"E","c":"STORAGE","id":1,"msg":"no disk"}',
    b"SEVERE: task failed",
    b"error: cannot connect ECONNREFUSED 127.0.0.1:5432",
    b"2026-05-04T10:20:30.000Z error: plain failure",
    b"2026-05-04 10:20:30 [error]: bracketed failure",
    b"fail: Microsoft.Hosting[0]",
    b"TypeError: Cannot read properties of null\n    at Object.<anonymous> (/a.js:3:12)",
    b'Exception in thread "main" java.lang.IllegalStateException: end\n\tat J.main(J.java:2)',
    b"panic: assignment to entry in nil map\n\ngoroutine 1 [running]:\nmain.main()\n\t/main.go:5 +0x685",
    b"thread 'main' (5306) panicked at r.rs:1:61:",
    b"GGML_ASSERT(n_tokens <= n_batch) failed",
    b'INFO:     127.0.0.1:41626 - "POST /run HTTP/1.1" 503 Service Unavailable',
    b'127.0.0.1 - - [04/May/2026:10:20:30 +0000] "GET /up HTTP/1.1" 502 157 "-" "curl/7.88.1"',
    b"\xef\xbb\xbfERROR: the first line of a file of Windows",
    b'\xef\xbb\xbf{"level":"error","message":"boom"}',
    b"\x1b[31mERROR\x1b[0m it failed\n\x1b[31mTraceback (most recent call last):\x1b[0m\n  x\nOSError: no",
    b'{"message":"boom","level":400,"level_name":"ERROR","channel":"app","datetime":"2026-05-04T10:20:30+00:00"}',
    b'[2026-05-04 10:20:30] production.ERROR: boom {"exception":"[object]"}',
    b"[2026-05-04 10:20:30,123: ERROR/MainProcess] Task raised unexpected: no",
    b"2026-05-04T10:20:30.123Z\terror\tserver/run.go:12\tboom",
    b"2026-05-04T10:20:30.123Z error  Failed to open",
    b'2026-05-04T10:20:30.123Z | error | boom {"file":"a.js"}',
    b"2026-05-04 10:20:30.123456+0200 0x1a2b Error       0x0  12  0  ollama: (Metal) no device",
    b"llama_model_load: error loading model: no space",
    b"ggml_cuda_init: failed to initialize CUDA: no driver",
    b"10:01AM ERR no model error=gone",
    b"\x1b[90m10:01AM\x1b[0m \x1b[31mFTL\x1b[0m gone",
    b"[10:20:30 FTL] gone",
    b"ERRO[0012] no model",
    b"\x1b[31mFATA\x1b[0m[0000] no daemon",
    b"2026-05-04 10:20:30.123456 (gui/501/com.ollama) <Error>: Service could not initialize",
    b"2026-05-04 10:20:30.123 E  ollama[12:ab3] [com.apple.net:tcp] no route",
    b"2026-05-04 10:20:30.123 F  ollama[12:ab3] fault",
    b'{"timestamp":"2026-05-04 10:20:30.123456+0100","messageType":"Fault","eventMessage":"gone"}',
    b'{"timestamp":"2026-05-04 10:20:30.123456+0100","messageType":"Error","eventMessage":"gone"}',
    b'{\n    "body": "down",\n    "severity_number": 17,\n    "severity_text": "ERROR"\n}',
    b"\0" * 500 + b"2026-05-04 10:20:30 ERROR behind a hole",
    b"KeyError: OPENAI_API_KEY",
    b"2026-05-04 10:20:30,123 KeyError: OPENAI_API_KEY",
    b'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    g()\nValueError: no',
)
WARNINGS = (
    b'{"level":40,"msg":"slow"}',
    b"W0504 10:20:30.500000      17 pay.go:20] slow",
    b"\x1b[33mWARN\x1b[0m slow",
    b"2026-05-04T10:20:30.616Z [warning  ] slow query                     seconds=3",
    b"warn: low",
    b'{"severityNumber":13,"body":{"stringValue":"slow"}}',
    b'{"t":{"$date":"2026-05-04T10:20:30.500Z"},"s":"W","c":"CONTROL","id":2,"msg":"no access control"}',
    b'{"@t":"2026-05-04T10:20:30Z","@l": "Warning","@m":"low"}',
    b"DeprecationWarning: use the other one",
    b"/app/model.py:12: UserWarning: no GPU\n  warn()",
    b"10:00AM WRN slow took=4s",
    b"[10:20:30 WRN] slow",
    b"WARN[0000] slow",
    b"21978:M 04 May 2026 10:20:30.003 # Memory overcommit must be enabled!",
    b"2026-05-04 10:20:30.123456 (system/com.ollama) <Warning>: Service exited",
    b'[2026-05-04 10:20:30] local.WARNING: low {"free":1}',
    b"2026-05-04T10:20:30.123Z\twarn\tserver/run.go:12\tlow",
)
OTHERS = (
    b"2026/05/04 10:20:30 [notice] 7#7: signal [error] expected",
    b'{"level":30,"msg":"ERROR is over"}',
    b'{"level":20,"msg":"x"}',
    b'{"severityNumber":9,"body":{"stringValue":"ERROR is over"}}',
    b'{"severityNumber":0,"body":{"stringValue":"x"}}',
    b'{"t":{"$date":"2026-05-04T10:20:30.500Z"},"s":"D2","c":"QUERY","id":3,"msg":"x"}',
    b'{"s":"E","points":3}',
    b"21978:M 04 May 2026 10:20:30.003 * Ready, 0 ERROR",
    b"2026-05-04 10:20:30.123 Df ollama[12:ab3] ERROR is over",
    b"the tag <error> of a page",
    b'{\n    "body": "ERROR is over",\n    "severity_text": "INFO"\n}',
    b'{"level":0,"msg":"x"}',
    b'{"level":true,"msg":"x"}',
    b"I0504 10:20:30.500000      17 pay.go:20] ERROR is over",
    b'[GIN] 2026/05/04 - 10:20:30 | 200 |  3.4s |  127.0.0.1 | POST     "/errors/500"',
    b'[GIN] 2026/05/04 - 10:20:30 | 404 |  3.4s |  127.0.0.1 | POST     "/api/chat"',
    b"E0504 is a part number",
    b"0.06.027.351 I srv    init: ERROR is over",
    b'127.0.0.1 - - [04/May/2026:10:20:30 +0000] "GET /x?level=error HTTP/1.1" 200 20 "-" "ERROR agent"',
    b'{"level":"info","error_count":3,"config":{"level":"error"}}',
    b"2026-05-04 10:20:30 INFO the error: it was found",
    b"\tat com.example.TypeError: none",
    b"2026-05-04T10:20:30.123Z\tinfo\tserver/run.go:12\terror count is 0",
    b"2026-05-04T10:20:30Z info  no error here",
    b"2026-05-04 10:20:30.123456+0200 0x1a2b Default     0x0  12  0  ollama: Error is over",
    b"stats: errors 0, failed 0",
    b"uploads: error_log rotated",
)


@pytest.mark.parametrize(
    ("line", "level"),
    [*((line, "error") for line in ERRORS), *((line, "warning") for line in WARNINGS)],
)
def test_a_level_is_read_in_every_writing(line, level):
    """Colours, numbers, klog's letters and GIN's statuses are levels like words."""
    wanted = EntryFilter(level=level)
    tally = LogTally()
    tally.feed(line + b"\n", "app")
    assert wanted.accepts(LogEntry("app", line))
    assert hits(line + b"\n", wanted) == [(0, len(line) + 1)]
    assert (tally.errors.total, tally.warnings.total) == (level == "error", level == "warning")


@pytest.mark.parametrize("line", [line for line in (*ERRORS, *WARNINGS) if not line.startswith(b"Traceback")])
def test_a_complaint_is_found_behind_other_lines(line):
    """A pattern that looks for the beginning of a line finds it anywhere in a block."""
    before = b"0.00.027.351 I main: started\n"
    wanted = EntryFilter(level="warning")
    assert hits(before + line.removeprefix(b"\xef\xbb\xbf") + b"\n", wanted)[0][0] == len(before)


@pytest.mark.parametrize("line", [*ERRORS, *WARNINGS, *OTHERS])
def test_a_line_of_a_container_counts_as_the_same_line_of_a_file(line):
    """Its time is Docker's, and stands in no text."""
    _, text = without_prefix(line.removeprefix(b"\xef\xbb\xbf"))
    in_file, of_container = LogTally(), LogTally()
    in_file.feed(text + b"\n", "app")
    feeder = Feeder(of_container, "app")
    feeder.push_event(LogEntry("app", text, 1777890030.5))
    feeder.close()
    for counts in (in_file, of_container):
        assert [counted.count for _, counted in counts.errors.top(9)] == [1] * counts.errors.total
    assert of_container.errors.total == in_file.errors.total
    assert of_container.warnings.total == in_file.warnings.total
    assert [shape for shape, _ in of_container.errors.top(9)] == [shape for shape, _ in in_file.errors.top(9)]


@pytest.mark.parametrize("line", OTHERS)
def test_what_only_resembles_a_level_is_none(line):
    """Numbers and words elsewhere in a line do not count."""
    tally = LogTally()
    tally.feed(line + b"\n", "app")
    assert facts(line).level not in ("warning", "error", "critical")
    assert (tally.errors.total, tally.warnings.total) == (0, 0)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            b"thread 'main' (7) panicked at r.rs:1:61:\n3 is out\nnote: run with `RUST_BACKTRACE=1`",
            "<n> is out",
        ),
        (
            b"2026-05-04T10:20:30Z ERROR a: no\n\njava.lang.IllegalStateException: bad\n\tat a.b(C:1)\n\n",
            "a: no",
        ),
        (
            b"2026-05-04T10:20:30Z\tERROR\ta.go:1\tno\nmain.main\n\t/a.go:1\nnet/http.(*conn).serve\n\t/b.go:2",
            "a.go:<n>",
        ),
        (
            b"ERROR: it\nfuture: <Task finished>\nTraceback (most recent call last):\n  x\nOSError: no",
            "OSError: no",
        ),
        (
            "[error    ] failed\n╭─ Traceback (most recent call last) ─╮\n│ x ERROR y │\n╰─────╯\n"
            "KeyError: 'k'\n".encode(),
            "KeyError",
        ),
        (
            b"ERROR no answer\nTraceback (most recent call last):\n  x\nrequests.exceptions.Timeout: 5 s",
            "requests.exceptions.Timeout",
        ),
        (
            b"12:30:00 ERROR [main] App - task\njava.io.IOException: no\n\tat a.App(A:1)\nCaused by: x",
            "task",
        ),
        (
            b"panic: nil map\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:5\nexit status 2",
            "panic: nil map",
        ),
        (b"thread 'main' panicked at r.rs:1:61:\n  index out of bounds\n   0: main", "index out of bounds"),
        (
            b'ERROR\nTraceback (most recent call last):\n\n> File "a", line 3\n    g()\n\nValueError: no',
            "ValueError",
        ),
    ],
)
def test_an_error_and_what_belongs_to_it_are_one_event(lines, message):
    """The stacks of Java, Go, Rust and loguru stay with the line that they explain and count once with it."""
    tally = LogTally()
    tally.feed(lines + b"\nINFO next\n", "app")
    [(shape, count)] = tally.errors.top(9)
    assert (count.count, message in shape) == (1, True)
    assert hits(lines + b"\nINFO next\n", EntryFilter(level="error")) == [(0, len(lines) + 1)]


def test_errors_of_a_console_are_each_one_of_their_own():
    """An exception behind an exception is another one."""
    tally = LogTally()
    tally.feed(b"Error: cannot open file\nTypeError: no\n    at a.js:1\nlistening\n", "app")
    assert tally.errors.total == 2


def test_a_duration_of_go_in_json_is_in_nanoseconds():
    """Nothing takes eleven thousand million seconds."""
    tally = LogTally()
    tally.feed(b'{"level":"INFO","msg":"slow","duration":11000000000}\n', "app")
    assert tally.timed.greatest == pytest.approx(11.0)


def test_the_message_of_a_line_is_free_of_colours_and_of_its_level():
    """Equal errors count as one, in colours or without."""
    tally = LogTally()
    for line in ERRORS[1], b"ERROR: Exception in ASGI application", ERRORS[9], ERRORS[10]:
        tally.feed(line + b"\n", "app")
    counts = {shape: count.count for shape, count in tally.errors.top(9)}
    assert counts == {"Exception in ASGI application": 2, "boom": 2}
