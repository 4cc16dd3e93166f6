"""Checks that wait for one another: circles, and what a choice of checks pulls in. Pure."""

from collections.abc import Iterable, Mapping, Sequence


def cycle(requires: Mapping[str, Sequence[str]]) -> list[str]:
    """The names of one circle in order, empty when there is none. Unknown names are passed over."""
    done: set[str] = set()
    for start in requires:
        if start in done:
            continue
        way: dict[str, None] = {start: None}
        stack = [iter(requires[start])]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
                done.add(way.popitem()[0])
            elif following in way:
                names = list(way)
                return names[names.index(following) :]
            elif following not in done and following in requires:
                way[following] = None
                stack.append(iter(requires[following]))
    return []


def closure(chosen: Iterable[str], requires: Mapping[str, Sequence[str]]) -> set[str]:
    """The chosen ones and everything they need."""
    found: set[str] = set()
    waiting = list(chosen)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(requires[name])
    return found
