"""Tests that plant a fault, and see that random events bring it to light."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.trial.unittest import SynchronousTestCase

Fault = tuple[str, object, str, object]
"""Words of the breach, or of another one; whose it is that is broken; its name; the fault."""


def add_tests(
    case: type[SynchronousTestCase], faults: Mapping[str, Fault], drive: Callable[[], object]
) -> None:
    """
    Make a test of each fault.

    :param case: what they become a part of.
    :param faults: by what they are, in words.
    :param drive: lets random events happen, and fails with what led to a breach.
    """
    for name, fault in faults.items():
        test = _make_test(name, fault, drive)
        setattr(case, f"test_{name.replace(' ', '_').replace(chr(39), '')}", test)


def _make_test(
    name: str, fault: Fault, drive: Callable[[], object]
) -> Callable[[SynchronousTestCase], None]:
    words, owner, attribute, broken = fault

    def test(self: SynchronousTestCase) -> None:
        self.patch(owner, attribute, broken)
        error = self.assertRaises(AssertionError, drive)
        self.flushLoggedErrors()  # a fault may show in more than one way
        told = str(error).rpartition("last hooks")[2]
        self.assertTrue(any(word in told for word in words.split("|")), told)

    test.__doc__ = f"It is noticed when {name}."
    return test
