"""A real nginx in front of servers: a proxy, a terminator of TLS, a redirect, a login."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.parts.server_process import POLL_S, START_S

_CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; proxy_http_version 1.1; proxy_buffering off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
{servers}
}}
"""


def program() -> str:
    """The program; it may be where only root looks."""
    path = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if path is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    return path


@contextmanager
def nginx(folder: Path, *servers: str) -> Iterator[None]:
    """Run nginx with these server blocks. Raises RuntimeError, with its log, when it does not start."""
    config, log, pid = folder / "nginx.conf", folder / "error.log", folder / "nginx.pid"
    config.write_text(_CONFIG.format(folder=folder, servers="\n".join(servers)))
    command = [program(), "-p", folder, "-e", log, "-c", config]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + START_S
    try:
        # It has bound its ports when it writes this file.
        while not pid.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx did not start:\n{log.read_text()}")
            time.sleep(POLL_S)
        yield
    finally:
        process.terminate()
        process.wait(START_S)
