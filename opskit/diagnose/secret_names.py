"""Which names promise a secret: of variables, keys, options, headers, query parameters. Pure.

When in doubt a name does: a masked harmless value costs a reader little, a shown key its owner much. Counts
and times of tokens, which every log of a model server is full of, are not in doubt.
"""

import re

#: Anywhere in a name, with or without separators: `PGPASSWORD`, `clientSecret`, `X-Api-Key`.
_ANYWHERE = (
    "password", "passwd", "passphrase", "secret", "credential", "apikey", "privatekey", "accesskey",
    "authorization", "cookie", "webhook", "signature", "jwt",
)  # fmt: skip
#: As the last word of a longer name: `DB_PASS`, `MYSQL_PWD`, `REDIS_AUTH`. `PWD` alone is a folder.
_LAST_OF_SEVERAL = frozenset({"pass", "pwd", "pw", "auth", "salt", "pin", "pat", "sig", "dsn"})
_LAST = frozenset({"token", "auth", "bearer", "otp"})
_KEYS = frozenset(
    {
        "api", "secret", "private", "access", "signing", "sign", "encryption", "encrypt", "master",
        "service", "account", "auth", "ssh", "ssl", "tls", "deploy", "license", "session", "hmac", "app",
        "client", "server", "webhook", "host", "shared", "storage", "admin", "root", "user", "bot",
    }
)  # fmt: skip
#: `first_token` is a time, `eos_token` a piece of a vocabulary.
_OTHER_TOKENS = frozenset(
    {
        "first", "last", "next", "per", "eos", "bos", "pad", "unk", "sep", "cls", "mask", "stop", "start",
        "end", "max", "min", "total", "every", "each",
    }
)  # fmt: skip
#: What such a name ends with when the value is about the secret, not the secret.
_ABOUT = frozenset(
    {
        "file", "path", "dir", "folder", "count", "length", "len", "limit", "ttl", "expiry", "expires",
        "type", "s", "ms", "seconds", "bytes", "chars", "name", "names", "enabled", "required",
    }
)  # fmt: skip
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def promises_secret(name: str) -> bool:
    """Whether the value behind this name must not be shown."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words:
        return False
    last, several = words[-1], len(words) > 1
    if several and last in _ABOUT:
        return False
    joined = "".join(words)
    if any(mark in joined for mark in _ANYWHERE):
        return True
    if last in _LAST or joined.endswith("token"):
        return not (several and words[-2] in _OTHER_TOKENS)
    if several and last in _LAST_OF_SEVERAL:
        return True
    # An environment's `HF_KEY` is one; the `key` of a table is not.
    return several and last == "key" and (words[-2] in _KEYS or name.isupper())
