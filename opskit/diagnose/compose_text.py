"""Compose files that can be given away: secrets masked, all else as it stands. Pure.

The file is read as YAML to know what belongs to which name, and changed as text: comments, order and mistakes
in it are what a bug report is about.
"""

import json
from collections.abc import Sequence
from typing import Any

import yaml

from opskit.diagnose.redaction import Redactor
from opskit.diagnose.secret_names import harmless, promises_secret
from opskit.diagnose.secret_shapes import Span, spans
from opskit.diagnose.secret_trees import edited, masked_at

#: `secrets: {NAME: {content: ...}}` holds the secret itself.
_HOLDERS = ("content",)


def masked(text: str, redactor: Redactor) -> str:
    """Return the file without its secrets; one that is no YAML is masked as plain text."""
    file = _File(text)
    parts: list[str] = []
    at = 0
    for start, end, instead in sorted(file.splices):
        if start >= at:
            parts += (text[at:start], instead)
            at = end
    return redactor.knowing(file.secrets).text("".join((*parts, text[at:])))


def secrets_in(text: str) -> set[str]:
    """Return the secrets that the file gives to its services, by their values."""
    return _File(text).secrets


class _Scalar(str):
    """A text of the file, and where it stands."""

    __slots__ = ("node",)
    node: yaml.ScalarNode


class _File:
    """What a Compose file holds: the places to mask, and the secrets that stand there."""

    def __init__(self, text: str) -> None:
        self.splices: list[tuple[int, int, str]] = []
        self.secrets: set[str] = set()
        self._trees: set[int] = set()
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            if root is not None:
                edited(self._tree(root), self._leaf, _hides)
        except (yaml.YAMLError, RecursionError, ValueError):
            self.splices.clear()

    def _tree(self, node: yaml.Node) -> Any:
        """Return lists, mappings and texts; a list or a mapping stands where it is anchored only."""
        if isinstance(node, yaml.ScalarNode):
            scalar = _Scalar(node.value)
            scalar.node = node
            return scalar
        if id(node) in self._trees:
            return ""
        self._trees.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self._tree(item) for item in node.value]
        tree: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            item = self._tree(value)
            # A key that is there twice is a mistake that must not hide a secret.
            tree[name] = [tree[name], item] if name in tree else item
        return tree

    def _leaf(self, leaf: Any, places: Sequence[Span] | None) -> Any:
        """Note a secret; a command over several lines is known by the secrets in it."""
        if not isinstance(leaf, _Scalar):
            return leaf
        name, equals, value = leaf.partition("=")
        if places is None:
            places = () if harmless(leaf) else ((0, len(leaf)),)
        elif equals and promises_secret(name.lstrip("-"), alone=name != "PWD") and " " not in name:
            places = () if harmless(value) else ((len(name) + 1, len(leaf)),)
        elif not places:
            self.secrets |= {leaf[start:end].strip("\"'") for start, end in spans(leaf)}
        if places:
            self.secrets.update(leaf[start:end] for start, end in places)
            # A block ends with its last line break, which stays.
            masked_leaf = json.dumps(masked_at(leaf, places), ensure_ascii=False)
            masked_leaf += "\n" if leaf.node.style in ("|", ">") else ""
            self.splices.append((leaf.node.start_mark.index, leaf.node.end_mark.index, masked_leaf))
        return leaf


def _hides(name: str, value: object, path: tuple[str, ...]) -> bool:
    """Tell whether all behind this key is a secret. A service's `secrets` are names; so is the section."""
    if path[:1] == ("secrets",):
        return name in _HOLDERS
    alone = isinstance(value, str) and not value.isdigit() and name != "PWD"
    return name != "secrets" and promises_secret(name, alone=alone)
