"""What secrets look like in any text: headers, addresses, assignments, pairs, and where a value ends. Pure.

Each finder gives the places to mask. They look at the same text side by side, so that none hides what another
one would have found, and each is linear in its length: logs are long and anybody's.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from itertools import chain

from opskit.diagnose import command_secrets, secret_tokens
from opskit.diagnose.command_secrets import closing_quote
from opskit.diagnose.secret_names import harmless, promises_secret

Span = tuple[int, int]

_SECRET_ADDRESS = re.compile(
    r"(?:hooks\.slack\.com/(?:services|workflows)/|discord(?:app)?\.com/api/webhooks/|hc-ping\.com/(?:ping/)?"
    r"|api\.telegram\.org/(?:file/)?bot|webhook\.office\.com/)(?P<hidden>[^\s\"'<>\\]++)",
    re.IGNORECASE,
)
_AUTHORITY = re.compile(r":(?:\\?/){2}(?=(?P<rest>[^\s\"'<>`\\]{1,512}))")
_ESCAPED_AUTHORITY = re.compile(
    r"%3A(?:%2F){2}[^\s\"'<>%/@&]{0,128}%3A(?P<hidden>[^\s\"'<>&]{1,256}?)%40", re.IGNORECASE
)
#: Without a scheme: `user:password@tcp(host)`, `user:password@host`; `name:tag@sha256:...` is an image.
_LOGIN_AT_HOST = re.compile(
    r"(?<![\w/:@.+-])[A-Za-z_][\w.+-]{0,64}:(?P<hidden>[^\s:@/\"'<>(),]{3,128})@(?!sha\d)"
    r"(?:(?:tcp|unix)?\(|[\w-]{1,64}(?::\d{2,5}\b|\.[A-Za-z\d]))"
)
_PORT_AND_PATH = re.compile(r"\d{1,5}(?:[/?#]|$)")
_BEARER = re.compile(r"\bbearer[ \t]+(?P<hidden>[\w.~+/=%:-]{8,})", re.IGNORECASE)
_BASIC = re.compile(r"\bbasic[ \t]+(?P<hidden>[A-Za-z0-9+/_-]{4,}={0,2})", re.IGNORECASE)
#: Colours, raw and as JSON and Python write them.
_COLOUR = r"(?:(?:\x1b|\\u001[bB]|\\x1b|\\033|\\e)\[[\d;]{0,16}m){0,3}"
_NAME = re.compile(
    r"(?<![\w.-])(?P<name>[\w.-]++)(?P<quote>\\*[\"'])?\]?"
    rf"{_COLOUR}[ \t]{{0,8}}(?P<sign>=>|:=|[:=]|%3[AaDd]){_COLOUR}[ \t]{{0,8}}"
)
_SPOKEN = re.compile(
    r"\b(?:(?:api|access|secret|private|auth)[ ](?:key|token)|unseal[ ]key[ ]\d{1,2})[ \t]{0,4}[:=][ \t]{0,4}"
    r"|\b(?:key|token|password|passphrase|secret)[ ](?:is|was)[ ]?:[ ]{1,4}(?=\S*\d)(?=\S{6})",
    re.IGNORECASE,
)
#: `token: string = "x"` of TypeScript, Rust and Python.
_TYPED = re.compile(
    r"(?<![\w.-])(?P<value>(?P<name>[\w.-]{1,64}+))[ ]?:[ ]?[\w\[\]<>|&. ]{1,48}?=[ ]?(?=\\*[\"'`])"
)
#: `IDENTIFIED BY 'x'`, `PASSWORD 'x'` of SQL; `requirepass x` of redis.conf, `password x` of a netrc.
_STATEMENT = re.compile(
    r"\b(?:identified[ ](?:with[ ][\w\"']{1,64}[ ])?by|password)[ ]{1,4}(?=\\*['\"])"
    r"|(?<![\w-])(?:requirepass|masterauth|rootpw|bindpw|auth-pass[ ]\S{1,64})[ \t]{1,4}(?=[^\s:=])"
    r"|\"AUTH\"[ ](?:\"[^\"\n]{1,64}\"[ ])?(?=\")|\bset[ ]password[ ]for[ ][^\s=]{1,128}[ ]?=[ ]?(?=')"
    r"|\blogin[ ]\S{1,64}\s{1,4}password[ ]{1,4}(?=\S)",
    re.IGNORECASE,
)
#: What a program reads as its standard input.
_PIPED = re.compile(
    r"\b(?:echo|printf)[ ]{1,2}(?:-\w{1,3}[ ]|\\*[\"']?%s(?:\\+n)?\\*[\"']?[ ])?(?P<quote>\\*[\"'])?"
    r"(?P<hidden>[^\"'|\n\\]{1,256}+)(?P=quote)?[ ]{0,2}\|"
    r"[^|\n]{0,120}?(?:-stdin\b|--with-token|chpasswd|sudo[ ]-S|passphrase-fd)"
)
_HERE_STRING = re.compile(r"(?:-stdin|--with-token|sudo[ ]-S)[^|\n]{0,120}?<<<[ ]?(?P<hidden>\S++)")
#: A line of `.pgpass`, and a user of Redis.
_PGPASS = re.compile(r"(?m)^[ \t]*[\w.*-]{1,128}:(?:\d{4,5}|\*):[^:\s]{1,64}:[^:\s]{1,64}:(?P<hidden>\S++)$")
_REDIS_USER = re.compile(
    r"(?i:\b(?:set)?user)[ ]\S{1,64}[ ](?:on|off)[ ](?:[^>\s]{1,64}[ ]){0,4}>(?P<hidden>\S++)"
)
#: launchd; shells and Dockerfiles that set a variable without a sign.
_PLIST = re.compile(r"<key>(?P<name>[\w.-]{1,64}+)</key>\s{0,64}<string>(?P<hidden>[^<>]{1,4096}+)</string>")
_SET = re.compile(
    r"(?<![\w-])(?:setx|setenv|set[ ]-\w{1,4}|ENV)[ ]{1,4}(?P<name>[\w.-]{1,64}+)[ ]{1,4}(?P<quote>[\"'])?"
    r"(?P<hidden>(?(quote)[^\"'\n]{1,512}+|\S++))"
)
_QUOTE = r"(?:\\*[\"'])"
_TUPLE = re.compile(
    r"(?P<open>[(\[])b?(?P<quote>\\*[\"'])(?P<name>[\w.-]{1,64})(?P=quote),[ ]?b?(?P=quote)"
    r"(?P<hidden>[^\"'\n\\]{1,512})(?P=quote)[)\]]"
)
_KEY = (
    rf"(?<![\w.-])(?:name|key|Name|Key){_QUOTE}?[ \t]?[:=][ \t]{{0,4}}"
    rf"{_QUOTE}?(?P<name>[\w.-]{{1,128}}+){_QUOTE}?"
)
_VALUE = rf"(?<![\w.-])(?:value|Value){_QUOTE}?[ \t]?[:=][ \t]{{0,4}}"
_BETWEEN = rf"[ \t]{{0,8}}+,?[ \t]{{0,8}}+(?:#[^\n]{{0,128}}+)?(?:\r?\n[ \t]{{0,64}}+)?{_QUOTE}?"
_NAME_THEN_VALUE = re.compile(rf"{_KEY}{_BETWEEN}(?P<value>{_VALUE})")
_VALUE_THEN_NAME = re.compile(
    rf"{_VALUE}(?P<quote>\\*[\"'])?(?P<hidden>(?(quote)[^\"'\n\\]{{0,512}}+|[^\s\"'\\,{{}}][^\n,{{}}]{{0,512}}+))"
    rf"(?(quote)(?P=quote)){_BETWEEN}{_KEY}"
)
_ELEMENT = re.compile(
    r"<(?:\w{1,32}:)?(?P<name>[\w.-]{1,64}+)(?:\s[^<>]{0,256}+)?>(?P<hidden>[^<>]{1,4096}+)</"
)
#: What a list of two names looks like, which is no header with its value.
_A_NAME = re.compile(r"[a-z_]+|[A-Z_]+")
#: A query says what it is for: there these are secrets too.
_IN_A_QUERY = frozenset({"key", "code", "sid"})
#: `${DB_PASSWORD:-secret}`; behind a `?` or a `+` stands none.
_DEFAULT = re.compile(r"-(?P<hidden>[^}\s]+)")
_PIECE = re.compile(r"\d{1,6}(?:\.\d{1,6})?(?![^\s,;)])")
_SHORT_NUMBER = re.compile(r"\d{1,4}(?![^\s,;)\]}])")
_WHOLE_LINE = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_SCHEME = re.compile(r"(?:bearer|basic|token|digest|apikey|key)[ \t]+", re.IGNORECASE)
_OPENING = re.compile(r"b?(?P<quote>\\*[\"'`])")
_LINE = re.compile(r"[^\n]*+")
_BARE = re.compile(r"\S*+")
_IN_QUERY = re.compile(r"[^&\s\"'#<>]*+")
_IN_BRACKETS = re.compile(
    r"(?P<space>[\s,]++)|(?P<open>[\[{(])|(?P<close>[\]})])|b?(?P<quote>\\*[\"'])|(?P<sign>[:=])|(?P<bare>[^\s\"',\[\]{}():=\\]++|.)"
)
_SIGN = re.compile(r"\s*+(?:=>|[:=])")
#: YAML: the sign of a block, or nothing but an anchor, a tag or a comment behind the name.
_BELOW = re.compile(
    r"(?:(?P<block>[|>][+-]?\d?[+-]?)|(?:[&!][\w.!-]{0,64}[ \t]*)*)[ \t]*(?P<comment>#[^\n]*)?\r?\n"
)
_LINE_BELOW = re.compile(
    r"(?P<indent>[ \t]*)(?P<whole>(?P<item>-[ \t]+)?(?P<key>[\w.\"'-]+:(?:[ \t]+|(?=\s|\Z)))?"
    r"(?P<hidden>[^\n]*))(?:\n|\Z)"
)
_PLURALS = ("keys", "passwords", "tokens", "passphrases")
#: `PGPASSWORD=$PASSWORD psql`: behind it stands a command.
_REFERENCE = re.compile(r"\$(?:\{[A-Z_][A-Z0-9_]*\}|[A-Z_][A-Z0-9_]*)[ \t]")
_LOOK_BACK = 4096
#: A quoted value, or one in brackets, that is longer is masked to the end of its line.
_QUOTED_CHARS = 8192


def spans(text: str) -> Iterator[Span]:
    """Yield every place that looks like a secret, in no order; places may overlap."""
    places = chain(
        secret_tokens.spans(text),
        command_secrets.spans(text),
        _by_pattern(text),
        _in_urls(text),
        _assigned(text),
    )
    for start, end in places:
        if start < end and not harmless(text[start:end]):
            yield start, end


def _by_pattern(text: str) -> Iterator[Span]:
    """Yield what stands in headers, pipes, `user:password@host`, paths of webhooks, and beside a name."""
    of_people = (_BEARER, _LOGIN_AT_HOST, _PGPASS, _REDIS_USER)
    for pattern in (*of_people, _PIPED, _HERE_STRING, _SECRET_ADDRESS, _ESCAPED_AUTHORITY):
        yield from (match.span("hidden") for match in pattern.finditer(text))
    yield from (m.span("hidden") for m in _BASIC.finditer(text) if _is_user_and_password(m["hidden"]))
    for pattern in (_TUPLE, _ELEMENT, _PLIST, _SET, _VALUE_THEN_NAME):
        for match in pattern.finditer(text):
            name, is_list = match["name"], pattern is _TUPLE and match["open"] == "["
            is_names = is_list and "-" not in name and _A_NAME.fullmatch(match["hidden"])
            if promises_secret(name, alone=pattern is not _VALUE_THEN_NAME) and not is_names:
                yield match.span("hidden")


def _is_user_and_password(text: str) -> bool:
    try:
        return b":" in base64.b64decode(
            text + "=" * (-len(text) % 4), altchars=b"-_" if "_" in text else None
        )
    except (binascii.Error, ValueError):
        return False


def _assigned(text: str) -> Iterator[Span]:
    values = Values(text)
    for match in _NAME.finditer(text):
        name = match["name"].strip(".-")
        if not promises_secret(name, alone=True) and name.lower() not in _IN_A_QUERY:
            continue
        if name.lower() == "token" and _is_of_vocabulary(text, match.start(), match.end()):
            continue
        if name == "secrets" and text.startswith("[", match.end()):
            continue
        if text.startswith("${", match.start() - 2) and match.start() >= 2:
            if default := _DEFAULT.match(text, match.end()):
                yield default.span("hidden")
        elif promises_secret(name):
            yield from values.behind(name, match.start(), match.end())
        elif _speaks_for_a_secret(text, name, match):
            for start, end in values.behind(name, match.start(), match.end()):
                if not _SHORT_NUMBER.match(text, start, end):
                    yield start, end
    for match in chain(_SPOKEN.finditer(text), _STATEMENT.finditer(text)):
        yield from values.behind("", match.start(), match.end())
    for match in chain(_TYPED.finditer(text), _NAME_THEN_VALUE.finditer(text)):
        if promises_secret(match["name"]):
            yield from values.behind(match["name"], match.start("value"), match.end())


def _is_of_vocabulary(text: str, start: int, at: int) -> bool:
    """Tell whether `token` is one of a model's: `BOS token = 1 '<s>'`, the first token of an answer."""
    number = _PIECE.match(text, at)
    before = text[max(0, start - 16) : start]
    if number is None or not before.endswith(" ") or not before.split():
        return False
    return text.startswith(" '", number.end()) or not promises_secret(f"{before.split()[-1]}_token")


def _speaks_for_a_secret(text: str, name: str, match: re.Match[str]) -> bool:
    """Tell whether the place makes a secret of `pass`, `sig`, `key`: a query, `PASS=x`, JSON, YAML."""
    start = match.start()
    before = text[start - 1] if start else "\n"
    if before in "?&" and match["sign"] == "=":
        return name.lower() in _IN_A_QUERY or promises_secret(name, alone=True)
    if name == "PWD":  # of a connection string; else it is a folder
        return before == ";" and match["sign"] == "=" and not text.startswith(("/", "~", "$"), match.end())
    if not promises_secret(name, alone=True) or name == "private":
        return False
    if match["quote"]:
        return text.startswith(match["quote"], match.end())
    lead = text[text.rfind("\n", max(0, start - 256), start) + 1 : start]
    return (
        name == "pw"
        or (match["sign"] == "=" and (name.isupper() or name == "pass"))
        or (lead != "" and opens_a_line(lead) and match["sign"] == ":" and text[match.end() - 1] == " ")
    )


def _in_urls(text: str) -> Iterator[Span]:
    """Yield passwords of URLs, also with unescaped characters; a user without a password is a token."""
    for match in _AUTHORITY.finditer(text):
        address, begin = match["rest"], match.end()
        head = re.split(r"[/?#]", address, maxsplit=1)[0]
        user, colon, after = address.partition(":")
        if "@" in head:
            at = head.rindex("@")
            name, _, password = head[:at].partition(":")
            start = len(name) + 1 if password not in ("", "x-oauth-basic") else 0
            if start or not text.endswith("ssh", 0, match.start()):
                yield begin + start, begin + at
        if not colon or any(char in user for char in "/?#@[") or _PORT_AND_PATH.match(after):
            continue
        if "@" in after:
            yield begin + len(user) + 1, begin + address.rindex("@")


class Values:
    """The values of one text. Ends of lines and words are kept: one word may hold many names."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._runs: dict[re.Pattern[str], Span] = {}
        self._brackets = 0

    def behind(self, name: str, start: int, at: int) -> Iterator[Span]:
        """Yield the value that begins at `at`; its name, or words that stand for one, begin at `start`."""
        text = self.text
        before = text[start - 1] if start else "\n"
        line = text.rfind("\n", max(0, start - _LOOK_BACK), start) + 1
        lead = text[line:start] if line or start <= _LOOK_BACK else None
        opens = lead is not None and opens_a_line(lead)
        below = _BELOW.match(text, at)
        if below and (below["block"] or (opens and text[start:at].rstrip().endswith(":"))):
            yield below.span("comment")
            yield from _below(text, name, lead or "", below)
        elif opening := _OPENING.match(text, at):
            limit = self._end(_LINE, at)
            closing = closing_quote(text, opening["quote"], opening.end(), min(limit, at + _QUOTED_CHARS))
            yield opening.end(), closing if closing >= 0 else limit
        elif before in "?&;" and name.lower() not in _WHOLE_LINE:
            yield at, self._end(_IN_QUERY, at)
        elif text[at : at + 1] in ("[", "{", "(") and self._holds_several(at, opens=opens):
            if at >= self._brackets:
                leaves, self._brackets = _in_brackets(text, at, self._end(_LINE, at))
                yield from leaves
        else:
            whole = (opens and not _REFERENCE.match(text, at)) or name.lower() in _WHOLE_LINE
            yield at, self._end_of_bare(at, lead, whole=whole)

    def _holds_several(self, at: int, *, opens: bool) -> bool:
        """Tell whether a bracket opens a list: a password may begin with one, a template with two."""
        following = self.text[at + 1 : at + 2]
        return following != "{" and (not opens or following in "\r\n" or self.text[at - 1] in ": ")

    def _end(self, run: re.Pattern[str], at: int) -> int:
        """Return where a line, a word or a part of a query ends; `at` itself where none stands."""
        start, end = self._runs.get(run, (0, -1))
        if not start <= at <= end:
            _, end = self._runs[run] = at, next(run.finditer(self.text, at)).end()
        return end

    def _end_of_bare(self, at: int, lead: str | None, *, whole: bool) -> int:
        """Return the end of a bare value: of the quoted string around it, the line, or the word."""
        text, limit = self.text, self._end(_LINE, at)
        for quote in "\"'":
            if lead is not None and lead.count(quote) % 2:
                closing = text.find(quote, at, min(limit, at + _QUOTED_CHARS))
                limit = closing if closing >= 0 else limit
        if whole:
            return limit
        scheme = _SCHEME.match(text, at, limit)
        return min(limit, self._end(_BARE, scheme.end() if scheme else at))


def opens_a_line(lead: str) -> bool:
    """Tell whether only what may stand before an assignment stands before a name on its line."""
    return lead.strip() in ("", "-", "export", "set", "ENV", "ARG", "#", "- #", "+", "<", ">")


def _in_brackets(text: str, at: int, line: int) -> tuple[list[Span], int]:
    """Return every leaf of a list or a mapping, without its keys, and where it ends.

    Where the brackets do not match, the whole line is one leaf.
    """
    begin, limit, depth = at, min(len(text), at + _QUOTED_CHARS), 0
    leaves: list[Span] = []
    while at < limit and (token := _IN_BRACKETS.match(text, at, limit)):
        at = token.end()
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
            if depth == 0:
                return leaves, at
        elif token["quote"]:
            closing = closing_quote(text, token["quote"], at, limit)
            if closing < 0:
                break
            if not _SIGN.match(text, closing + len(token["quote"]), limit):
                leaves.append((at, closing))
            at = closing + len(token["quote"])
        elif token["bare"] and not _SIGN.match(text, at, limit):
            leaves.append(token.span())
    return [*leaves, (begin, line)], max(at, line)


def _below(text: str, name: str, lead: str, below: re.Match[str]) -> Iterator[Span]:
    """Yield a scalar, or the items of a list, on the lines below a name; a mapping has names of its own."""
    own, is_block = len(lead) - len(lead.lstrip(" ")), bool(below["block"])
    for line in _LINE_BELOW.finditer(text, below.end()):
        if not line["whole"].strip():
            continue
        indent = len(line["indent"])
        if indent < own or (indent == own and (is_block or not line["item"])):
            return
        if is_block:
            yield line.span("whole")
        elif name == "secrets" or (line["key"] and not name.lower().endswith(_PLURALS)):
            return
        else:
            yield line.span("hidden")
