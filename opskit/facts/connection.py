"""A connection that was not accepted: in words, and as a failed call. Pure."""

from opskit.providers.base import CallCause, CallError
from opskit.system.network import TcpResult, authority, endpoint

_CAUSES = {"refused": CallCause.REFUSED, "timeout": CallCause.TIMEOUT, "name": CallCause.NAME}


def connection_problem(url: str, tcp: TcpResult) -> str:
    """Say why an address accepted no connection."""
    host, port = endpoint(url)
    where = authority(host, port)
    return {
        "refused": f"nothing listens on {where}",
        "timeout": f"{where} does not answer within {tcp.seconds:.1f} s (host down, or a firewall)",
        "name": f"the name {host} does not resolve",
    }.get(tcp.problem or "", f"there is no route to {where}")


def not_connected(url: str, tcp: TcpResult) -> CallError:
    """Return the failed call behind a connection with a `problem`."""
    cause = _CAUSES.get(tcp.problem or "", CallCause.UNREACHABLE)
    return CallError(cause, connection_problem(url, tcp), phase="connect")
