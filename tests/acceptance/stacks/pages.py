"""A web server that says what a stack needs it to say."""

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OLLAMA = {
    "/api/version": {"version": "0.33.0"},
    "/api/tags": {"models": []},
    "/api/ps": {"models": []},
}


@dataclass(frozen=True)
class Page:
    """A body that is no text is written as JSON."""

    body: Any = ""
    status: int = 200
    headers: Mapping[str, str] | None = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is not under test."""


@contextmanager
def served(
    pages: Mapping[str, Page],
    *,
    otherwise: Page | None = None,
    wait_s: float = 0.0,
    clock: timedelta = timedelta(),
    tls: ssl.SSLContext | None = None,
) -> Iterator[int]:
    """Serve the pages on a free port, each after `wait_s`, by a clock that is off by `clock`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(datetime.now(UTC) + clock, usegmt=True)

        def do_GET(self) -> None:
            time.sleep(wait_s)
            page = pages.get(self.path, otherwise) or Page("404 page not found", 404)
            text = page.body if isinstance(page.body, str) else json.dumps(page.body)
            self.send_response(page.status)
            for name, value in (page.headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_CONNECT = do_GET  # noqa: N815

    with _Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
