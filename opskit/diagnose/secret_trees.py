"""Secrets in trees: findings, `docker inspect`, Compose files. One walk for all of them. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from opskit.diagnose.command_secrets import Span, in_words, words_before
from opskit.diagnose.secret_names import promises_secret

#: Gets a leaf and the places in it that are secret; None says that all of it is.
Edit = Callable[[Any, Sequence[Span] | None], Any]
#: Tells whether all behind a key is secret, by the key, its value, and the keys above.
Hides = Callable[[str, Any, tuple[str, ...]], bool]

MASK = "***"
_STATUSES = frozenset({"pass", "fail", "warn", "skip"})
_NAMED = ("name", "key", "Name", "Key")
_HOLDS = ("value", "Value")


def hides(name: str, value: object, _: tuple[str, ...] = ()) -> bool:
    """Tell whether a name hides its value: `{"pass": 3}` is a count, `{"pass": "x"}` is not."""
    has_words = isinstance(value, str) and value not in _STATUSES
    return promises_secret(name, alone=has_words and name != "PWD")


def edited(
    tree: Any, edit: Edit, hides: Hides = hides, path: tuple[str, ...] = (), before: Sequence[str] = ()
) -> Any:
    """Return the tree with every key and leaf as `edit` returns it.

    A value may be hidden by its key, by the name beside it, or as a word of a command: `--api-key` hides what
    follows it. `before` are words of the same command that stand elsewhere.
    """
    if isinstance(tree, Mapping):
        named = next((tree[key] for key in _NAMED if isinstance(tree.get(key), str)), "")
        return {
            edit(str(key), ()): (
                edited_whole(item, edit)
                if hides(str(key), item, path) or (key in _HOLDS and promises_secret(named))
                else edited(item, edit, hides, (*path, str(key)), words_before(tree, key))
            )
            for key, item in tree.items()
        }
    if isinstance(tree, list | tuple):
        places: dict[int, list[Span]] = {}
        for index, start, end in in_words([item if isinstance(item, str) else "" for item in tree], before):
            places.setdefault(index, []).append((start, end))
        return [
            edit(item, places[index]) if index in places else edited(item, edit, hides, path)
            for index, item in enumerate(tree)
        ]
    if isinstance(tree, str) and before:
        return edit(tree, [(start, end) for _, start, end in in_words([tree], before)])
    return edit(tree, ())


def edited_whole(tree: Any, edit: Edit) -> Any:
    """Return a tree of which every leaf is secret."""
    if isinstance(tree, Mapping):
        return {str(key): edited_whole(item, edit) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [edited_whole(item, edit) for item in tree]
    return edit(tree, None)


def masked_at(text: str, places: Sequence[Span]) -> str:
    for start, end in reversed(merged(places)):
        text = f"{text[:start]}{MASK}{text[end:]}"
    return text


def merged(places: Iterable[Span]) -> list[Span]:
    """Return places in their order, those that touch or overlap as one."""
    merged: list[Span] = []
    for start, end in sorted(places):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        elif start < end:
            merged.append((start, end))
    return merged
