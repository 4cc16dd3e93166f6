"""A threaded HTTP server of the standard library whose threads and connections can all be ended."""

import contextlib
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opskit.sandbox.sockets import resets_on_close

POLL_S = 0.02
BACKLOG = 128


class TrackedServer(ThreadingHTTPServer):
    """Serves a socket that is bound already, one thread for each connection, and knows them all."""

    def __init__(self, sock: socket.socket, handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        """Listen on `sock`, which belongs to the server from now on, and accept in a thread."""
        super().__init__(sock.getsockname()[:2], handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        sock.listen(BACKLOG)
        self._lock = threading.Lock()
        self._live: dict[threading.Thread, socket.socket] = {}
        self._acceptor = threading.Thread(target=self._accept, name="sandbox-accept", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Stop accepting, close the listener and break every connection; blocks for one poll at most.

        Handlers notice at their next read or write; `alive` tells which have not yet.
        """
        self.shutdown()
        self._acceptor.join()
        self.server_close()
        with self._lock:
            connections = list(self._live.values())
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def alive(self) -> list[threading.Thread]:
        """List the threads still answering."""
        with self._lock:
            return [thread for thread in self._live if thread.is_alive()]

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; it blocks, although the listener does not."""
        connection, peer = super().get_request()
        connection.setblocking(True)
        return connection, peer

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread that is known."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="sandbox-connection",
            daemon=True,
        )
        with self._lock:
            self._live[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection and forget it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._live.pop(threading.current_thread(), None)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, by RST if it was told so: a half-close would send FIN first."""
        if resets_on_close(request):
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: an answer that breaks off is what a client shall see, not a traceback here."""

    def _accept(self) -> None:
        # Not `handle_request` in a loop: on a non-blocking listener it does not wait at all.
        self.serve_forever(poll_interval=POLL_S)
