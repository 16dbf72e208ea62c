"""The HTTP server's settings: what twisted.web would do by itself and a relay must not."""

from __future__ import annotations

from typing import Any

from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import IResource
from twisted.web.server import Request, Site


class RelayRequest(Request):
    """A request that is passed on as it came."""

    def getRequestHostname(self) -> bytes:
        """
        Give the same name for all: Klein chooses no route by it, but would refuse the request for
        one that it cannot decode.
        """
        return b"llmux"


def make_site(resource: IResource, reactor: Any) -> Site:
    """
    Make the server factory for a resource.

    :param reactor: gives the time-outs of connections.
    """
    site = RelaySite(  # type: ignore[no-untyped-call]  # Twisted's
        resource,
        requestFactory=RelayRequest,
        parsePOSTFormSubmission=False,  # forms are the backend's business
        reactor=reactor,
    )
    site.displayTracebacks = False
    site.noisy = False
    return site


class RelaySite(Site):
    """A site without twisted.web's access log: llmux logs how each request ended."""

    def log(self, request: HTTPRequest) -> None:
        """Write nothing."""
