"""`${NAME}` and `${NAME:-default}` in a text; `$$` is a dollar sign."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_REFERENCE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|(?P<open>\$\{)")
_ONLY_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-)?\}")


class FromEnvironment(str):
    """Text that a reference helped to write: it may stand for a number or a truth value too."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Substitution:
    """`unset` are the variables without a value and without a default; `malformed` is a broken `${`.

    `text` is usable only when neither is there.
    """

    text: str
    unset: tuple[str, ...] = ()
    malformed: bool = False


def substitute(text: str, environ: Mapping[str, str]) -> Substitution:
    """Replace every reference once; what comes from the environment is not looked at again.

    As in a shell, `${NAME}` takes an empty variable as it is and `${NAME:-default}` does not.
    """
    unset: list[str] = []
    referred = malformed = False

    def replacement(match: re.Match[str]) -> str:
        nonlocal referred, malformed
        if match[0] == "$$":
            return "$"
        if match["open"]:
            malformed = True
            return match[0]
        referred = True
        value = environ.get(match["name"])
        if match["default"] is not None:
            return value or match["default"].removeprefix(":-")
        if value is None:
            unset.append(match["name"])
        return value or ""

    result = _REFERENCE.sub(replacement, text)
    return Substitution(FromEnvironment(result) if referred else result, tuple(unset), malformed)


def only_name(text: str) -> str | None:
    """The variable when `text` is one reference and nothing else, as a secret must be."""
    match = _ONLY_NAME.fullmatch(text)
    return match[1] if match else None


def names(text: str) -> tuple[str, ...]:
    """Every variable that `text` refers to, with or without a default, once each."""
    return tuple(dict.fromkeys(match["name"] for match in _REFERENCE.finditer(text) if match["name"]))
