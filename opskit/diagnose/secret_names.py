"""Which names promise a secret: of variables, keys, options, headers, query parameters. Pure.

When in doubt a name does: a masked harmless value costs a reader little, a shown key its owner much. Counts
and times of tokens, which every log of a model server is full of, are not in doubt.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any


@cache
def tables() -> dict[str, dict[str, Any]]:
    """Return the tables of `secrets.toml`: names, commands, values."""
    import tomllib

    return tomllib.loads(Path(__file__).with_name("secrets.toml").read_text("utf-8"))


@cache
def _words(table: str) -> tuple[str, ...]:
    return tuple(tables()["names"][table].split())


#: References to a secret, masks, and words that stand for none.
_HARMLESS = re.compile(
    r"(?:\*+|null|none|true|false|yes|no|~|missing|unset|empty|undefined|required|expired|invalid"
    r"|not(?: (?:set|given|found|needed|configured))?"
    r"|(?:(?:YOUR|MY|API)[_-])*(?-i:TOKEN|KEY|PASSWORD|SECRET)"
    r"|\$\$?\{\w+(?::?\?[^}]*|:?[-+])?\}|\$\$?\w+|\$?\$\((?:cat|<) ?[\w./-]+\)"
    r"|\{\{ ?[\w. |()'-]+ ?\}\}|\(unset: \w+\)|<[a-z_ -]+>)[,;)}\]]*",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def promises_secret(name: str, *, alone: bool = False) -> bool:
    """Tell whether the value behind this name must not be shown.

    `alone` says that the place speaks for a secret, as an option or a query does: `pass` counts then too.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    if not words:
        return False
    last, several = words[-1], len(words) > 1
    if several and last in _words("about"):
        return False
    joined = "".join(words)
    if any(mark in joined for mark in _words("anywhere")):
        return True
    if several and words[-2] in _words("others"):
        return False
    if last in _words("last") or joined.endswith("token"):
        return True
    if last in _words("last_of_several"):
        return several or alone
    if joined.endswith(_words("endings")) and last not in _words("other_words"):
        return True
    if last == "session":
        return name.isupper()
    if last == "tokens":
        return several and words[-2] in _words("hold_tokens")
    # An environment's `HF_KEY` is one; the `key` of a table is not.
    if last in ("key", "keys") and several:
        return words[-2] in _words("keys") or (name.isupper() and words[-2] not in _words("other_keys"))
    return False


def harmless(value: str) -> bool:
    """Tell whether what stands in a secret's place is empty, masked, or a reference as ${NAME}."""
    return not value.strip() or _HARMLESS.fullmatch(value.strip()) is not None
