"""Compose files that can be given away: secrets masked, all else as it stands. Pure.

The file is read as YAML to know what belongs to which name, and changed as text: comments, order and mistakes
in it are what a bug report is about.
"""

import json
from collections.abc import Iterator

import yaml

from opskit.diagnose.command_secrets import in_words, words_before
from opskit.diagnose.redaction import MASK, Redactor
from opskit.diagnose.secret_names import harmless, promises_secret
from opskit.diagnose.secret_shapes import spans

_Splice = tuple[int, int, str]
#: `secrets: {NAME: {content: ...}}` holds the secret itself.
_HOLDERS = ("content",)


def masked(text: str, redactor: Redactor) -> str:
    """The file without its secrets; one that is no YAML is masked as plain text."""
    file = _File(text)
    parts: list[str] = []
    at = 0
    for start, end, instead in sorted(file.splices):
        if start >= at:
            parts += (text[at:start], instead)
            at = end
    return redactor.knowing(file.secrets).text("".join((*parts, text[at:])))


def secrets_in(text: str) -> set[str]:
    """The secrets that the file gives to its services, by their values."""
    return _File(text).secrets


class _File:
    """What a Compose file holds: the places to mask, and the secrets that stand there."""

    def __init__(self, text: str) -> None:
        self.splices: list[_Splice] = []
        self.secrets: set[str] = set()
        self._seen: set[int] = set()
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            if root is not None:
                self.splices += self._of(root, ())
        except (yaml.YAMLError, RecursionError, ValueError):
            self.splices.clear()

    def _of(
        self, node: yaml.Node, path: tuple[str, ...], before: list[str] | None = None
    ) -> Iterator[_Splice]:
        """An alias is masked where it is anchored."""
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield from self._of_mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            yield from self._of_sequence(node, path, before or [])
        elif isinstance(node, yaml.ScalarNode):
            yield from self._of_scalar(node, before or [])

    def _of_mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> Iterator[_Splice]:
        plain = {_scalar(key): _plain(value) for key, value in node.value}
        named = next((name for key in ("name", "key") if isinstance(name := plain.get(key), str)), "")
        for key, value in node.value:
            name = _scalar(key)
            alone = isinstance(plain[name], str) and not str(plain[name]).isdigit()
            if _hides(name, path, alone=alone) or (name == "value" and promises_secret(named)):
                yield from self._all_of(value)
            else:
                yield from self._of(value, (*path, name), words_before(plain, name))

    def _of_sequence(
        self, node: yaml.SequenceNode, path: tuple[str, ...], before: list[str]
    ) -> Iterator[_Splice]:
        words = [_scalar(item) for item in node.value]
        hidden = {index: (start, end) for index, start, end in in_words(words, before)}
        for index, item in enumerate(node.value):
            if index in hidden:
                start, end = hidden[index]
                self._seen.add(id(item))
                self.secrets.add(words[index][start:end])
                yield _splice(item, json.dumps(f"{words[index][:start]}{MASK}{words[index][end:]}"))
            else:
                yield from self._of(item, path)

    def _of_scalar(self, node: yaml.ScalarNode, before: list[str]) -> Iterator[_Splice]:
        """`- NAME=value`, `--option=value`; a command over several lines is known by the secrets in it."""
        text = str(node.value)
        name, equals, value = text.partition("=")
        if equals and promises_secret(name.lstrip("-"), alone=name != "PWD") and " " not in name:
            if not harmless(value):
                self.secrets.add(value)
                yield _splice(node, f'"{name}={MASK}"')
        else:
            self.secrets |= {text[start:end].strip("\"'") for start, end in spans(text)}
            words = text.split() if before else []
            self.secrets |= {words[index][start:end] for index, start, end in in_words(words, before)}

    def _all_of(self, node: yaml.Node) -> Iterator[_Splice]:
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            if not harmless(str(node.value)):
                self.secrets.add(str(node.value))
                yield _splice(node, f'"{MASK}"')
        elif isinstance(node, yaml.MappingNode):
            for _, value in node.value:
                yield from self._all_of(value)
        else:
            for item in node.value:
                yield from self._all_of(item)


def _hides(name: str, path: tuple[str, ...], *, alone: bool) -> bool:
    """Whether everything behind this key is a secret. A service's `secrets` are names; so is the section."""
    if path[:1] == ("secrets",):
        return name in _HOLDERS
    return name != "secrets" and promises_secret(name, alone=alone and name != "PWD")


def _scalar(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _plain(node: yaml.Node) -> str | list[str]:
    return list(map(_scalar, node.value)) if isinstance(node, yaml.SequenceNode) else _scalar(node)


def _splice(node: yaml.Node, instead: str) -> _Splice:
    """A block ends with its last line break, which stays."""
    ending = "\n" if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">") else ""
    return node.start_mark.index, node.end_mark.index, instead + ending
