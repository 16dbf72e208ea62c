"""Test cases that are run on each HTTP stack: Twisted's own, and the one on llhttp."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

from llmux.engine.choice import HTTP, STOCK

_Case = TypeVar("_Case", bound=SynchronousTestCase)

NO_LLHTTP = None if find_spec(HTTP.package) else f"{HTTP.package} is not installed"
"""Why tests are skipped that need it, if so."""


def on_each_stack(case: type[_Case]) -> type[_Case]:
    """Have the tests of a class, which is for Twisted's stack, run on the other one, too."""
    name = f"{case.__name__}On{HTTP.name.capitalize()}"
    own = {"http": HTTP.name, "skip": NO_LLHTTP, "__module__": case.__module__}
    other = type(name, (case,), own)
    setattr(sys.modules[case.__module__], name, other)
    case.http = STOCK  # type: ignore[attr-defined]  # what Served asks for
    return case
