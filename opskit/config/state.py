"""The state folder: where it is, and that it can be written."""

from collections.abc import Mapping
from pathlib import Path

from opskit.errors import StateError


def default_state_dir(environ: Mapping[str, str]) -> str:
    """`$XDG_STATE_HOME/opskit`, else the system's folder; a relative variable does not count (XDG)."""
    if environ.get("XDG_STATE_HOME", "").startswith("/"):
        return str(Path(environ["XDG_STATE_HOME"]) / "opskit")
    import platformdirs

    return platformdirs.user_state_dir("opskit")


def ensure_state_dir(path: str | Path) -> Path:
    """Create the folder if need be, for its owner alone, and prove by a real file that it can be written.

    A folder that exists keeps its permissions: it may be shared on purpose. Raises StateError.
    """
    import tempfile

    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".opskit-") as probe:
            probe.write(b"opskit")
            probe.flush()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a usable path"
        raise StateError(f"{folder}: {reason}") from exc
    return folder
