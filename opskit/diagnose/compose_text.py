"""Compose files that can be given away: secrets masked, all else as it stands. Pure.

The file is read as YAML to know what belongs to which name, and changed as text: comments, order and mistakes
in it are what a bug report is about.
"""

from collections.abc import Iterator

import yaml

from opskit.diagnose.redaction import MASK, Redactor
from opskit.diagnose.secret_names import promises_secret
from opskit.diagnose.secret_shapes import harmless

_Splice = tuple[int, int, str]
#: `secrets: {NAME: {content: ...}}` holds the secret itself.
_HOLDERS = ("content",)


def masked(text: str, redactor: Redactor) -> str:
    """The file without its secrets; one that is no YAML is masked as plain text."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        splices = sorted(_splices(root, (), set())) if root is not None else []
    except (yaml.YAMLError, RecursionError, ValueError):
        splices = []
    parts: list[str] = []
    at = 0
    for start, end, instead in splices:
        if start >= at:
            parts += (text[at:start], instead)
            at = end
    return redactor.text("".join((*parts, text[at:])))


def _splices(node: yaml.Node, path: tuple[str, ...], seen: set[int]) -> Iterator[_Splice]:
    if id(node) in seen:
        return  # an alias: it is masked where it is anchored
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            if _hides(name, path):
                yield from _all_of(value, seen)
            else:
                yield from _splices(value, (*path, name), seen)
    elif isinstance(node, yaml.SequenceNode):
        hidden = False
        for item in node.value:
            scalar = item.value if isinstance(item, yaml.ScalarNode) else ""
            if hidden and scalar:
                yield from _all_of(item, seen)
            else:
                yield from _splices(item, path, seen)
            hidden = scalar.startswith("-") and "=" not in scalar and promises_secret(scalar.lstrip("-"))
    elif isinstance(node, yaml.ScalarNode):
        yield from _assignment(node)


def _hides(name: str, path: tuple[str, ...]) -> bool:
    """Whether everything behind this key is a secret. A service's `secrets` are names; so is the section."""
    if path[:1] == ("secrets",):
        return name in _HOLDERS
    return name != "secrets" and promises_secret(name)


def _assignment(node: yaml.ScalarNode) -> Iterator[_Splice]:
    """`- NAME=value`, and `--option=value`."""
    name, equals, value = str(node.value).partition("=")
    if equals and promises_secret(name.lstrip("-")) and not harmless(value) and " " not in name:
        yield _splice(node, f'"{name}={MASK}"')


def _all_of(node: yaml.Node, seen: set[int]) -> Iterator[_Splice]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        if not harmless(str(node.value)):
            yield _splice(node, f'"{MASK}"')
    elif isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _all_of(value, seen)
    else:
        for item in node.value:
            yield from _all_of(item, seen)


def _splice(node: yaml.ScalarNode, instead: str) -> _Splice:
    """A block ends with its last line break, which stays."""
    ending = "\n" if node.style in ("|", ">") else ""
    return node.start_mark.index, node.end_mark.index, instead + ending
