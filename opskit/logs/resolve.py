"""What people name as a source, resolved into sources.

`-` is standard input, `self` our own log, `journal:UNIT` the journal; `label:k=v` and
`compose:PROJECT/SERVICE` are containers; a path, a glob or a name with a slash is a file; any other name is a
container, unless a file of that name is there.
"""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from opskit.errors import OpskitError
from opskit.logs.files import FileSource, distinct, files, is_glob, rotated
from opskit.logs.glob_source import GlobSource
from opskit.logs.source import Batch, JournalSource, LogSource, StdinSource, Window

#: SPEC A7: the agent whose log people watch.
DEFAULT_CONTAINER = "victoria-agent"
_CONTAINERS = ("label:", "compose:", "container:")


class UnreadableSource:
    """What was named as a source and is none: reading and following it raise why."""

    def __init__(self, name: str, error: OpskitError) -> None:
        self.name = name
        self._error = error

    def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        del window
        raise self._error

    follow = read


async def resolve(
    specs: Sequence[str], own_log: Path, *, follow: bool = False
) -> tuple[list[LogSource], list[str]]:
    """The sources of `specs`, and notes on what was left out; without any spec, the default ones.

    The defaults are our own log and the container of Victoria, each if it is there. Of several that are named
    one that is not there is an UnreadableSource. Raises OpskitError when it is the only one.
    """
    if not specs:
        return await _defaults(own_log, follow=follow)
    sources: list[LogSource] = []
    for spec in specs:
        try:
            sources += await _one(spec, own_log, follow=follow)
        except OpskitError as error:
            if len(specs) == 1:
                raise
            sources.append(UnreadableSource(spec, error))
    return distinct(sources), []


async def _one(spec: str, own_log: Path, *, follow: bool) -> list[LogSource]:
    if spec == "-":
        return [StdinSource()]
    if spec == "self":
        return _own(own_log, follow=follow)
    if spec.startswith("journal:"):
        return [JournalSource(spec.removeprefix("journal:") or None)]
    from opskit.logs.container import containers

    if spec.startswith(_CONTAINERS):
        return await containers(spec.removeprefix("container:"), follow=follow)
    if "/" in spec or Path(spec).exists():
        return _files(spec, follow=follow)
    try:
        return await containers(spec, follow=follow)
    except OpskitError as error:
        if Path(spec).suffix or any(char in spec for char in "*?["):
            return _files(spec, follow=follow)
        raise OpskitError(
            error.code, f"{error.message}; nor is there a file {spec!r}", remedy=error.remedy
        ) from error


def _files(spec: str, *, follow: bool) -> list[LogSource]:
    matching = files(spec)
    return [GlobSource(spec)] if follow and is_glob(spec) else list(matching)


def _own(own_log: Path, *, follow: bool) -> list[LogSource]:
    if follow:
        return [FileSource(own_log, "opskit")]
    generations: list[LogSource] = [FileSource(path, "opskit") for path in rotated(own_log) if path.exists()]
    if not generations:
        raise OpskitError("LOG_001", f"there is no {own_log} yet", remedy="`opskit run` writes it")
    return generations


async def _defaults(own_log: Path, *, follow: bool) -> tuple[list[LogSource], list[str]]:
    sources: list[LogSource] = []
    notes: list[str] = []
    for spec in ("self", DEFAULT_CONTAINER):
        try:
            sources += await _one(spec, own_log, follow=follow)
        except OpskitError as error:
            notes.append(error.message)
    if not sources:
        raise OpskitError(
            "LOG_001",
            f"there is nothing to read: {'; '.join(notes)}",
            remedy="name a source: a file, a container, `compose:PROJECT`, `journal:UNIT` or `-`",
        )
    return sources, notes
