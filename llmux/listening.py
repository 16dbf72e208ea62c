"""
Where llmux is to be had: the sockets that it listens on.

They are taken before anything else is done, so that what is wrong with them is said on the
terminal, and are given to the reactor when the service starts.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import tcp, unix
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from llmux.config import Address, Backend, Config
from llmux.errors import CannotListen

_LONGEST_SOCKET_PATH = 100  # bytes; Linux takes 107, others 103
_BACKLOG = 1024  # connections that the kernel may hold while the reactor is busy


@attrs.frozen
class Doors:
    """
    The sockets of one llmux, listening.

    :param clients: where clients are served; one at least.
    :param operators: where the operator's face has sockets of its own.
    :param shared: whether the operator's face is where the clients are served, too.
    :param own_paths: what is to be removed in the end: our own UNIX sockets' files.
    """

    clients: Sequence[socket.socket]
    operators: Sequence[socket.socket] = ()
    shared: bool = False
    own_paths: Sequence[Path] = ()

    def close(self) -> None:
        """Close them, as far as nobody has done so, and remove what belongs to them."""
        for each in (*self.clients, *self.operators):
            each.close()
        for path in self.own_paths:
            with suppress(OSError):  # gone, or not ours to remove; the next start replaces it
                path.unlink()


def open_doors(
    config: Config, inherited: Sequence[tuple[str, socket.socket]] = (), *, chosen: bool = False
) -> Doors:
    """
    Take all sockets.

    Where clients are served: what the command line says, else the sockets of whoever has started
    us, else ``host`` and ``port`` of the configuration.  Where the operator's face is: a socket
    that is handed to us as ``admin``, else ``admin.listen``; and where nothing is said, the
    clients' sockets, if nobody but this machine reaches them.

    :param config: says where.
    :param inherited: sockets that listen already, each with its name.
    :param chosen: whether the command line has said where, so that ``config`` has it from there.
    :raises CannotListen: if an address cannot be had; nothing is left open then.
    """
    operators = [each for name, each in inherited if name == "admin"]
    clients = [each for name, each in inherited if name != "admin"]
    own_paths: list[Path] = []
    try:
        if chosen or not clients:
            for each in clients:
                each.close()
            clients = [_bind_for_clients(config)]
        listen = config.admin.listen
        same = listen == Address(config.host, config.port) and not inherited
        if listen is not None and not operators and not same:
            operators = [_bind_for_operators(listen)]
            own_paths += [] if listen.path is None else [listen.path]
    except BaseException:
        Doors(clients, operators).close()
        raise
    own = bool(operators)
    shared = not (own or config.admin.off) and (same or all(map(is_loopback, clients)))
    return Doors(clients, operators, shared, own_paths)


def _bind_for_clients(config: Config) -> socket.socket:
    try:
        return bind(config.host, config.port)
    except OSError as error:
        raise CannotListen(
            f"{config.host}:{config.port}", error, "choose another one with --host and --port"
        ) from error


def _bind_for_operators(listen: Address) -> socket.socket:
    try:
        if listen.path is not None:
            return bind_unix(listen.path)
        return bind(listen.host, listen.port)
    except OSError as error:
        raise CannotListen(str(listen), error, "choose another one in admin.listen") from error


def bind(host: str, port: int) -> socket.socket:
    """
    Take a TCP address, before anything else is done: a port that is taken is an error at once.

    :param host: an address or a name of this machine; ``""`` or ``0.0.0.0`` for all interfaces.
    :returns: a listening socket.
    :raises OSError: if the address cannot be had.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def bind_unix(path: Path) -> socket.socket:
    """
    Take a UNIX socket that nobody but our own user can connect to.

    A file that a socket has left behind is removed, if nobody listens on it.

    :returns: a listening socket.
    :raises OSError: if it cannot be had.
    """
    if path.is_socket() and not _answers(path):
        path.unlink()
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)  # a mode that is set afterwards would come too late
    try:
        listening.bind(bytes(path))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(before)
    return listening


def open_inner_door(directory: Path) -> tuple[socket.socket, Path]:
    """
    Take the socket at which workers ask what only their parent can answer.

    :param directory: where it is to be, if its path is short enough there for a socket's.
    :returns: a listening socket, and its path.
    :raises OSError: if it cannot be had.
    """
    path = directory / "inner.sock"
    if len(bytes(path)) > _LONGEST_SOCKET_PATH:
        path = Path(tempfile.mkdtemp(prefix="llmux-")) / path.name
    path.unlink(missing_ok=True)  # the lock says that it is nobody's
    return bind_unix(path), path


def _answers(path: Path) -> bool:
    """Tell whether somebody listens on a UNIX socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(bytes(path))
        except ConnectionRefusedError:
            return False
        except OSError:  # as if its queue is full
            pass
        return True


def is_loopback(listening: socket.socket) -> bool:
    """Tell whether nobody but this machine reaches a socket."""
    if listening.family == socket.AF_UNIX:
        return True
    address = ipaddress.ip_address(listening.getsockname()[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address.is_loopback


def address_of(listening: socket.socket) -> str:
    """Say where a socket listens, as a URL or as ``unix:/path``."""
    if listening.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(listening.getsockname())}"
    host, port = listening.getsockname()[:2]
    return Backend(host, port).url


def serve(
    reactor: Any,
    listening: Sequence[socket.socket],
    site: IProtocolFactory,
    *,
    patience: Callable[[], float] | None = None,
) -> Iterator[IListeningPort]:
    """
    Accept connections on sockets, which are the reactor's from now on.

    :param reactor: accepts them.
    :param listening: the sockets; they are closed here, for the reactor has its own handles.
    :param site: serves them.
    :param patience: says how many seconds other processes that accept connections there, too, have
        to take the next one before we do; ``None``: there are no others.
    """
    for each in listening:
        port: IListeningPort
        if each.family == socket.AF_UNIX:
            port = _UnixPort.adopt(reactor, each, site)
        else:
            port = reactor.adoptStreamPort(each.fileno(), each.family, site)
        each.close()
        if patience is not None:
            _make_modest(port, patience)
        yield port


class _UnixPort(unix.Port):
    """
    A UNIX socket that listens already, left as it is.

    Twisted's own would open it to everybody (0666), shorten its queue, and in the end remove its
    file and shut it down for whoever listens on it with us, as systemd does.
    """

    _shouldShutdown = False  # noqa: N815  # Twisted's name

    @classmethod
    def adopt(cls, reactor: Any, listening: socket.socket, site: IProtocolFactory) -> _UnixPort:
        """Accept the connections of a socket."""
        name: Any = listening.getsockname()  # what Twisted makes of it is text, too
        port = cls(name, site, reactor=reactor)
        port._preexistingSocket = listening.dup()
        port.transport = getattr(reactor, "unix_server", unix.Server)
        port.startListening()
        return port

    def startListening(self) -> None:  # noqa: N802  # Twisted's name
        """See :meth:`IListeningPort.startListening`."""
        assert self.factory is not None
        assert self._preexistingSocket is not None
        tcp._reservedFD.reserve()
        self.factory.doStart()
        self.socket, self._preexistingSocket = self._preexistingSocket, None
        self.socket.setblocking(False)
        self.fileno = self.socket.fileno  # type: ignore[method-assign]  # as Twisted itself does it
        self.connected = True
        self.numberAccepts = 100
        self.startReading()  # type: ignore[no-untyped-call]  # Twisted's

    def connectionLost(self, reason: Failure) -> None:
        """Close it; see :meth:`IListeningPort.stopListening`."""
        tcp.Port.connectionLost(self, reason)


class _Modest:
    """
    A port that other processes have, too.

    It takes one connection whenever there is any: Twisted's own takes the more at once the more
    there are, so that a few wake-ups of one process would take all that come together.  And where
    few come, each wakes all processes, of which always the same one would be first; so whoever has
    more than others lets them go first, for a moment.
    """

    patience: Callable[[], float]
    _yielding: IDelayedCall | None = None

    @property
    def numberAccepts(self) -> int:  # noqa: N802  # Twisted's name
        """How many connections it takes at once."""
        return 1

    @numberAccepts.setter
    def numberAccepts(self, number: int) -> None:  # noqa: N802  # Twisted's name
        """Do nothing."""

    def doRead(self) -> None:  # noqa: N802  # Twisted's name
        """Take a connection, now or in a moment, if nobody else takes it."""
        port: Any = self
        patience = self.patience()
        if patience:
            port.stopReading()
            self._yielding = port.reactor.callLater(patience, self._look_again)
        else:
            super().doRead()  # type: ignore[misc]  # a port's

    def connectionLost(self, reason: Failure) -> None:  # Twisted's name
        """Close it; see :meth:`IListeningPort.stopListening`."""
        if self._yielding is not None:
            self._yielding.cancel()
            self._yielding = None
        super().connectionLost(reason)  # type: ignore[misc]  # a port's

    def _look_again(self) -> None:
        """Take the connection that others have left; for the next one they may go first again."""
        port: Any = self
        self._yielding = None
        port.startReading()
        super().doRead()  # type: ignore[misc]  # a port's


def _make_modest(port: Any, patience: Callable[[], float]) -> None:
    """Have a port be a modest one, whatever port it is; Twisted knows no other way."""
    own = type(port)
    port.__class__ = type(f"Modest{own.__name__.lstrip('_')}", (_Modest, own), {})
    port.patience = patience


def is_listening(candidate: socket.socket) -> bool:
    """Tell whether a socket is one that connections can be accepted on."""
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    return (
        candidate.family in families
        and stat.S_ISSOCK(os.fstat(candidate.fileno()).st_mode)
        and candidate.type == socket.SOCK_STREAM
        and bool(candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )
