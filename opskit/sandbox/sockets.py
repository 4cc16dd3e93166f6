"""Loopback sockets in the states a fault needs: bound without listening, and closed by a reset."""

import socket
import struct


def bound_socket(host: str, port: int) -> socket.socket:
    """Bind without listening: the port is taken, and whoever connects is refused.

    Port 0 asks for a free one. The socket does not block.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def reset_on_close(sock: socket.socket) -> None:
    """Make the close of a connection send RST, so that the peer sees a connection reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def url_of(host: str, port: int) -> str:
    """Write the base URL, with brackets around an IPv6 address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def resets_on_close(sock: socket.socket) -> bool:
    """Tell whether `reset_on_close` was called for this connection."""
    on, _ = struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    return bool(on)
