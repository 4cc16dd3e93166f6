"""Masks secrets in all that is shown or given away: by value where known, by shape anywhere. Pure.

`Redactor.text` masks the union of all places that any rule finds, so that of two secrets that overlap no half
stays. What is masked is `***`; names, users of URLs and references such as `${NAME}` stay.
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote, quote_plus

from opskit.config.schema import Secret
from opskit.diagnose.secret_names import harmless, tables
from opskit.diagnose.secret_shapes import Span, spans
from opskit.diagnose.secret_trees import MASK, edited, masked_at, merged

#: A shorter value is masked behind its name only: masked everywhere it would take the text with it.
MIN_CHARS = 4
#: A value this long is masked inside other words too, and in base64.
_LONG_CHARS = 6
_BASE64_CHARS = 12
#: Masking may bring together what makes a new place; it settles at once but for texts made to prevent it.
_PASSES = 4


class Redactor:
    """Knows the secrets it was given and the shapes of all others."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(secrets)
        known = {secret for secret in self._secrets if _usable(secret)}
        forms = {form for secret in known if len(secret) >= _LONG_CHARS for form in _forms(secret)}
        words = sorted((secret for secret in known if len(secret) < _LONG_CHARS), key=len, reverse=True)
        self._forms = tuple(sorted(forms))
        self._words = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)") if words else None

    def knowing(self, secrets: Iterable[str]) -> "Redactor":
        return Redactor(self._secrets.union(secrets))

    def text(self, text: str) -> str:
        return self._settled(text, each_line=False)

    def lines(self, lines: Sequence[str]) -> list[str]:
        """Mask lines that belong together, and return as many: a key may span several."""
        masked = iter(self._settled("\n".join(lines), each_line=True).split("\n"))
        return ["\n".join(islice(masked, line.count("\n") + 1)) for line in lines]

    def _settled(self, text: str, *, each_line: bool) -> str:
        for _ in range(_PASSES):
            masked = self._masked(text, each_line=each_line)
            if masked == text:
                break
            text = masked
        return text

    def value(self, value: Any) -> Any:
        """Mask what JSON can hold: text everywhere, and values by their keys."""
        return edited(value, self._leaf)

    def _leaf(self, leaf: Any, places: Sequence[Span] | None) -> Any:
        if places is None or isinstance(leaf, Secret):
            return _masked_leaf(leaf)
        return self.text(masked_at(leaf, places)) if isinstance(leaf, str) else leaf

    def _masked(self, text: str, *, each_line: bool) -> str:
        parts: list[str] = []
        at = 0
        for start, end in merged([*spans(text), *self._known(text)]):
            breaks = text.count("\n", start, end) if each_line else 0
            parts += (text[at:start], MASK, f"\n{MASK}" * breaks)
            at = end
        return "".join((*parts, text[at:]))

    def _known(self, text: str) -> Iterator[Span]:
        for form in self._forms:
            at = text.find(form)
            while at >= 0:
                yield at, at + len(form)
                at = text.find(form, at + 1)
        if self._words is not None:
            yield from (match.span() for match in self._words.finditer(text))


def _masked_leaf(leaf: Any) -> Any:
    """Mask a leaf behind a secret's name, unless it tells nothing."""
    tells_nothing = isinstance(leaf, str) and not isinstance(leaf, Secret) and harmless(leaf)
    return leaf if leaf is None or isinstance(leaf, bool) or tells_nothing else MASK


def _usable(secret: str) -> bool:
    bare = secret.strip()
    return (
        len(bare) >= MIN_CHARS
        and bare.lower() not in tables()["values"]["placeholders"].split()
        and not harmless(bare)
    )


def _forms(secret: str) -> Iterator[str]:
    """Yield how the same secret stands in JSON, in a URL, in base64, in a quoted string."""
    yield secret
    yield secret.strip()
    for ascii_only in (True, False):
        once = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]
    for escaped in (
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
    ):
        yield escaped
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), escaped)
    yield repr(secret)[1:-1]
    yield secret.replace("$", "$$")  # Compose
    yield secret.replace("$$", "$")
    yield secret.replace("'", "''")  # YAML
    yield secret.replace("'", "'\\''")  # a shell
    yield html.escape(secret)
    if len(secret) >= _BASE64_CHARS:
        yield from _in_base64(secret.encode("utf-8", "replace"))


def _in_base64(raw: bytes) -> Iterator[str]:
    """Yield the part of the encoded secret that is the same at each of the three positions of base64."""
    for offset in range(3):
        padded = b"\0" * offset + raw
        # A sextet belongs to the secret alone when all of its bits do.
        first, last = -(-offset * 8 // 6), len(padded) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(padded).decode("ascii")[first:last]
