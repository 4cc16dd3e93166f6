"""What the rules are applied to: a file, or all code blocks of one answer put together.

The blocks of an answer go on from each other: `import os` stands in the first, `os.system(...)` in the
second. So they are judged as one module, in which every line keeps the number it has in the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opskit.quality.syntax import Parsed


@dataclass(frozen=True, slots=True)
class Module:
    """Code that parses. `shifts` tells for a line how far the original stands further to the right."""

    name: str
    code: str
    pieces: int = 1
    shifts: Mapping[int, int] = field(default_factory=dict)


def modules(parsed: Sequence[Parsed]) -> tuple[Module, ...]:
    """The modules of all pieces that parse, in order of their names' first appearance."""
    together: dict[str, list[Parsed]] = {}
    for piece in parsed:
        if piece.parses:
            together.setdefault(piece.source.name, []).append(piece)
    return tuple(_module(name, pieces) for name, pieces in together.items())


def _module(name: str, pieces: Sequence[Parsed]) -> Module:
    lines: list[str] = []
    shifts: dict[int, int] = {}
    for piece in pieces:
        source = piece.source
        lines += [""] * (source.line - len(lines))
        code = source.code.removesuffix("\n").split("\n")
        if source.column:
            shifts |= dict.fromkeys(range(len(lines) + 1, len(lines) + len(code) + 1), source.column)
        lines += code
    return Module(name, "\n".join(lines) + "\n", len(pieces), shifts)
