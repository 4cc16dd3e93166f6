"""The PATH of the job: a scheduler's own is four folders, in which neither Docker nor Homebrew lies."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

#: What recovery starts. The credential helpers are started by docker itself, which finds them on PATH only.
SOUGHT = (
    "docker",
    "docker-compose",
    "docker-credential-desktop",
    "docker-credential-osxkeychain",
    "brew",
    "ollama",
    "orb",
    "colima",
    "launchctl",
    "systemctl",
)
_SYSTEM = {
    "darwin": ("/usr/bin", "/bin", "/usr/sbin", "/sbin"),
    "linux": ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"),
}
#: Where installers put them, looked at after the PATH of the shell.
_USUAL = {
    "darwin": (
        "/opt/homebrew/bin",
        "/usr/local/bin",
        "~/.orbstack/bin",
        "~/.docker/bin",
        "/Applications/Docker.app/Contents/Resources/bin",
        "/Applications/Ollama.app/Contents/Resources",
    ),
    "linux": ("/usr/local/bin", "/home/linuxbrew/.linuxbrew/bin", "~/.local/bin", "/snap/bin"),
}


def job_path(programs: Iterable[str], environ: Mapping[str, str], *, platform: str, home: Path) -> str:
    """Folders of the programs that are there, then the system's; only those that exist, each once.

    `programs` are looked for besides the usual ones: what the configuration starts by its bare name.
    """
    shell = [folder for folder in environ.get("PATH", "").split(os.pathsep) if folder.startswith("/")]
    usual = [
        str(home / one.removeprefix("~/")) if one[0] == "~" else one for one in _USUAL[_family(platform)]
    ]
    search = os.pathsep.join((*shell, *usual))
    found = (shutil.which(name, path=search) for name in (*SOUGHT, *programs) if "/" not in name)
    system = _SYSTEM[_family(platform)]
    needed = dict.fromkeys(folder for one in found if one and (folder := str(Path(one).parent)) not in system)
    return os.pathsep.join((*needed, *(folder for folder in system if Path(folder).is_dir())))


def _family(platform: str) -> str:
    return "darwin" if platform == "darwin" else "linux"
