"""The level of a line, however its writer spells it: words, numbers, letters, statuses, crashes of a runtime.

`--level`, the statistics and the watch all ask here.
"""

import csv
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

from opskit.logs.times import HEAD

Level = Literal["debug", "info", "warning", "error", "critical"]

#: Order of severity.
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error", "critical")
COMPLAINTS: tuple[Level, ...] = ("warning", "error", "critical")

_LEVEL_WORDS: dict[str, Level] = {
    # Of three and four letters: the consoles of zerolog and Serilog, and of logrus.
    **dict.fromkeys(("trace", "debug", "verbose", "trc", "dbg", "vrb", "trac", "debu"), "debug"),
    **dict.fromkeys(("info", "notice", "information", "inf"), "info"),
    **dict.fromkeys(("warn", "warning", "wrn"), "warning"),
    **dict.fromkeys(("err", "error", "fail", "erro"), "error"),
    **dict.fromkeys(("fatal", "critical", "crit", "severe", "panic", "dpanic", "alert", "emerg"), "critical"),
    **dict.fromkeys(("ftl", "fata", "pnc", "pani", "emergency"), "critical"),
}
_SHORT_COMPLAINTS = rb"WRN|ERRO|FTL|FATA|PNC|PANI"
_WORDS = (
    rb"TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERR|ERROR|FATAL|CRITICAL|CRIT|SEVERE|PANIC|TRC|DBG|VRB|INF|DEBU|%b"
    % _SHORT_COMPLAINTS
)
_SMALL_WORDS = b"|".join(word.encode() for word in _LEVEL_WORDS)
#: A level in capitals (`production.ERROR:`, `ERROR/MainProcess]`, `ERRO[0000]`), logfmt's `level=warn`, or
#: `[error]`, `[error    ]` and `[core:error]`, or launchd's `<Error>:`.
_LEVEL = re.compile(
    rb"(?:^|[\s\[|:\"=<(]|\w\.(?=\w+:))(%b)(?=$|[\s\]|:,;\">)!-]|/[\w-]+\]|\[\d)|(?:^|[\s{,])(?:level|lvl|severity)=\"?(\w+)"
    rb"|[\[:](%b) *\]|<((?i:%b))>:" % (_WORDS, _SMALL_WORDS, _SMALL_WORDS)
)
#: A level in any case that begins a line, or follows its time: `error: no such host`, `12:30:00Z Warn: full`;
#: behind a time it needs no colon (the consoles of zap and winston).
_FIRST_WORD = re.compile(
    rb"(?:[\[(]?[\dT:.,+Z/ -]{8,40}[\])]? )?\[?(%b)\]?:(?=\s|$)"
    rb"|\d{4}-\d\d-\d\d[\dT:.,+Z -]{6,30}[\t |]+(%b)(?=[\t |])" % (_SMALL_WORDS, _SMALL_WORDS),
    re.IGNORECASE,
)
LEADING_LEVEL = re.compile(rb"^[\s\[|:(-]*(?:%b)\b[\]:)]*" % _WORDS)
_LOGFMT_MESSAGE = re.compile(rb'\b(?:msg|message|error|err)=("(?:[^"\\]|\\.)*"|\S+)')
#: A line of a GIN server: time, status, seconds, client, method and path.
_GIN = re.compile(rb"\[GIN\] [\d/]{10} - [\d:]{8} \| *(\d{3}) \|[^|]*\|[^|]*\| *(.*)", re.DOTALL)
#: What web servers write of a request that they answered.
_ACCESS = re.compile(rb'"([A-Z]{3,10} (?:[^"\\]|\\.)*) HTTP/[\d.]+" ([1-5]\d\d)\b')
#: Lines whose level is a letter, a mark or a word of their own: klog's and glog's
#: `E0101 12:30:00.123456   17 file.go:20] text`; llama.cpp's server with minutes, seconds, ms, µs since its
#: start; macOS's `log` with time, thread and type, and its compact style; Redis.
_LETTERED = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"([DIWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [^\s\]]+\] ?(.*)",
        rb"\d+\.\d\d\.\d{3}\.\d{3} ([DIWE]) (.*)",
        rb"[\d-]{10} [\d:.]{8,15}[+-]\d{4} +0x[0-9a-f]+ +(Default|Info|Debug|Error|Fault) +(.*)",
        rb"[\d-]{10} [\d:.]{12} +(Df|I|Db|E|F|A) +[^\[\n]+\[\d+:[0-9a-f]+\] (.*)",
        rb"\d+:[CMSX] \d\d [A-Z][a-z]{2} \d{4} [\d:.]{12} ([.*#-]) (.*)",
    )
)
#: What most lines with a level begin with: one match says all that is known of them.
_USUAL = re.compile(
    rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?Z? +\[?"
    rb"(DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)(?=[ \]:])"
)
_TIME_IN_FRONT = re.compile(
    rb"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?\]?:? "
)
#: A program without a logger: `llama_model_load: error loading model`.
_SAYS_FAILED = re.compile(rb"[A-Za-z_][\w./-]{1,60}: (?:error\b(?!s)[: ]|failed to )")
_LETTERS: dict[bytes, Level] = {
    **dict.fromkeys((b"D", b"Debug", b"Db", b".", b"-"), "debug"),
    **dict.fromkeys((b"I", b"Info", b"Default", b"Df", b"A", b"*"), "info"),
    **dict.fromkeys((b"W", b"#"), "warning"),
    **dict.fromkeys((b"E", b"Error"), "error"),
    **dict.fromkeys((b"F", b"Fault"), "critical"),
}
#: PostgreSQL's csvlog: a time with a zone, then user and database, quoted or empty.
_CSV = re.compile(rb'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z+\d-]+,[",]')
_CSV_LEVEL, _CSV_MESSAGE = 11, 13
#: What ends a process, as Go, Rust, Java, C++, llama.cpp and the shell write it.
_CRASH = re.compile(
    rb"(?:panic|fatal error): |thread '[^']*'(?: \(\d+\))? panicked at |Exception in thread \"|GGML_ASSERT\("
    rb"|CUDA error: |terminate called after throwing |Segmentation fault\b|Uncaught \w*(?:Error|Exception)\b"
)
#: An exception's name and what it says, as the last line of a traceback or the first line of a stack.
#: What Python's `warnings` print: `/app/a.py:12: UserWarning: text`.
_WARNED = re.compile(rb"\S+:\d+: ((?:[A-Za-z_][\w.]*)?Warning: )")
EXCEPTION = re.compile(rb"(?:[A-Za-z_][\w.$]*)?(?:Error|Exception|Warning)(?=:|\s*$)")
TRACEBACK = b"Traceback (most recent call last)"
_COLOUR = rb"(?:\x1b\[[\d;]*m)*"
#: Every line that may complain has one of these, other than the words ERROR and WARN in capitals.
SIGNS = (
    rb"(?:\b|\[[\d;]{1,12}m)(?:CRIT|CRITICAL|FATAL|SEVERE|PANIC|%b)\b|Traceback \(most recent call last\)"
    rb'|(?:level|severity|lvl)\w{0,5}(?:"\s*:\s*"|="?)(?i:warn|err|crit|fatal|d?panic|alert|emerg|severe)'
    rb'|"(?:@l|s)"\s*:\s*"[WEF]'
    rb'|everity_?(?i:number"\s*:\s*"?(?:1[3-9]|2[0-4]|<?severity_?number[_.](?:warn|err|fatal)))'
    rb'|(?:level|severity|lvl)\w{0,5}(?:"\s*:\s*"?|="?)(?:[456]\d|[0-4])\b'
    rb"|(?:[\[:]|\[[\d;]{1,12}m)(?:warn(?:ing)?|err(?:or)?|crit(?:ical)?|alert|emerg|fatal) *%b *\]"
    rb"|\b(?i:warn(?:ing)?|err(?:or)?|fail|crit(?:ical)?|alert|emerg|fatal|panic|severe)\]?:\s"
    rb"|[\dZ][\t |]{1,9}(?:[Ww]arn(?:ing)?|[Ee]rr(?:or)?|[Ff]ail|[Cc]rit(?:ical)?|[Aa]lert|[Ee]merg|[Ff]atal"
    rb"|[Pp]anic|[Ss]evere)[\t |]"
    rb"| 0x[0-9a-f]{1,16} {1,9}(?:Error|Fault) |\d [EF]  ?[^\[\n]{1,80}\[\d+:[0-9a-f]+\] "
    rb'|"messageType"\s*:\s*"(?:Error|Fault)|<(?i:warn(?:ing)?|err(?:or)?|crit(?:ical)?|alert|emerg(?:ency)?)>:'
    rb"|[CMSX] \d\d [A-Z][a-z]{2} \d{4} [\d:.]{12} #"
    rb"|(?:(?m:^)|[\dZ\]] )[A-Za-z_][\w./-]{1,60}: (?:error|failed to)\b"
    rb"|[WEF]\d{4} \d\d:\d\d:\d\d\.\d|\d\.\d{3}\.\d{3} [WE] "
    rb"|\[GIN\] [\d/]{10} - [\d:]{8} \|(?:\x1b\[[\d;]*m)* *5\d\d|HTTP/[\d.]+\" 5\d\d\b"
    rb"|fatal error: |panicked at |Exception in thread |GGML_ASSERT|CUDA error: |terminate called"
    rb"|Segmentation fault|(?:Error|Exception|Warning)(?::|\s)" % (_SHORT_COMPLAINTS, _COLOUR)
)
WORD_SIGNS = rb"|ERR(?:OR)?\b|WARN(?:ING)?\b"
#: The severities of syslog, 0 to 7.
SEVERITIES: tuple[Level, ...] = (
    *("critical", "critical", "critical", "error", "warning", "info", "info", "debug"),
)
_OTEL_SEVERITY = re.compile(r"^(\d{1,2})(?:\.0)?$|(?:^|[._])(TRACE|DEBUG|INFO|WARN|ERROR|FATAL)[2-4]?\b")
#: A level word further behind than this is not in front of the message.
_LEVEL_IN_FRONT = 120
_MESSAGE_BYTES = 500
_AROUND = b" \t-:|]>)[\r"


class LineLevel(NamedTuple):
    """`message` is what the level introduces; `is_word` tells that a word of the line is the level."""

    level: Level
    message: bytes
    is_word: bool = False


def line_level(line: bytes) -> LineLevel | None:
    """Return the level that a line of text says, without colours and prefix; None for one that says none."""
    access = _ACCESS.search(line, 0, HEAD) if b" HTTP/" in line else None
    # What a client sends, its address and its name, is no level.
    end = HEAD if access is None else access.start()
    if access is None and (usual := _USUAL.match(line)) is not None and (level := _word_level(usual[1])):
        text = line[usual.end() : usual.end() + _MESSAGE_BYTES]
        return LineLevel(level, text.lstrip(_AROUND).rstrip(), is_word=True)
    time = _TIME_IN_FRONT.match(line)
    text = line if time is None else line[time.end() :]
    if (special := _special_form(line) or (_special_form(text) if time else None)) is not None:
        return special
    first = _FIRST_WORD.match(line, 0, end)
    word = first or _LEVEL.search(line, 0, end)
    level = None if word is None else _word_level(next(filter(None, word.groups())))
    if access is not None and level not in COMPLAINTS:
        return LineLevel("error" if access[2] >= b"500" else level or "info", access[2] + b" " + access[1])
    if word is None or level is None:
        return _of_exception(text)
    if word is not first and word[2]:
        quoted = _LOGFMT_MESSAGE.search(line)
        text = line[word.end() :] if quoted is None else quoted[1].strip(b'"')
    elif word.start() < _LEVEL_IN_FRONT:
        text = line[word.end() : word.end() + _MESSAGE_BYTES]
    else:
        text = line[:_MESSAGE_BYTES]
    return LineLevel(level, text.lstrip(_AROUND).rstrip(), is_word=True)


def word_level(text: bytes) -> Level | None:
    """Return the level that a word in a text says."""
    word = _LEVEL.search(text, 0, HEAD)
    return None if word is None else _word_level(next(filter(None, word.groups())))


def is_padded_level(line: bytes) -> bool:
    """Whether an indented line begins with a level, as rich writes it when the time has not changed."""
    return _PADDED.match(line) is not None


_PADDED = re.compile(rb" {10,}(?:%b) {1,9}\S" % _WORDS)


def level_of(word: str) -> Level | None:
    """The level that a word stands for, in any case, or a number of pino and bunyan."""
    text = word.strip().lower()
    if len(text) == len("50") and text.isascii() and text.isdigit():
        return _numbered(int(text))
    return _LEVEL_WORDS.get(text)


def json_level(value: Any, body: Mapping[str, Any]) -> Level | None:
    """The level that a value in a JSON line stands for."""
    if isinstance(value, dict):
        value = value.get("name") or value.get("text") or value.get("level")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "short_message" in body and value in range(len(SEVERITIES)):
            return SEVERITIES[int(value)]  # GELF
        return _numbered(value)
    # macOS's `log show --style ndjson` has a type above errors.
    return None if value is None else "critical" if value == "Fault" else level_of(str(value))


def letter_level(value: Any) -> Level | None:
    """The level that a letter stands for, as MongoDB writes it: `E`, `W`, `D1` to `D5`."""
    return _LETTERS.get(value[:1].encode()) if isinstance(value, str) and value[1:] in "12345" else None


def otel_level(value: Any) -> Level | None:
    """The level of a severity number of OpenTelemetry: 1 to 24, four for each level, or its name.

    The name may be that of the protocol, `SEVERITY_NUMBER_ERROR2`, or of a program.
    """
    named = _OTEL_SEVERITY.search(str(value).upper())
    if named is None:
        return None
    if named[2]:
        return level_of(named[2])
    number = (int(named[1]) - 1) // 4
    return ("debug", *LEVELS)[number] if 0 <= number <= len(LEVELS) else None


@cache
def compiled_signs(pattern: bytes = SIGNS) -> re.Pattern[bytes]:
    """A pattern of ours, of RE2, which is imported when it is needed."""
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    compiled: re.Pattern[bytes] = re2.compile(pattern, options)
    return compiled


def _numbered(number: float) -> Level | None:
    """The level of a number of pino and bunyan: 10 and 20 for debug, 30 for info, up to 69."""
    return LEVELS[max(0, int(number) // 10 - 2)] if 10 <= number < 70 else None


def _special_form(line: bytes) -> LineLevel | None:
    """The level and the message of a line whose level is no word of its text."""
    if line[:5] == b"[GIN]" and (request := _GIN.match(line)) is not None:
        level: Level = "error" if request[1] >= b"500" else "info"
        return LineLevel(level, request[1] + b" " + b" ".join(request[2].split()))
    if line[:2].isdigit() or line[1:5].isdigit() or line[1:2] in (b".", b":"):
        for pattern in _LETTERED:
            if (logged := pattern.match(line)) is not None:
                return LineLevel(_LETTERS[logged[1]], logged[2].strip())
        return _of_csv(line) if _CSV.match(line) else None
    return LineLevel("error", line.strip()) if _CRASH.match(line) else None


def _of_csv(line: bytes) -> LineLevel | None:
    fields = next(csv.reader([line.decode("utf-8", "replace")]), [])
    level = level_of(fields[_CSV_LEVEL]) if len(fields) > _CSV_MESSAGE else None
    return LineLevel(level or "info", fields[_CSV_MESSAGE].encode()) if len(fields) > _CSV_MESSAGE else None


def _of_exception(line: bytes) -> LineLevel | None:
    """The level of a traceback, or of an exception that no other line introduces."""
    if line.startswith(TRACEBACK):
        return LineLevel("error", line)
    if _SAYS_FAILED.match(line):
        return LineLevel("error", line[:_MESSAGE_BYTES].strip())
    if (warned := _WARNED.match(line)) is not None:
        return LineLevel("warning", line[warned.start(1) : _MESSAGE_BYTES].strip())
    name = EXCEPTION.match(line)
    if name is None:
        return None
    return LineLevel("warning" if name[0].endswith(b"Warning") else "error", line[:_MESSAGE_BYTES].strip())


@lru_cache(maxsize=256)
def _word_level(word: bytes) -> Level | None:
    return level_of(word.decode())
