"""A connection that was not accepted, as a failed call."""

from collections.abc import Mapping

from opskit.providers.base import CallCause, CallError
from opskit.system.network import TcpResult, endpoint

_CAUSES: Mapping[str, tuple[CallCause, str]] = {
    "refused": (CallCause.REFUSED, "nothing listens on {where}"),
    "timeout": (CallCause.TIMEOUT, "{where} does not accept a connection"),
    "name": (CallCause.NAME, "the name {host} does not resolve"),
    "unreachable": (CallCause.UNREACHABLE, "there is no route to {where}"),
}


def not_connected(url: str, tcp: TcpResult) -> CallError:
    """Return the failed call behind a connection with a `problem`. Pure."""
    host, port = endpoint(url)
    cause, text = _CAUSES[tcp.problem or "unreachable"]
    return CallError(cause, text.format(host=host, where=f"{host}:{port}"), phase="connect")
