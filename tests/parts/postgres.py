"""A real PostgreSQL server of its own: a fresh cluster in a folder, on loopback, ended by its pid."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

START_S = 30.0
POLL_S = 0.02


@dataclass(frozen=True)
class Postgres:
    """A server with one database, `knowledge`, and a superuser without a password."""

    port: int
    user: str

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/knowledge"

    def run(self, *statements: str) -> None:
        """Change the database, outside of any transaction."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@contextlib.contextmanager
def server() -> Iterator[Postgres]:
    """Skips the test where there is no PostgreSQL, or no driver."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'opskit[postgres]'")
    programs = _programs()
    home = Path(tempfile.mkdtemp(prefix="opskit-postgres-"))
    become, user = _user(home)
    data = home / "data"
    subprocess.run(
        [
            *become,
            str(programs / "initdb"),
            "-D",
            str(data),
            "-A",
            "trust",
            "-U",
            user,
            "--no-sync",
            "-E",
            "UTF8",
        ],
        check=True,
        capture_output=True,
        cwd="/",
    )
    port = free_port()
    options = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(home)]
    options += ["-c", "max_connections=30", "-c", "fsync=off"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*become, str(programs / "postgres"), *options],
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    try:
        _ready(process, port, user, home / "log")
        yield Postgres(port, user)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests."""
    with server() as found:
        yield found


def _programs() -> Path:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    found = next((one for one in folders if (one / "initdb").exists()), None)
    if found is None and on_path is None:
        pytest.skip("there is no PostgreSQL server: apt-get install postgresql")
    return found or Path(on_path or "").parent


def _user(home: Path) -> tuple[Sequence[str], str]:
    """PostgreSQL refuses to run as root: then it runs as the user that its package made."""
    if os.geteuid() != 0:
        return (), "opskit"
    if shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    try:
        shutil.chown(home, "postgres", "postgres")
    except LookupError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return ("runuser", "-u", "postgres", "--"), "opskit"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(process: subprocess.Popen[bytes], port: int, user: str, log: Path) -> None:
    import psycopg

    limit = time.monotonic() + START_S
    while True:
        try:
            with psycopg.connect(
                f"postgresql://{user}@127.0.0.1:{port}/postgres", autocommit=True, connect_timeout=2
            ) as connection:
                connection.execute("CREATE DATABASE knowledge")
                return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > limit:
                pytest.skip(f"PostgreSQL does not start here:\n{log.read_text(errors='replace')[-1500:]}")
            time.sleep(POLL_S)
