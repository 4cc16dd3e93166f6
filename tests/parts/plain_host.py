"""A plain host, as most people have one: the machine without the marks of a container."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MARKS = (".dockerenv", "run/.containerenv")
#: Everything below / again in a root of its own, but for the marks; then wait.
_PLAIN = r"""
set -e
mount --make-rprivate /
mount -t tmpfs none "$1"
for path in /* /.[!.]*; do
  name=${path#/}
  if [ "$name" = .dockerenv ] || [ ! -e "$path" ]; then continue; fi
  if [ -L "$path" ]; then cp -P "$path" "$1/$name"
  elif [ -d "$path" ]; then mkdir "$1/$name"; mount --rbind "$path" "$1/$name"
  else : > "$1/$name"; mount --bind "$path" "$1/$name"; fi
done
exec chroot "$1" sh -c 'echo ready; read -r end'
"""


@dataclass(frozen=True)
class PlainHost:
    """`keeper` is the process whose root and mounts are those of a plain host; None where this is one."""

    keeper: int | None

    def cwd(self, folder: Path) -> Path:
        """Where to start the command from, which then goes to the folder by itself."""
        return folder if self.keeper is None else Path("/")

    def command(self, command: Sequence[str], cwd: Path) -> list[str]:
        """The command as it is started there."""
        if self.keeper is None:
            return list(command)
        enter = (str(shutil.which("nsenter")), "--target", str(self.keeper), "--mount", "--root")
        return [*enter, "/usr/bin/env", "-C", str(cwd), *command]


@contextmanager
def plain_host(folder: Path) -> Iterator[PlainHost]:
    """Runs as it is where there is no mark, or where only root could hide it."""
    if os.geteuid() != 0 or not any((Path("/") / mark).exists() for mark in MARKS):
        yield PlainHost(None)
        return
    keeper = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", _PLAIN, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"ready\n"
        yield PlainHost(keeper.pid)
    finally:
        keeper.kill()
        keeper.communicate()
