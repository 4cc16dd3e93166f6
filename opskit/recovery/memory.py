"""What recovery remembers between runs: a file in the state folder that survives reboots and kills."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from msgspec import Meta, ValidationError, convert

from opskit.errors import OpskitError, StateError
from opskit.records import MutableRecord, Record, asdict, field, replace
from opskit.recovery.budget import Moment, RepairRecord
from opskit.system.lock import try_lock
from opskit.system.textfile import write_text

if TYPE_CHECKING:
    from opskit.recovery.outcome import RecoveryRun
    from opskit.system.process import Process

T = TypeVar("T")
FILE_NAME = "recovery.json"
#: The lock of who works with it.
LOCK_NAME = "recover.lock"
_SCHEMA: Literal[1] = 1
_MAX_BYTES = 4 * 1024 * 1024
#: Targets that come and go (containers of CI runs) must not fill the file.
_HISTORIES = 500
#: A mark that nobody has renewed for so long is of a service or a project that is no more.
_MARK_S = 365 * 86_400.0
#: How many states of a target are remembered: 105 minutes of runs every five minutes.
STATES = 21
#: The shares of changes at which flapping begins and ends, and the weights of the oldest and newest change.
HIGH, LOW = 0.30, 0.20
_OLDEST, _NEWEST = 0.8, 1.2


class History(Record):
    """How a target was in its last runs, one character for each in which it was judged, the newest last.

    `+` is well, `-` broken. Flapping is judged by the rule of Nagios (ops facts 9): each change counts, a
    recent one up to half as much again as an old one.
    """

    states: Annotated[str, Meta(pattern="^[+-]*$", max_length=STATES)] = ""
    flapping: bool = False

    @property
    def share(self) -> float:
        """The weighted share of changes, from 0 to 1. A short history holds few changes, so it is small."""
        possible = STATES - 1
        step = (_NEWEST - _OLDEST) / (possible - 1)
        pairs = enumerate(pairwise(self.states.rjust(STATES)))
        changes = (_OLDEST + step * place for place, (old, new) in pairs if old not in (" ", new))
        return min(1.0, sum(changes) / possible)

    def after(self, *, well: bool) -> "History":
        """Return the history after one more run. What was repaired in a run was broken in it."""
        states = (self.states + ("+" if well else "-"))[-STATES:]
        return History(states, History(states).share >= (LOW if self.flapping else HIGH))


class Memory(MutableRecord):
    """The records of targets, and the last run.

    `marks` are moments (seconds since the epoch) that steps keep for themselves, e.g. when Docker was last
    restarted; `facts` are small texts they keep, e.g. which services a Compose file declared; `notices` is
    when a notice about a target was last sent; `histories` is how targets were in their last runs. One that
    is not `is_lasting` is of a run whose state folder cannot be written.
    """

    path: Path
    targets: dict[str, RepairRecord] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    notices: dict[str, float] = field(default_factory=dict)
    last_run: dict[str, Any] | None = None
    histories: dict[str, History] = field(default_factory=dict)
    is_lasting: bool = True

    def of(self, target: str) -> RepairRecord:
        return self.targets.get(target, RepairRecord())

    def remember_server(self, target: str, process: "Process") -> None:
        """Keep that a repair of the target started this process."""
        self.facts[f"started:{target}"] = {"pid": process.pid, "began": process.began}

    def has_started(self, target: str, process: "Process") -> bool:
        """Tell whether an earlier repair of the target started this process."""
        from opskit.system.process import SAME_START_S

        fact: Any = self.facts.get(f"started:{target}")
        try:
            return (
                int(fact["pid"]) == process.pid and abs(float(fact["began"]) - process.began) < SAME_START_S
            )
        except (KeyError, TypeError, ValueError):
            return False

    def remember(self, run: "RecoveryRun") -> None:
        """Keep what `opskit status` shows of a run, and how each target was. A dry run is forgotten."""
        if run.dry:
            return
        self.last_run = run.as_memory()
        judged: dict[str, bool] = {}
        for outcome in run.outcomes:
            if outcome.result.judged:
                judged[outcome.target] = outcome.result.value == "ok" and judged.get(outcome.target, True)
        for name, well in judged.items():
            self.histories[name] = self.histories.pop(name, History()).after(well=well)
        for name in list(self.histories)[:-_HISTORIES]:
            del self.histories[name]
        for name in [name for name, at in self.marks.items() if time.time() - at > _MARK_S]:
            del self.marks[name]
        present = {outcome.target for outcome in run.outcomes}
        for name in [name for name, record in self.targets.items() if record.idle and name not in present]:
            del self.targets[name]

    def save(self) -> None:
        """Write everything in one step; nothing unless it `is_lasting`. Raises StateError."""
        if self.is_lasting:
            targets = dict(sorted(self.targets.items()))
            content = _Content(
                _SCHEMA, targets, self.marks, self.facts, self.notices, self.last_run, self.histories
            )
            write_state(self.path, asdict(content))


class _Content(Record):
    """What the file holds."""

    schema_version: Literal[1]
    targets: dict[str, RepairRecord]
    marks: dict[str, Moment]
    facts: dict[str, Any]
    notices: dict[str, Moment]
    last_run: dict[str, Any] | None
    histories: dict[str, History] = field(default_factory=dict)


def write_state(path: Path, content: Mapping[str, Any]) -> None:
    """Write a state file in one step. Raises StateError.

    Names of files that are no UTF-8 come as lone surrogates, and stay escapes.
    """
    text = json.dumps(content, ensure_ascii=False, indent=1)
    try:
        write_text(path, text.encode("utf-8", "backslashreplace").decode() + "\n")
    except OSError as exc:
        raise StateError.of(path, exc) from exc


def understood(content: object, shape: type[T]) -> T:
    """Return what a state file holds, typed. Raises ValueError for anything that is not of that shape."""
    try:
        return convert(content, shape)
    except ValidationError as exc:
        raise ValueError(str(exc)) from exc


def load(folder: Path, *, keep: bool = False) -> tuple[Memory, str | None]:
    """Return what is remembered in the state folder, and a note when that could not be read.

    A file that cannot be understood is set aside under another name: never fatal, never lost. With `keep` it
    stays where it is, for commands that only look.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as stream:
            content = understood(json.loads(stream.read(_MAX_BYTES + 1)), _Content)
        targets = {
            name: replace(record, repairs=tuple(sorted(record.repairs)))
            for name, record in content.targets.items()
        }
        others = (content.marks, content.facts, content.notices, content.last_run, content.histories)
        return Memory(path, targets, *others), None
    except FileNotFoundError:
        return Memory(path), None
    except OSError as exc:
        why = f"{path} cannot be read ({exc.strerror})"
    except (ValueError, RecursionError):
        why = f"{path} is damaged, or was written by another version of opskit"
    return Memory(path), why if keep else f"{why}: {_set_aside(path)}"


def _set_aside(path: Path) -> str:
    stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = path.with_name(f"{path.stem}.damaged-{stamp}.json")
    try:
        path.replace(aside)
    except OSError as exc:
        return f"it could not be set aside ({exc.strerror}), and recovery begins without memory"
    return f"it is kept as {aside.name}, and recovery begins without memory"


@contextlib.contextmanager
def alone(folder: Path, lock_name: str = LOCK_NAME, what: str = "recovery") -> Iterator[None]:
    """Hold a lock of this state folder, which dies with its process.

    Raises OpskitError RECOVER_001 when another process holds it.
    """
    path = folder / lock_name
    with try_lock(path) as mine:
        if not mine:
            pid = ""
            with contextlib.suppress(OSError):
                pid = path.read_text(encoding="ascii", errors="replace").strip()
            owner = f" as process {pid}" if pid.isdigit() else ""
            raise OpskitError("RECOVER_001", f"another {what} is running{owner}")
        with contextlib.suppress(OSError):
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield


@contextlib.contextmanager
def alone_with_docker(environ: Mapping[str, str]) -> Iterator[None]:
    """Hold a lock of the Docker daemon on this machine, so that two users do not repair at once.

    It is on the folder of its socket, which all its users can open. Raises OpskitError RECOVER_001 when
    another process holds it.
    """
    from opskit.facts.docker_daemon import docker_address

    address = docker_address(environ)
    with contextlib.ExitStack() as stack:
        if address.socket_exists and address.socket is not None:
            folder = Path(address.socket).resolve().parent
            # What this user cannot open is not theirs to repair either.
            with contextlib.suppress(OSError):
                if not stack.enter_context(try_lock(folder)):
                    why = f"another recovery is running with the Docker daemon at {address.shown}"
                    raise OpskitError("RECOVER_001", why)
        yield
