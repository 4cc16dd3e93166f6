"""A stack: how it is set up, and what is truly wrong with it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.acceptance.stacks.scene import Scene

Setup = Callable[[Scene], Iterator[None]]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """`causes` must all be named; `also` may be named, because it is true too; anything else is false.

    Each is an id (`node-down`) or an id with its target (`node-down:gpu`); alternatives are joined by `|`.
    """

    name: str
    story: str
    setup: Setup
    causes: tuple[str, ...]
    also: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """What the evidence or the remedy of a true cause must hold, because the id alone does not help."""
    needs: tuple[str, ...] = ()
    """The fixtures that it uses, by name."""
    alone: bool = False
    """It changes what every examination of this machine sees."""


def broken(*causes: str, **about: Any) -> Callable[[Setup], Stack]:
    """Make a stack of the function that sets it up and whose first line tells the story."""

    def decorate(setup: Setup) -> Stack:
        story = (setup.__doc__ or "").strip().splitlines()[0]
        return Stack(name=setup.__name__, story=story, setup=setup, causes=causes, **about)

    return decorate


def seems(**about: Any) -> Callable[[Setup], Stack]:
    """Make a stack that only looks broken: no cause may be named."""
    return broken(**about)


def written(
    name: str,
    story: str,
    *causes: str,
    config: Mapping[str, Any] | str | None = None,
    env: Mapping[str, str] | None = None,
    **about: Any,
) -> Stack:
    """Make a stack that consists of a configuration file and variables."""

    def setup(scene: Scene) -> Iterator[None]:
        if config is not None:
            scene.config = dict(config) if isinstance(config, Mapping) else config
        scene.env |= env or {}
        yield

    return Stack(name=name, story=story, setup=setup, causes=causes, **about)
