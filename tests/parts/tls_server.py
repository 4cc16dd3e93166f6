"""Pages of Ollama or others over plain HTTP or TLS, with certificates of every kind made on the spot."""

import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: What an Ollama without models answers.
PAGES: dict[str, Any] = {
    "/api/version": {"version": "0.12.6"},
    "/api/tags": {"models": []},
    "/api/ps": {"models": []},
}


@dataclass(frozen=True)
class Signed:
    """A certificate and its key; itself an authority where it signs others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, folder: Path, name: str = "server.pem") -> Path:
        """The certificate and its key in one file."""
        path = folder / name
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM) + private)
        return path

    def context(self, folder: Path) -> ssl.SSLContext:
        """What a server needs to speak TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.write(folder))
        return context


def signed(
    *names: str, by: Signed | None = None, authority: bool = False, days: tuple[int, int] = (-2, 2)
) -> Signed:
    """A certificate for names and addresses, valid from and to days from now, self-signed without `by`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    today = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today + dt.timedelta(days=days[0]))
        .not_valid_after(today + dt.timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    return Signed(builder.sign(by.key if by else key, hashes.SHA256()), key)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A handshake that fails is what is under test."""


@contextmanager
def pages(
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    status: int = 200,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    redirect: str = "",
    content: dict[str, Any] = PAGES,
) -> Iterator[int]:
    """A server on a free port, or on `port`, which is yielded.

    `content` are its pages, as JSON; all others are 404. `redirect` sends each to the same one elsewhere.
    """

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def version_string(self) -> str:
            return (headers or {}).get("Server", "")

        def do_GET(self) -> None:
            page = content.get(self.path)
            text = json.dumps(page).encode() if body is None else body
            code = status if page is not None or status != 200 else 404
            self.send_response(308 if redirect else code)
            if redirect:
                self.send_header("Location", f"{redirect}{self.path}")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    class Server(_Server):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, port), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
