"""Where does a gateway listen, with what does it speak TLS there, and what are the URLs?"""

from __future__ import annotations

import errno
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsgateway.addresses import authority
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.limits import BACKLOG
from wsgateway.listener.server import bind

if TYPE_CHECKING:
    import socket

    from wsgateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Ports:
    """The bound sockets.

    Attributes:
        public: For clients, and for everything else when there is no management port.
        management: Empty without a management port.
    """

    public: list[socket.socket]
    management: list[socket.socket]

    def listen(self, settings: Settings) -> None:
        """Begin to listen.

        Raises:
            OperatorFaults: Somebody else has begun to. The ports are closed.
        """
        for name, sockets in (("port", self.public), ("management_port", self.management)):
            try:
                for bound in sockets:
                    bound.listen(BACKLOG)
            # Two processes can bind a port with SO_REUSEADDR until one of them listens.
            except OSError as error:
                fault = _port_fault(settings.place(name), authority_of(sockets), error)
                self.close()
                raise OperatorFaults([fault]) from error

    def close(self) -> None:
        """Let go of them."""
        for bound in (*self.public, *self.management):
            bound.close()


def bind_ports(settings: Settings) -> Ports:
    """Bind the ports that the settings name.

    Raises:
        OperatorFaults: One is taken, or an address is not this machine's.
    """
    faults: list[Fault] = []
    public = _bind("port", settings.host, settings.port, settings, faults)
    management: list[socket.socket] = []
    if settings.management_port is not None:
        host = settings.management_host or settings.host
        management = _bind("management_port", host, settings.management_port, settings, faults)
    ports = Ports(public, management)
    if faults:
        ports.close()
        raise OperatorFaults(faults)
    return ports


def _bind(
    name: str, host: str, port: int, settings: Settings, faults: list[Fault]
) -> list[socket.socket]:
    try:
        return bind(host, port)
    # A host that no name can be is a ValueError.
    except (OSError, ValueError) as error:
        faults.append(_port_fault(settings.place(name), f"{host}:{port}", error))
        return []


def _port_fault(place: str, address: str, error: OSError | ValueError) -> Fault:
    number = error.errno if isinstance(error, OSError) else None
    remedy = {
        errno.EADDRINUSE: "stop what uses it, or choose another",
        errno.EACCES: "choose one from 1024 up, or run with the right to use it",
    }.get(number or 0, "name an address of this machine")
    reason = getattr(error, "strerror", None) or error
    return Fault(place, f"cannot listen on {address}: {reason}", remedy)


def callback_url(settings: Settings, ports: Ports, path: str) -> str:
    """Return the URL of a path on the port that serves callbacks."""
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://{authority_of(ports.management or ports.public)}/{path}"


def authority_of(sockets: list[socket.socket]) -> str:
    """Return host and port of URLs."""
    host, port = sockets[0].getsockname()[:2]
    return authority(host, port)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return what the listeners speak TLS with, if they shall.

    Raises:
        OperatorFaults: Certificate or key cannot be used.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None or key is None:
        return None
    faults = []
    for name, file in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            file.read_bytes()
        except OSError as error:
            problem = f"{file} cannot be read: {error.strerror}"
            faults.append(Fault(settings.place(name), problem, "name a PEM file"))
    if faults:
        raise OperatorFaults(faults)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # DG websocket-api-ciphers: TLS 1.2 or 1.3 only.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # The password of a locked key would be asked for on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        problem = f"{certificate} and {key} cannot be used: {error.reason or error}"
        remedy = "name a PEM certificate and its key, without a password"
        raise OperatorFaults([Fault(settings.place("tls_certificate"), problem, remedy)]) from error
    return context
