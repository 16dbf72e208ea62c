"""Tests, and what they are made of."""

from __future__ import annotations

from contextlib import suppress

with suppress(ImportError):  # what is no test, such as random_events, goes without
    from hypothesis import HealthCheck, settings

    # A machine that is busy must not make a test fail.
    settings.register_profile("llmux", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("llmux")
