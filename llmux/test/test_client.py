"""How backends are connected to: deadlines, names, TLS."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from llmux.config import Backend
from llmux.proxy.client import make_endpoint
from llmux.test.loopback import BackendWire, RawBackend, Served, http_answer, http_post


class EndpointTests(SynchronousTestCase):
    def test_connecting_has_a_deadline(self) -> None:
        """A backend that does not accept a connection is given up."""
        for host in ("127.0.0.1", "::1"):
            memory = MemoryReactorClock()
            make_endpoint(memory, Backend(host, 8001), 7.0).connect(Factory())
            ((found, port, _, timeout, _),) = memory.tcpClients
            self.assertEqual((found, port, timeout), (host, 8001, 7.0))


class TLSTests(TestCase):
    """A backend that speaks HTTPS, with a certificate that nobody has signed."""

    def setUp(self) -> None:
        """Serve over TLS."""
        self.backend = RawBackend(self)
        self.backend.answer = http_answer(b"over TLS")
        self.certificate = make_certificate("localhost")
        factory: Any = Factory.forProtocol(lambda: BackendWire(self.backend))
        port: Any = reactor.listenSSL(  # type: ignore[attr-defined]  # the reactor's
            0, factory, self.certificate.options(), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        self.address = Backend("localhost", port.getHost().port, tls=True)

    async def test_certificate_is_verified(self) -> None:
        """A backend whose certificate cannot be trusted is not sent anything."""
        served = Served(self, {"a": self.address})
        answer = await served.exchange(http_post())
        self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), answer)
        self.assertEqual(self.backend.requests, [])

    async def test_trusted_certificate(self) -> None:
        """A backend with a certificate that the machine trusts is relayed to, twice on one line."""
        trusted = Path(self.mktemp())
        trusted.write_bytes(self.certificate.dumpPEM())
        self.addCleanup(os.environ.pop, "SSL_CERT_FILE", None)
        os.environ["SSL_CERT_FILE"] = str(trusted.absolute())
        served = Served(self, {"a": self.address})
        for _ in range(2):
            self.assertTrue((await served.exchange(http_post())).endswith(b"over TLS"))
        self.assertEqual(len(self.backend.wires), 1)


def make_certificate(name: str) -> PrivateCertificate:
    """Make a certificate that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = private + signed.public_bytes(serialization.Encoding.PEM)
    certificate: PrivateCertificate = PrivateCertificate.loadPEM(pem)
    return certificate
