"""Secrets that are known by themselves: tokens of known makers, private keys, password hashes. Pure.

A token is found whatever stands before it: a letter, an escape, a colour. Where the first letters of a format
are also the end of a word (`task-`), what follows must look random.
"""

import re
from collections.abc import Iterator

Span = tuple[int, int]

#: What ends a word though it is a letter or a digit: escapes of JSON and of URLs, colours.
_AFTER_NO_WORD = (
    r"(?:(?<![A-Za-z0-9])|(?<=\\[abefnrtv0])|(?<=\\u[0-9A-Fa-f]{4})|(?<=\\x[0-9A-Fa-f]{2})|(?<=%[0-9A-Fa-f]{2})"
    r"|(?<=\[m)|(?<=[\[;]\dm)|(?<=[\[;]\d\dm)|(?<=[\[;]\d\d\dm)|(?<=\[[KJ]))"
)
#: Sixteen letters and digits in one run; no word of a language has both.
_RUN = r"(?=[\w-]{0,24}?[A-Za-z0-9]{16})"
_MIXED = rf"{_RUN}(?=[\w-]{{0,40}}?[A-Z])(?=[\w-]{{0,40}}?[a-z0-9])"
_WITH_DIGIT = rf"{_RUN}(?=[\w-]{{0,40}}?[0-9])"
_NO_TASK = r"(?<![Tt]a)(?<![Dd][ei])(?<![Mm]a)(?<![Rr]i)(?<!la)(?<!io)(?<!hu)"
_ANYWHERE = re.compile(
    r"sk-(?:proj|svcacct|admin|ant|or|lf|None)-[\w-]{8,}"
    r"|[srp]k_(?:live|test|prod)_[A-Za-z0-9]{8,}|whsec_[A-Za-z0-9+/=]{10,}"
    r"|gh[oprsu]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|gl(?:pat|dt|rt|ptt|cbt|ft|soat|oas)-[\w.-]{16,}"
    r"|hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z]{16,}|gsk_[A-Za-z0-9]{16,}|pplx-[A-Za-z0-9]{16,}|AIza[\w-]{20,}"
    r"|nvapi-[\w-]{16,}|tvly-[\w-]{16,}|lsv2_\w{16,}|pcsk_\w{16,}|jina_[A-Za-z0-9]{16,}|ya29\.[\w-]{10,}"
    r"|GOCSPX-[\w-]{16,}|(?:AKIA|ASIA)[A-Z0-9]{12,}|xox[a-z](?:\.xox[a-z])?-[\w-]{10,}|xapp-[\w-]{10,}"
    r"|npm_[A-Za-z0-9]{20,}|pypi-[\w-]{20,}|dckr_[po]at_[\w-]{16,}|do[opr]_v1_[a-f0-9]{16,}|rubygems_[a-f0-9]{16,}"
    r"|SG\.[\w-]{10,}\.[\w-]{10,}|xkeysib-[a-f0-9]{16,}[\w-]*|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{16,}"
    r"|sq0[a-z]{3}-[\w-]{16,}|hv[sbr]\.[\w-]{20,}|dapi[a-f0-9]{32}|lin_api_\w{16,}|ntn_[A-Za-z0-9]{20,}"
    r"|figd_[\w-]{16,}|PMAK-[\w-]{16,}|gl(?:sa|c)_\w{16,}|NRAK-[A-Z0-9]{16,}|tskey-[\w-]{12,}|pul-[a-f0-9]{32,}"
    r"|ATATT3[\w-]{16,}|sb_secret_\w{12,}|sbp_[a-f0-9]{16,}|ph[cx]_\w{20,}|sntry[su]_[\w+/=-]{20,}|ops_eyJ[\w-]{16,}"
    r"|\d{6,12}:AA[\w-]{30,}|AGE-SECRET-KEY-1\w{20,}"
    r"|eyJ[\w-]{10,1024}\.eyJ[\w-]+(?:\.[\w-]*){0,3}|eyJ(?:hbGciOi|0eXAiOi|raWQiOi|lbmMiOi)[\w-]{0,1024}\.[\w-]+(?:\.[\w-]*){0,3}",
    re.ASCII,
)
_AFTER_A_WORD = re.compile(
    rf"(?=[srx][k8a])(?:sk-{_MIXED}|{_NO_TASK}sk-{_WITH_DIGIT}|r8_{_WITH_DIGIT}|xai-{_WITH_DIGIT})[\w-]{{16,}}",
    re.ASCII,
)
_APART = re.compile(
    rf"(?=[srxfe][k8awy]){_AFTER_NO_WORD}(?:sk-(?=[\w-]{{0,64}}[0-9A-Z]|[a-z]{{16}})[\w-]{{16,}}|r8_[A-Za-z0-9]{{16,}}|(?:xai-|fw_)[\w-]{{16,}}"
    r"|eyJ[\w-]{6,1024}\.[\w-]+(?:\.[\w-]*){0,3})",
    re.ASCII,
)
_REST = re.compile(r"(?:[\w-]|[.:](?=[\w-]{8}))*+", re.ASCII)
_SPACE = r"(?:[ +]|%20)"
_LABEL = rf"(?:[A-Z0-9]+{_SPACE}){{0,4}}PRIVATE{_SPACE}KEY(?:{_SPACE}BLOCK)?-----"
_PEM = re.compile(rf"-----BEGIN{_SPACE}{_LABEL}(?s:.*?)(?:-----END{_SPACE}{_LABEL}|\Z)")
_PEM_END = re.compile(rf"-----END{_SPACE}{_LABEL}")
#: A line out of the middle of a key, as OpenSSL, OpenSSH and PGP break them.
_KEY_LINE = re.compile(r"(?<![\w+/=])(?:[A-Za-z0-9+/]{76}|[A-Za-z0-9+/]{70}|[A-Za-z0-9+/]{64})(?![\w+/=])")
_KEY_LINES = 120
_KEY_CHARS = 16_384
#: Of `crypt`, `htpasswd`, LDAP and web frameworks; Compose doubles the dollars.
_HASH = re.compile(
    r"\$\$?(?:apr1|2[abxy]|1|5|6|7|y|gy|argon2(?:id?|d)|pbkdf2(?:-\w+)?|scrypt|bcrypt)\$\$?[\w./$=,+-]{12,}"
    r"|\{S?(?:SHA|MD5)(?:256|384|512)?\}[A-Za-z0-9+/]{16,}={0,2}"
    r"|(?:pbkdf2_sha\d+|pbkdf2:sha\d+|scrypt|SCRAM-SHA-256)[$:][\d:]{1,24}\$[\w./$=,:+-]{12,}",
    re.ASCII,
)


def spans(text: str) -> Iterator[Span]:
    """Yield every place that is a secret whatever stands around it, in no order."""
    for pattern in (_ANYWHERE, _AFTER_A_WORD, _APART):
        done = 0
        for match in pattern.finditer(text):
            # Another one may stand directly behind it, its first letters eaten by this one.
            if match.end() > done:
                tail = _REST.match(text, match.end())
                done = tail.end() if tail else match.end()
                yield match.start(), done
    for pattern in (_PEM, _HASH):
        yield from (match.span() for match in pattern.finditer(text))
    yield from (match.span() for match in _KEY_LINE.finditer(text) if _looks_random(match[0]))
    yield from _ends_of_keys(text)


def _looks_random(text: str) -> bool:
    """Tell whether letters of both cases and digits are mixed: a digest in hexadecimal is no key."""
    return any(map(str.isupper, text)) and any(map(str.islower, text)) and any(map(str.isdigit, text))


def _ends_of_keys(text: str) -> Iterator[Span]:
    """Yield keys whose beginning was cut off: a key has no more lines than this."""
    before = 0
    for match in _PEM_END.finditer(text):
        floor = max(before, match.start() - _KEY_CHARS)
        start = match.start()
        for _ in range(_KEY_LINES):
            start = text.rfind("\n", floor, start)
            if start < 0:
                break
        start = max(start, floor)
        if text.find("-----BEGIN", start, match.start()) < 0:
            yield start, match.end()
        before = match.end()
