"""Pauses: what recovery leaves alone at a person's word, and until when.

They lie in a file of their own, which only `opskit pause` and `opskit resume` write: recovery reads it before
each repair, so that a pause holds even in the middle of a run.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from opskit.config.schema import Config
from opskit.errors import OpskitError, StateError, UsageError
from opskit.records import Record, asdict
from opskit.recovery.audit import Audit
from opskit.recovery.budget import Moment
from opskit.recovery.memory import LOCK_NAME, Memory, load, understood, write_state
from opskit.system.lock import wait_lock
from opskit.text import duration_s, listing, near_names, printable, utc

FILE_NAME = "pauses.json"
_LOCK_NAME = "pauses.lock"
#: A change of pauses takes milliseconds, a run as long as it works: a short one is waited for.
_PATIENCE_S = 5.0
#: The name that means everything.
ALL = "all"
#: The steps that are there whatever the configuration says.
_STEPS = ("wifi", "internet", "docker", "network")
_MAX_S = 365 * 86_400.0
_NAME_CHARS, _REASON_CHARS = 200, 200


class Pause(Record):
    """`since` and `until` are seconds since the epoch; until None is until `opskit resume`."""

    target: str
    since: float
    until: float | None = None
    reason: str = ""

    def holds(self, now: float) -> bool:
        return self.until is None or now < self.until

    def as_json(self, now: float) -> dict[str, Any]:
        return asdict(self) | {"left_s": None if self.until is None else round(self.until - now)}


class _Entry(Record):
    """What the file holds of a pause, by its target."""

    since: Moment
    until: Moment | None
    reason: str = ""


class PauseChange(Record):
    """`target` is the name that was given; `before` and `after` are all pauses."""

    target: str
    now: float
    before: Mapping[str, Pause]
    after: Mapping[str, Pause]

    @property
    def changed(self) -> bool:
        return self.before != self.after


def pause(
    config: Config,
    folder: Path,
    target: str | None,
    now: float,
    *,
    for_s: float | None = None,
    reason: str = "",
    force: bool = False,
    ask: Callable[[], Iterable[str]] = tuple,
) -> PauseChange:
    """Pause a target, or everything. The later pause wins; one that goes on keeps its beginning.

    `ask` gives the names that Docker knows, for one that neither the configuration nor recovery does.
    Raises OpskitError RECOVER_002 for an unknown target unless `force`, StateError.
    """
    name = ALL
    if target is not None:
        known = known_names(config, load(folder, keep=True)[0])
        is_known = force or target == ALL or any(same(target.strip(), other) for other in known)
        name = chosen(target, known if is_known else [*known, *ask()], force=force)
    until = None if for_s is None else now + for_s
    clean = " ".join(printable(reason).split())[:_REASON_CHARS]
    with changing(folder, now) as pauses:
        before = dict(pauses)
        old = pauses.get(name)
        if old is not None and old.until is None and until is None and not clean:
            clean = old.reason
        pauses[name] = Pause(name, now if old is None else old.since, until, clean)
        return PauseChange(name, now, before, dict(pauses))


def resume(config: Config, folder: Path, target: str | None, now: float) -> PauseChange:
    """End the pause of a target, under any of its names, or every pause.

    Raises OpskitError RECOVER_002 for a name that is neither known nor paused, StateError.
    """
    with changing(folder, now) as pauses:
        before = dict(pauses)
        known = [*pauses, *known_names(config, load(folder, keep=True)[0])]
        name = ALL if target is None else chosen(target, known, command="resume")
        for paused in before:
            if name == ALL or same(paused, name):
                del pauses[paused]
        return PauseChange(name, now, before, dict(pauses))


def reset(config: Config, folder: Path, target: str | None, now: float) -> list[str]:
    """Forget the repairs of a target and its parts, or of all; return the names of targets that were known.

    The next run repairs them as if it were the first. Raises OpskitError RECOVER_001 while a recovery runs,
    RECOVER_002 for an unknown name, StateError.
    """
    with wait_lock(folder / LOCK_NAME, _PATIENCE_S) as mine:
        if not mine:
            raise OpskitError("RECOVER_001", "a recovery is running", remedy="try again when it has ended")
        memory, _ = load(folder, keep=True)
        name = ALL if target is None else chosen(target, known_names(config, memory), command="resume")
        forgotten = [known for known in memory.targets if name == ALL or _is_of(known, name)]
        if not forgotten:
            return []
        for known in forgotten:
            del memory.targets[known]
        with contextlib.closing(Audit(folder, config.log)) as audit:
            memory.save()
            audit.write(at=utc(now), event="circuits_reset", source="resume --reset", targets=forgotten)
        return forgotten


def _is_of(target: str, name: str) -> bool:
    """Tell whether a target is meant by a name, or is a service of the project that is meant."""
    project, _, service = target.partition("/")
    return same(target, name) or (bool(service) and (same(project, name) or service == name))


def pause_s(text: str) -> float:
    """Return how long to pause. Raises UsageError for what is no duration, or longer than a year."""
    seconds = duration_s(text)
    if not seconds or seconds > _MAX_S:
        raise UsageError(
            f"--for {text[:40]!r} is no duration of up to a year", remedy="write 30m, 1h, 1h30m or 2d"
        )
    return seconds


def read(folder: Path, now: float) -> dict[str, Pause]:
    """Return the pauses that hold now, by target.

    Raises StateError for a file that cannot be understood: to repair against a person's word would be worse
    than not to repair.
    """
    path = folder / FILE_NAME
    try:
        entries = understood(json.loads(path.read_bytes()), dict[str, _Entry])
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise StateError.of(path, exc) from exc
    except (ValueError, RecursionError) as exc:
        raise StateError(
            f"{path} is damaged, so it is not known what is paused",
            remedy=f"remove {path}, then pause again what has to be left alone (`opskit pause TARGET`)",
        ) from exc
    pauses = (Pause(name, entry.since, entry.until, entry.reason) for name, entry in entries.items())
    return {pause.target: pause for pause in pauses if pause.holds(now)}


def write(folder: Path, pauses: Mapping[str, Pause]) -> None:
    """Replace all pauses in one step. Raises StateError."""
    in_order = sorted(pauses.values(), key=lambda pause: pause.target)
    entries = {pause.target: asdict(_Entry(pause.since, pause.until, pause.reason)) for pause in in_order}
    write_state(folder / FILE_NAME, entries)


@contextlib.contextmanager
def changing(folder: Path, now: float, *, patience_s: float = _PATIENCE_S) -> Iterator[dict[str, Pause]]:
    """Yield the pauses that hold now, to be changed in place and written at the end.

    Who changes them at the same time waits, so that no change is lost. Raises StateError, and OpskitError
    RECOVER_001 when the other does not end within `patience_s`.
    """
    with wait_lock(folder / _LOCK_NAME, patience_s) as mine:
        if not mine:
            raise OpskitError("RECOVER_001", "another `opskit pause` or `opskit resume` does not end")
        pauses = read(folder, now)
        before = dict(pauses)
        yield pauses
        if pauses != before:
            write(folder, pauses)


def covering(pauses: Mapping[str, Pause], *names: str) -> Pause | None:
    """Return the pause that covers one of these names, the pause of everything first."""
    if ALL in pauses:
        return pauses[ALL]
    return next((pauses[paused] for name in names for paused in pauses if same(paused, name)), None)


def same(first: str, second: str) -> bool:
    """Return whether two names mean the same: `victoria-agent` is `container:victoria-agent` too.

    Names of two kinds differ: `container:web` is not `compose:web`.
    """
    return first == second or _bare(first) == second or _bare(second) == first


def _bare(name: str) -> str:
    return name.partition(":")[2] or name


def known_names(config: Config, memory: Memory) -> list[str]:
    """Return what may be paused: steps, projects, nodes, agents, containers, what recovery has met. Pure."""
    targets = (memory.last_run or {}).get("targets")
    entries = [entry for entry in targets if isinstance(entry, dict)] if isinstance(targets, list) else []
    names = (
        *_STEPS,
        *(f"compose:{name}" for name in config.stack.compose),
        *_services(config, memory),
        *(node.name for node in config.nodes),
        *(agent.name for agent in config.agents),
        *(f"container:{name}" for group in config.stack.containers.values() for name in group),
        *memory.targets,
        *(str(entry.get(key, "")) for entry in entries for key in ("step", "target")),
    )
    return [name for name in dict.fromkeys(names) if name]


def _services(config: Config, memory: Memory) -> Iterator[str]:
    """Yield the services of the projects, by the declaration that recovery remembers; by both their names."""
    for key in config.stack.compose:
        with contextlib.suppress(KeyError, TypeError):
            for service in memory.facts[f"compose:{key}"]["project"]["services"]:
                yield from (str(service), f"compose:{key}/{service}")


def chosen(name: str, among: Iterable[str], *, force: bool = False, command: str = "pause") -> str:
    """Return the name as it is kept. Raises OpskitError RECOVER_002, with near names, for an unknown one.

    With `force` any name will do; `command` is for the remedy. Raises UsageError for what cannot be a name.
    """
    if not name.strip() or not name.isprintable() or len(name) > _NAME_CHARS:
        raise UsageError("that is no name of a target", remedy="`opskit status` lists the targets")
    name = name.strip()
    names = list(among)
    if name == ALL or force or any(same(name, known) for known in names):
        return name
    bare = {_bare(known): known for known in names}
    matches = near_names(name, [*names, *bare])
    near = list(dict.fromkeys(bare.get(match, match) for match in matches))
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {listing(names)}"
    remedy = f"`opskit {command} {near[0]}`" if near else "`opskit recover --dry-run` lists the targets"
    if command == "pause":
        remedy += "; `--force` takes a name that is not known yet"
    raise OpskitError("RECOVER_002", f"there is no target {name!r}; {hint}", remedy=remedy)
