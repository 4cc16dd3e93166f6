"""What secrets look like in any text: tokens of known makers, headers, URLs, assignments, private keys. Pure.

Each finder gives the places to mask. They look at the same text side by side, so that none hides what another
one would have found, and each is linear in its length: logs are long and anybody's.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from opskit.diagnose.secret_names import promises_secret

Span = tuple[int, int]

_PEM = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)"
    r"(?:-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----|\Z)"
)
_PEM_END = re.compile(r"-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----")
#: A line out of the middle of a key, as OpenSSL, OpenSSH and PGP break them.
_KEY_LINE = re.compile(r"(?<![\w+/=])(?:[A-Za-z0-9+/]{76}|[A-Za-z0-9+/]{70}|[A-Za-z0-9+/]{64})(?![\w+/=])")
_KEY_LINES = 120
_MADE = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"eyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*){0,3}"  # JSON web tokens
    r"|sk-[\w-]{16,}|[rs]k_(?:live|test)_\w{10,}|whsec_\w{10,}"
    r"|gh[oprsu]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|hf_\w{16,}|gsk_\w{16,}|r8_\w{16,}|pplx-\w{16,}|xai-\w{16,}|AIza[\w-]{20,}|ya29\.[\w-]{10,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{12,}|xox[abeprs]-[\w-]{10,}|xapp-[\w-]{10,}"
    r"|npm_\w{20,}|pypi-[\w-]{20,}|dckr_pat_[\w-]{16,}|SG\.[\w-]{10,}\.[\w-]{10,}"
    r"|\d{8,10}:AA[\w-]{30,}|AGE-SECRET-KEY-1\w{20,}"
    r")"
)
_SECRET_ADDRESS = re.compile(
    r"(?:hooks\.slack\.com/(?:services|workflows)/|discord(?:app)?\.com/api/webhooks/|hc-ping\.com/(?:ping/)?"
    r"|api\.telegram\.org/bot|webhook\.office\.com/)(?P<hidden>[^\s\"'<>]++)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\bbearer[ \t]+(?P<hidden>[\w.~+/=%:-]{8,})", re.IGNORECASE)
_BASIC = re.compile(r"\bbasic[ \t]+(?P<hidden>[A-Za-z0-9+/_-]{4,}={0,2})", re.IGNORECASE)
_AUTHORITY = re.compile(r"://(?=(?P<rest>[^\s\"'<>`\\]{1,512}))")
_PORT_AND_PATH = re.compile(r"\d{1,5}(?:[/?#]|$)")
_NAME = re.compile(r"(?<![\w.-])(?P<name>[\w.-]++)(?:\\*[\"'])?\]?[ \t]{0,8}(?P<sign>=>|:=|[:=])[ \t]{0,8}")
_SPOKEN = re.compile(
    r"\b(?:api|access|secret|private|auth)[ ](?:key|token)[ \t]{0,4}[:=][ \t]{0,4}", re.IGNORECASE
)
_OPTION = re.compile(r"(?<![\w.-])--?(?P<name>[A-Za-z][\w-]*+)[ \t]+(?=\S)")
_WHOLE_LINE = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_GAP = re.compile(r"[ \t]+")
_SCHEME_CHARS = 10
_SCHEMES = frozenset({"bearer", "basic", "token", "digest", "apikey", "key"})
_BLOCK = re.compile(r"[|>][+-]?\d?[+-]?[ \t]*(?:#[^\n]*)?\n")
_OPENING = re.compile(r"\\*[\"'`]")
_BARE = re.compile(r"\S++")
_IN_QUERY = re.compile(r"[^&\s\"'#<>]++")
_HARMLESS = re.compile(
    r"(?:\*+|null|none|true|false|~|\$\{\w+\}|\$\w+|\(unset: \w+\)|<[a-z_ -]+>)[,;)}\]]*", re.IGNORECASE
)
_LOOK_BACK = 4096
#: A quoted value that is longer is masked to the end of its line.
_QUOTED_CHARS = 8192
_KEY_CHARS = 16_384


@dataclass(slots=True)
class _Runs:
    """Where lines and words of a text end. The last answers are kept: one word may hold many names."""

    text: str
    line: Span = (0, -1)
    word: Span = (0, -1)
    query: Span = (0, -1)

    def end_of_line(self, at: int) -> int:
        if not self.line[0] <= at <= self.line[1]:
            self.line = (at, _or(self.text.find("\n", at), len(self.text)))
        return self.line[1]

    def end_of_word(self, at: int) -> int:
        """`at` itself where no word stands."""
        self.word = self._run(_BARE, self.word, at)
        return self.word[1]

    def end_in_query(self, at: int) -> int:
        self.query = self._run(_IN_QUERY, self.query, at)
        return self.query[1]

    def _run(self, pattern: re.Pattern[str], known: Span, at: int) -> Span:
        if known[0] <= at < known[1]:
            return known
        found = pattern.match(self.text, at)
        return (at, found.end() if found else at)


def harmless(value: str) -> bool:
    """Whether what stands in a secret's place tells nothing: empty, masked, or a reference as ${NAME}."""
    return not value.strip() or _HARMLESS.fullmatch(value.strip()) is not None


def spans(text: str) -> Iterator[Span]:
    """Every place that looks like a secret, in no order; places may overlap."""
    for pattern in (_PEM, _MADE):
        yield from (match.span() for match in pattern.finditer(text))
    for pattern in (_SECRET_ADDRESS, _BEARER):
        yield from (match.span("hidden") for match in pattern.finditer(text))
    yield from (m.span("hidden") for m in _BASIC.finditer(text) if _is_user_and_password(m["hidden"]))
    yield from (m.span() for m in _KEY_LINE.finditer(text) if _looks_random(m[0]))
    yield from _ends_of_keys(text)
    yield from _in_addresses(text)
    yield from _assigned(text)


def _looks_random(text: str) -> bool:
    """A digest in hexadecimal is no key."""
    return any(map(str.isupper, text)) and any(map(str.islower, text)) and any(map(str.isdigit, text))


def _ends_of_keys(text: str) -> Iterator[Span]:
    """A key whose beginning was cut off: it has no more lines than this."""
    before = 0
    for match in _PEM_END.finditer(text):
        floor = max(before, match.start() - _KEY_CHARS)
        start = match.start()
        for _ in range(_KEY_LINES):
            start = text.rfind("\n", floor, start)
            if start < 0:
                break
        start = max(start, floor)
        if text.find("-----BEGIN ", start, match.start()) < 0:
            yield start, match.end()
        before = match.end()


def _is_user_and_password(text: str) -> bool:
    try:
        return b":" in base64.b64decode(
            text + "=" * (-len(text) % 4), altchars=b"-_" if "_" in text else None
        )
    except (binascii.Error, ValueError):
        return False


def _in_addresses(text: str) -> Iterator[Span]:
    """Passwords of URLs, also those with characters that should have been escaped; a lone user is a token."""
    for match in _AUTHORITY.finditer(text):
        rest, begin = match["rest"], match.end()
        head = re.split(r"[/?#]", rest, maxsplit=1)[0]
        user, colon, after = rest.partition(":")
        if "@" in head:
            at = head.rindex("@")
            start = head.find(":") + 1 if 0 <= head.find(":") < at else 0
            yield begin + start, begin + at
        if not colon or any(char in user for char in "/?#@[") or _PORT_AND_PATH.match(after):
            continue
        if "@" in after:
            yield begin + len(user) + 1, begin + rest.rindex("@")


def _assigned(text: str) -> Iterator[Span]:
    runs = _Runs(text)
    for match in _NAME.finditer(text):
        name = match["name"].strip(".-")
        names_only = name == "secrets" and text.startswith("[", match.end())
        if promises_secret(name) and not names_only:
            before = text[match.start() - 1] if match.start() else "\n"
            yield from _value(runs, match.start(), match.end(), name, before)
    for match in _SPOKEN.finditer(text):
        yield from _value(runs, match.start(), match.end(), "", " ")
    for match in _OPTION.finditer(text):
        if promises_secret(match["name"]):
            yield from _value(runs, match.start(), match.end(), match["name"], " ")


def _value(runs: _Runs, start: int, at: int, name: str, before: str) -> Iterator[Span]:
    """The value that begins at `at` behind a name that begins at `start`."""
    text = runs.text
    line = text.rfind("\n", max(0, start - _LOOK_BACK), start) + 1
    lead = text[line:start] if line or start <= _LOOK_BACK else None
    if block := _BLOCK.match(text, at):
        span = block.end(), _end_of_block(text, block.end(), lead or "")
    elif opening := _OPENING.match(text, at):
        limit = runs.end_of_line(at)
        closing = _closing(text, opening[0], opening.end(), min(limit, at + _QUOTED_CHARS))
        span = opening.end(), _or(closing, limit)
    elif before in "?&;" and name.lower() not in _WHOLE_LINE:
        span = at, runs.end_in_query(at)
    else:
        whole = name.lower() in _WHOLE_LINE or (lead is not None and _opens_a_line(lead))
        span = at, _end_of_bare(runs, at, lead, whole=whole)
    if span[0] < span[1] and (span[1] - span[0] > _LOOK_BACK or not harmless(text[span[0] : span[1]])):
        yield span


def _opens_a_line(lead: str) -> bool:
    return lead.strip() in ("", "-", "export", "set", "ENV", "ARG", "#", "- #", "+", "<", ">")


def _end_of_bare(runs: _Runs, at: int, lead: str | None, *, whole: bool) -> int:
    """Inside a quoted string the value ends with it; else with the line, or the word."""
    text, limit = runs.text, runs.end_of_line(at)
    for quote in "\"'":
        if lead is not None and lead.count(quote) % 2:
            limit = min(limit, _or(text.find(quote, at, min(limit, at + _QUOTED_CHARS)), limit))
    if whole:
        return limit
    end = min(limit, runs.end_of_word(at))
    if end - at <= _SCHEME_CHARS and text[at:end].lower() in _SCHEMES:
        gap = _GAP.match(text, end, limit)
        return min(limit, runs.end_of_word(gap.end())) if gap else end
    return end


def _closing(text: str, opening: str, at: int, limit: int) -> int:
    """Where the same quote stands again, unescaped; -1 when it does not on this line."""
    while (found := text.find(opening, at, limit)) >= 0:
        escapes = 0
        while found - escapes > at and text[found - escapes - 1] == "\\":
            escapes += 1
        if escapes % 2 == 0:
            return found
        at = found + 1
    return -1


def _end_of_block(text: str, at: int, lead: str) -> int:
    """A YAML block lasts as long as its lines are indented deeper than its key."""
    indent = len(lead) - len(lead.lstrip(" "))
    while at < len(text):
        end = _or(text.find("\n", at), len(text))
        line = text[at:end]
        if line.strip() and len(line) - len(line.lstrip(" ")) <= indent:
            break
        at = min(end + 1, len(text))
    return at


def _or(found: int, otherwise: int) -> int:
    return found if found >= 0 else otherwise
