"""Leases: given back once, and wanted back at once."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from llmux.lease import Lease, Outcome, Revocation


class LeaseTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Give a lease."""
        self.released: list[tuple[Lease, Outcome]] = []
        self.told: list[Revocation] = []
        self.lease = Lease("a", 7, 1.0, 3.5, lambda *told: self.released.append(told))

    def test_released_once(self) -> None:
        """Only the first release counts, with what it says."""
        self.assertTrue(self.lease.held)
        self.lease.release(Outcome.ABORTED)
        self.lease.release(Outcome.COMPLETE)
        self.assertEqual(self.released, [(self.lease, Outcome.ABORTED)])
        self.assertFalse(self.lease.held)

    def test_revoked_once(self) -> None:
        """Whoever holds it is told that it is wanted back, and only of the first reason."""
        self.lease.on_revoked(self.told.append)
        self.lease.revoke(Revocation.DRAIN_TIMEOUT)
        self.lease.revoke(Revocation.SHUTDOWN)
        self.assertEqual(self.told, [Revocation.DRAIN_TIMEOUT])
        self.assertIs(self.lease.revoked, Revocation.DRAIN_TIMEOUT)
        self.assertTrue(self.lease.held)

    def test_asked_too_late(self) -> None:
        """Whoever asks only after it was wanted back is told at once."""
        self.lease.revoke(Revocation.KILLED)
        self.lease.on_revoked(self.told.append)
        self.assertEqual(self.told, [Revocation.KILLED])

    def test_only_the_last_to_ask(self) -> None:
        """As a request goes on, only the part that is at work now is told."""
        self.lease.on_revoked(lambda why: self.fail("its work is done"))
        self.lease.on_revoked(self.told.append)
        self.lease.revoke(Revocation.KILLED)
        self.assertEqual(self.told, [Revocation.KILLED])

    def test_revoked_too_late(self) -> None:
        """Nobody is told once it has been given back."""
        self.lease.on_revoked(self.told.append)
        self.lease.release()
        self.lease.revoke(Revocation.SHUTDOWN)
        self.assertEqual((self.told, self.lease.revoked), ([], None))
        self.assertEqual(self.released, [(self.lease, Outcome.COMPLETE)])
