"""Tests of :mod:`llmux.web.guard`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from llmux.errors import RequestError
from llmux.web.guard import Reach, check

OURS = {b"Host": b"127.0.0.1:3000"}
JSON = {b"Content-Type": b"application/json"}


def status(
    headers: dict[bytes, bytes], method: bytes = b"GET", reach: Reach = Reach.LOOPBACK
) -> int:
    """Give the status that a request is refused with; 0 if it passes."""
    try:
        check(method, Headers({name: [value] for name, value in headers.items()}), reach)
    except RequestError as error:
        return error.status
    return 0


class HostTests(SynchronousTestCase):
    """A page whose name has been pointed at this machine comes to nothing."""

    def test_loopback_names(self) -> None:
        """On loopback this machine is asked for by one of its own names, with any port or none."""
        for host in (
            b"localhost", b"localhost:3000", b"LocalHost:3000", b"llmux.localhost", b"127.0.0.1",
            b"127.0.0.1:3000", b"127.255.0.9:1", b"[::1]", b"[::1]:3000", b"[0:0:0:0:0:0:0:1]:3000",
            b"localhost:",
        ):  # fmt: skip
            self.assertEqual(status({b"Host": host}), 0, host)

    def test_other_names(self) -> None:
        """On loopback every other name is refused, however much it looks like one of them."""
        for host in (
            b"evil.example", b"evil.example:3000", b"localhost.evil.example", b"127.0.0.1.nip.io",
            b"notlocalhost", b"localhost@evil.example", b"evil.example@localhost", b"128.0.0.1",
            b"0.0.0.0", b"192.168.1.2:3000", b"[::2]", b"[::]", b"[fe80::1]", b"::1", b"127.1",
            b"2130706433", b"0x7f.0.0.1", b"127.0.0.1:3000:3000", b"127.0.0.1:x", b"[::1", b"",
            b":3000", b"localhost.", b"localhost evil", b"localhost/", b"\xff", b"[127.0.0.1]",
        ):  # fmt: skip
            self.assertEqual(status({b"Host": host}), 403, host)

    def test_no_host(self) -> None:
        """On loopback a request that says no Host is refused, too; browsers always say it."""
        self.assertEqual(status({}), 403)

    def test_elsewhere(self) -> None:
        """Over a UNIX socket, and from the network, the name does not matter."""
        for reach in (Reach.SOCKET, Reach.NETWORK):
            for host in (b"gpu.example", b"localhost", b"", b"192.168.1.2:3001"):
                self.assertEqual(status({b"Host": host}, reach=reach), 0, host)


class PageTests(SynchronousTestCase):
    """What browsers say about where a page comes from is believed."""

    def test_foreign_origins(self) -> None:
        """A page of any other scheme, host or port is refused, wherever this is."""
        for origin in (
            b"http://evil.example", b"https://127.0.0.1:3000", b"http://127.0.0.1",
            b"http://127.0.0.1:3001", b"http://localhost:3000", b"null", b"", b"127.0.0.1:3000",
            b"http://127.0.0.1:3000/", b"http://127.0.0.1:3000 http://evil.example", b"file://",
            b"http://127.0.0.1:3000.evil.example",
        ):  # fmt: skip
            for reach in Reach:
                for method in (b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS"):
                    said = {**OURS, **JSON, b"Origin": origin}
                    self.assertEqual(status(said, method, reach), 403, origin)

    def test_own_origin(self) -> None:
        """The very address that the request was sent to is not foreign."""
        for host in (b"127.0.0.1:3000", b"localhost", b"[::1]:3000"):
            self.assertEqual(status({b"Host": host, b"Origin": b"http://" + host}), 0, host)
        self.assertEqual(status({b"Host": b"LOCALHOST", b"Origin": b"http://localhost"}), 0)

    def test_no_host_has_no_origin(self) -> None:
        """An origin is foreign where the request does not say what it was sent to."""
        self.assertEqual(status({b"Host": b"", b"Origin": b"http://"}, reach=Reach.NETWORK), 403)

    def test_two_origins(self) -> None:
        """One of two origins that is foreign is enough."""
        headers = Headers({b"Host": [b"localhost"], b"Origin": [b"http://localhost", b"null"]})
        with self.assertRaises(RequestError):
            check(b"GET", headers, Reach.LOOPBACK)

    def test_fetch_metadata(self) -> None:
        """A browser that says that another site asks is refused; a user who typed it is not."""
        for site, expected in (
            (b"none", 0), (b"same-origin", 0), (b"cross-site", 403), (b"same-site", 403),
            (b"", 403), (b"something-new", 403),
        ):  # fmt: skip
            for reach in Reach:
                said = {**OURS, b"Sec-Fetch-Site": site}
                self.assertEqual(status(said, reach=reach), expected, site)


class ContentTypeTests(SynchronousTestCase):
    """No page can send JSON elsewhere without asking first."""

    def test_json(self) -> None:
        """An order is sent as JSON, with whatever parameters."""
        for kind in (b"application/json", b"Application/JSON ; charset=utf-8"):
            self.assertEqual(status({**OURS, b"Content-Type": kind}, b"POST"), 0, kind)

    def test_anything_else(self) -> None:
        """What a form or a simple script could send is refused with what to send."""
        for method in (b"POST", b"DELETE"):
            self.assertEqual(status(OURS, method), 415)
            self.assertEqual(status({**OURS, **JSON}, method), 0)
        for kind in (
            b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x",
            b"", b"application/jsonp", b"text/plain; application/json", b"application/ json",
            b"application/json, text/plain",
        ):  # fmt: skip
            self.assertEqual(status({**OURS, b"Content-Type": kind}, b"POST"), 415, kind)
        with self.assertRaisesRegex(RequestError, "Content-Type: application/json"):
            check(b"POST", Headers({b"Host": [b"localhost"]}), Reach.LOOPBACK)

    def test_two_types(self) -> None:
        """A request that says twice what it holds is refused."""
        types = [b"application/json", b"text/plain"]
        headers = Headers({b"Host": [b"localhost"], b"Content-Type": types})
        with self.assertRaises(RequestError):
            check(b"POST", headers, Reach.LOOPBACK)

    def test_reading(self) -> None:
        """Whoever only reads needs no type."""
        self.assertEqual(status({**OURS, b"Content-Type": b"text/plain"}), 0)
