"""Where archives come from and where they lie, and who may work on them now."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opskit.backup.pattern import Patterns, of_config
from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.system.lock import try_lock

_LOCK = ".lock"
#: Whoever asks `running` holds the lock for an instant.
_PATIENCE_S = (0.0, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class Place:
    """`root` is what is backed up, `folder` holds the archives; both are absolute and free of links."""

    root: Path
    folder: Path
    patterns: Patterns
    keep: int
    max_file_bytes: int

    def make_folder(self) -> None:
        """For its owner alone. Raises BACKUP_003."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise not_written(self.folder, exc) from exc

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else makes or restores a backup meanwhile. Raises BACKUP_004 when somebody does."""
        self.make_folder()
        with contextlib.ExitStack() as stack:
            for pause_s in _PATIENCE_S:
                time.sleep(pause_s)
                try:
                    held = stack.enter_context(try_lock(self.folder / _LOCK))
                except OSError as exc:
                    raise not_written(self.folder, exc) from exc
                if held:
                    break
            else:
                raise OpskitError("BACKUP_004", f"another process works on the backups in {self.folder}")
            yield


def place_of(config: Config) -> Place:
    """Raises ConfigError for patterns that cannot be used."""
    chosen = config.backup
    folder = config.located(chosen.folder) if chosen.folder else Path(config.state_dir) / "backups"
    return Place(
        root=_real(config.located(chosen.root or ".")),
        folder=_real(folder.absolute()),
        patterns=of_config(config),
        keep=chosen.keep,
        max_file_bytes=chosen.max_file_bytes,
    )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def running(config: Config) -> bool:
    """True while a backup is made or restored: leave its files alone. Nothing is created by asking."""
    try:
        handle = os.open(place_of(config).folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def not_written(path: Path | str, exc: OSError) -> OpskitError:
    """The error for what the system would not do."""
    return OpskitError("BACKUP_003", f"{path}: {exc.strerror or exc}")
