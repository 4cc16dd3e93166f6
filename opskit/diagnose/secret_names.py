"""Which names promise a secret: of variables, keys, options, headers, query parameters. Pure.

When in doubt a name does: a masked harmless value costs a reader little, a shown key its owner much. Counts
and times of tokens, which every log of a model server is full of, are not in doubt.
"""

import re

#: Anywhere in a name, with or without separators: `PGPASSWORD`, `clientSecret`, `X-Api-Key`.
_ANYWHERE = (
    "password", "passwd", "passphrase", "passcode", "secret", "credential", "apikey", "privatekey",
    "accesskey", "authorization", "cookie", "webhook", "signature", "jwt",
    "authkey", "masterkey", "encryptionkey", "signingkey", "licensekey",
)  # fmt: skip
#: As the last word of a longer name: `DB_PASS`, `MYSQL_PWD`, `REDIS_AUTH`. `PWD` alone is a folder.
_LAST_OF_SEVERAL = frozenset({"pass", "pwd", "pw", "salt", "pepper", "pin", "pat", "sig", "dsn", "private"})
_LAST = frozenset({"token", "auth", "bearer", "otp", "totp", "creds", "psk", "hmac", "sessionid", "sessid"})
#: Written together with what stands before them: `requirepass`, `ROOTPW`, `masterauth`.
_ENDINGS = ("pass", "pwd", "pw", "token", "sessid", "masterauth", "basicauth", "proxyauth")
_OTHER_WORDS = frozenset(
    {"compass", "bypass", "trespass", "encompass", "surpass", "overpass", "oldpwd", "pwd"}
)
_KEYS = frozenset(
    {
        "api", "secret", "private", "access", "signing", "sign", "encryption", "encrypt", "crypt", "master",
        "service", "account", "auth", "ssh", "ssl", "tls", "deploy", "license", "session", "hmac", "app",
        "client", "server", "webhook", "host", "shared", "storage", "admin", "root", "user", "bot", "aes",
        "rsa", "fernet", "cipher", "wireguard", "wg", "ai", "openai", "anthropic", "claude", "openrouter",
        "groq", "gemini", "google", "mistral", "deepseek", "cohere", "hf", "huggingface", "replicate",
        "together", "perplexity", "tavily", "serper", "brave", "github", "gitlab", "aws", "azure", "gcp",
        "telegram", "slack", "discord", "twilio", "sendgrid", "mailgun", "stripe", "cloudflare", "sentry",
        "datadog", "dd", "qdrant", "pinecone", "weaviate", "langfuse", "langsmith", "litellm", "ollama",
    }
)  # fmt: skip
#: Keys of tables and caches, and keys that everybody may have.
_OTHER_KEYS = frozenset(
    {"public", "pub", "primary", "foreign", "cache", "sort", "partition", "row", "lookup", "group", "hot"}
)
#: `first_token` is a time, `eos_token` a piece of a vocabulary, `first_pass` a run.
_OTHERS = frozenset(
    {
        "first", "second", "last", "next", "per", "eos", "bos", "pad", "unk", "sep", "cls", "mask", "stop",
        "start", "end", "max", "min", "total", "every", "each", "single", "one", "two", "multi", "by", "did",
    }
)  # fmt: skip
#: Of these several are a list of secrets; others of tokens are counted.
_HOLD_TOKENS = frozenset(
    {"api", "auth", "access", "bearer", "refresh", "bot", "admin", "user", "github", "hf", "service", "app"}
)
#: What such a name ends with when the value is about the secret, not the secret.
_ABOUT = frozenset(
    {
        "file", "path", "dir", "folder", "count", "length", "len", "limit", "ttl", "expiry", "expires",
        "type", "s", "ms", "seconds", "bytes", "chars", "name", "names", "enabled", "required", "stdin",
        "prompt", "policy", "version", "header", "method", "algorithm", "rotation", "age",
    }
)  # fmt: skip
#: References to a secret, masks, and words that stand for none.
_HARMLESS = re.compile(
    r"(?:\*+|null|none|true|false|~|\$\$?\{\w+(?::?\?[^}]*|:?[-+])?\}|\$\$?\w+|\$?\$\((?:cat|<) ?[\w./-]+\)"
    r"|\{\{ ?[\w. |()'-]+ ?\}\}|\(unset: \w+\)|<[a-z_ -]+>)[,;)}\]]*",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def promises_secret(name: str, *, alone: bool = False) -> bool:
    """Tell whether the value behind this name must not be shown.

    `alone` says that the place speaks for a secret, as an option or a query does: `pass` counts then too.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words:
        return False
    last, several = words[-1], len(words) > 1
    if several and last in _ABOUT:
        return False
    joined = "".join(words)
    if any(mark in joined for mark in _ANYWHERE):
        return True
    if several and words[-2] in _OTHERS:
        return False
    if last in _LAST or joined.endswith("token"):
        return True
    if last in _LAST_OF_SEVERAL:
        return several or alone
    if joined.endswith(_ENDINGS) and last not in _OTHER_WORDS:
        return True
    if last == "session":
        return name.isupper()
    if last == "tokens":
        return several and words[-2] in _HOLD_TOKENS
    # An environment's `HF_KEY` is one; the `key` of a table is not.
    if last in ("key", "keys") and several:
        return words[-2] in _KEYS or (name.isupper() and words[-2] not in _OTHER_KEYS)
    return False


def harmless(value: str) -> bool:
    """Tell whether what stands in a secret's place is empty, masked, or a reference as ${NAME}."""
    return not value.strip() or _HARMLESS.fullmatch(value.strip()) is not None
