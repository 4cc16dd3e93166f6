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
from typing import Any

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
def server(*, is_standby: bool = False) -> Iterator[Postgres]:
    """Skips the test where there is no PostgreSQL, or no driver; a standby takes no writes."""
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
    try:
        with _started([*become, str(programs / "postgres")], data, home, user) as port:
            _ready(port, user, home / "log")
            if not is_standby:
                yield Postgres(port, user)
        if is_standby:
            (data / "standby.signal").touch()
            with _started([*become, str(programs / "postgres")], data, home, user) as port:
                _accepting(port, user, home / "log").close()
                yield Postgres(port, user)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _started(program: Sequence[str], data: Path, home: Path, user: str) -> Iterator[int]:
    """Start the server on a free port; it is ended by its id."""
    port = free_port()
    options = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(home)]
    options += ["-c", "max_connections=30", "-c", "fsync=off"]
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            [*program, *options], stdout=log, stderr=log, cwd="/", start_new_session=True
        )
    try:
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


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


def _ready(port: int, user: str, log: Path) -> None:
    with _accepting(port, user, log) as connection:
        connection.execute("CREATE DATABASE knowledge")


def _accepting(port: int, user: str, log: Path) -> Any:
    """Return a connection to a server that has just been started."""
    import psycopg

    limit = time.monotonic() + START_S
    while True:
        try:
            return psycopg.connect(
                f"postgresql://{user}@127.0.0.1:{port}/postgres", autocommit=True, connect_timeout=20
            )
        except psycopg.OperationalError:
            if time.monotonic() > limit:
                pytest.skip(f"PostgreSQL does not start here:\n{log.read_text(errors='replace')[-1500:]}")
            time.sleep(POLL_S)
