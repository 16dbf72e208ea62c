"""A connection of an HTTP client, whoever reads HTTP on it: what its pool and its user know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse
from zope.interface import Attribute, Interface

from llmux.engine.closing import Closing
from llmux.engine.outgoing import ClientRequest


class IClientResponse(IResponse):
    """An answer with all that its head says."""

    received: Headers = Attribute(
        "All headers, those about its connection and its framing too, as they came."
    )
    was_reset: bool = Attribute(
        "Whether its connection has ended in another way than by being closed."
    )

    def deliverBody(protocol: object) -> None:  # Twisted's
        """See :meth:`IResponse.deliverBody`."""

    def take_whole() -> bytes | None:
        """
        Give the body, if all of it has come along with the head; nobody else gets it then.

        :returns: ``None`` if it is to be had by :meth:`deliverBody` alone.
        """


class IClientConnection(Interface):
    """
    A connection to a server, which serves one request at a time.

    It is made with two callables: one that is called with it when it could be used for another
    request, and one when the server has closed it while nothing was under way.
    """

    transport: Any = Attribute("Its bytes.")
    idle: bool = Attribute("Whether it could be used for a request.")
    closing: Closing = Attribute("When it has ended.")
    was_reset: bool = Attribute("Whether it has ended in another way than by being closed.")
    failed: bool = Attribute("Whether it has ended, and not because we broke it off.")

    def send(
        request: ClientRequest, handing_over: Callable[[IClientConnection], object]
    ) -> Deferred[IClientResponse]:
        """
        Send a request; its answer may begin before all of its body has been sent.

        :param handing_over: called with the connection right before it is handed the request.
        :raises RequestNotSent: by the Deferred, if it cannot be, and has not been.
        """

    def upgrade(
        request: ClientRequest, handing_over: Callable[[IClientConnection], object]
    ) -> Deferred[Switched | IClientResponse]:
        """
        Send a request that asks for another protocol.

        :param request: with its ``Connection`` and ``Upgrade`` headers.
        :param handing_over: see :meth:`send`.
        :returns: what the server made of it: the switch, or an ordinary answer.
        """

    def tunnel(received: Callable[[bytes], None], lost: Callable[[Failure], None]) -> None:
        """
        Hand on what comes after the switch, beginning with what has come already.

        :param received: takes bytes as they come.
        :param lost: called with the reason when the connection has ended.
        """

    def abort() -> object:
        """Close it while nothing is under way; over TLS without the consent that it asks for."""

    def break_off() -> None:
        """Close it at once, whatever is still to be sent."""

    def hang_up() -> None:
        """Break it off in order: what is still to be sent goes out first."""


HandingOver = Callable[[IClientConnection], object]


def unheard(connection: IClientConnection) -> None:
    """Be told of a connection, and do nothing with that."""


@attrs.frozen
class Switched:
    """
    A server's answer that the connection speaks another protocol from now on (101).

    :param connection: on which it came; it is paused.
    :param reason: its reason phrase.
    :param headers: all of them.
    """

    connection: IClientConnection
    reason: bytes
    headers: Headers
