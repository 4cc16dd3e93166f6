"""A real OpenSSH server on loopback, with keys and a client configuration of its own."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[Path]:
    """Yield the file for `ssh -F`: host `box` is trusted, host `stranger` has another key on record."""
    folder.mkdir()
    for name in ("host", "other", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    (folder / "authorized").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/pid\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    for name, key in (("box", "host"), ("stranger", "other")):
        public = (folder / f"{key}.pub").read_text()
        (folder / f"known_{name}").write_text(f"[127.0.0.1]:{port} {public}")
    (folder / "config").write_text(
        "".join(
            f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {folder}/user\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {folder}/known_{name}\n  GlobalKnownHostsFile /dev/null\n"
            for name in ("box", "stranger")
        )
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # privilege separation of Debian's build
    program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    process = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < until
            time.sleep(0.02)
        yield folder / "config"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
