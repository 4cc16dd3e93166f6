"""`opskit serve victoria`: the agent as a server."""

from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares
from opskit.errors import OpskitError, UsageError

if TYPE_CHECKING:
    from opskit.app import App

app = typer.Typer(no_args_is_help=True)
_PORT = 8010
#: Longer than clients keep a connection (httpx: 5 s): a request on one that is just being closed is lost.
_KEPT_S = 75
#: For the last answers, once no run is under way.
_LAST_ANSWERS_S = 5


@shares("sandbox", "verbose", json=False, of=app)
def victoria(
    shared: SharedOptions,
    host: Annotated[str, "The address to listen on."] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = _PORT,
    token: Annotated[
        str | None,
        typer.Option(envvar="OPSKIT_SERVE_TOKEN", help="What clients must send as a bearer token."),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Runs that are under way at once.")] = 2,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that runs get to end on SIGTERM.")] = 30.0,
) -> None:
    """Serve Victoria. POST /run, GET /run/status/ID, /run/events/ID, /status, /health, /metrics, /docs."""
    loopback = host in ("localhost", "127.0.0.1", "::1")
    if not loopback and not token:
        raise UsageError(
            f"an address that others can reach ({host}) needs a token",
            remedy="set OPSKIT_SERVE_TOKEN, or listen on 127.0.0.1",
        )
    context.run(_serve(host, port, token, concurrency, drain, shared))


async def _unusable(app: "App", host: str, port: int, error: OSError) -> OpskitError:
    """Return why an address cannot be listened on, with the process that has its port."""
    import errno

    from opskit.facts.port_owner import read_port
    from opskit.system.network import authority

    why = str(error.strerror).partition(" (")[0]
    remedy = "`--host` takes an address of this machine, `--port` one from 1024 on"
    if error.errno == errno.EADDRINUSE:
        holder = (await read_port(app.survey, "tcp", port)).owner
        why = f"{why} by {holder.words}" if holder is not None else why
        remedy = "end it, or take another port with `--port N`"
    return OpskitError("COMM_002", f"{authority(host, port)} cannot be listened on: {why}", remedy=remedy)


async def _serve(
    host: str, port: int, token: str | None, concurrency: int, drain_s: float, shared: SharedOptions
) -> None:
    import asyncio
    import contextlib
    import signal
    import socket
    from collections.abc import Iterator

    try:
        import uvicorn

        from opskit.agent.tools.toolbox import AUDIT_NAME
        from opskit.recovery.audit import Audit
        from opskit.server import victoria as api
        from opskit.server.approvals import Approvals
        from opskit.server.database import SqliteDatabase, open_database
        from opskit.server.errors import loopback_names
        from opskit.server.run_store import RunStore
    except ImportError as error:
        raise OpskitError(
            "CONFIG_001", "the parts of a server are not installed", remedy="`pip install 'opskit[serve]'`"
        ) from error
    from pathlib import Path

    from opskit.system.network import authority, listening_socket

    stop = asyncio.Event()
    # Before the port is open: who sees it open may end the server at once.
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with shared.opened() as app:
        try:
            listener = listening_socket(host, port)
        except OSError as error:
            raise await _unusable(app, host, port, error) from error
        bound = listener.getsockname()[1]
        url = app.environ.get("DATABASE_URL")
        database = open_database(url, Path(app.folder))
        if url and isinstance(database, SqliteDatabase):
            render.note(f"DATABASE_URL names no PostgreSQL: runs are kept in {app.folder / 'runs.db'}")
        store = RunStore(database, f"{host}:{bound}")
        approvals = Approvals(
            store, Audit(app.folder, app.config.log, AUDIT_NAME), app.config.agent.approval_s
        )
        api_server = api.VictoriaServer(app, approvals, concurrency)
        asgi = api.create_app(api_server, token, loopback_names(host), drain_s)

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                """Leave signals to the command: uvicorn would end the process before all is closed."""
                yield

            async def startup(self, sockets: "list[socket.socket] | None" = None) -> None:
                """Look for a signal once it serves: one that came before ends it then."""
                await super().startup(sockets)
                self.stopping = asyncio.create_task(self._stops())

            async def _stops(self) -> None:
                await stop.wait()
                # Its port stays open meanwhile: a server that drains answers, and is not down.
                await api_server.runs.aclose(drain_s)
                self.should_exit = True

        settings = uvicorn.Config(
            asgi, log_level="warning", access_log=False, lifespan="on", server_header=False
        )
        settings.timeout_graceful_shutdown, settings.timeout_keep_alive = _LAST_ANSWERS_S, _KEPT_S
        running = Server(settings)
        render.note(f"victoria listens on http://{authority(host, bound)} (Ctrl-C or SIGTERM ends it)")
        try:
            await running.serve(sockets=[listener])
        finally:
            approvals.close()
