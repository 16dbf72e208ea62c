"""What becomes of somebody who waits while another model is asked more than it can answer."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from llmux.simulate.hooks import HookCosts
from llmux.simulate.replay import Setup, config_of, simulate
from llmux.simulate.trace import Row

_COMES, _ENDS = 160.0, 3020.0  # the one who waits, and the crowd; in seconds


class OverloadTests(SynchronousTestCase):
    """Balanced regret bounds how long it stays, though the drain grows while it does."""

    def test_overdue(self) -> None:
        """Whoever waits for another model is served before the crowd is."""
        self.assertLess(self.left_after(), _ENDS - _COMES)

    def test_promise(self) -> None:
        """Who has a promise that cannot be kept has waited for less by then."""
        self.assertLess(self.left_after(60.0), self.left_after() / 2)

    def left_after(self, promise: float | None = None) -> float:
        """Say for how long somebody has waited when the crowded model begins to leave."""
        crowd = [Row("a", 200, 1000, arrived_at=20 + each / 1.5) for each in range(4500)]
        single = [Row("b", 100, 50, arrived_at=at) for at in (1.0, _COMES)]
        trace = tuple(sorted((*crowd, *single), key=lambda row: row.arrived_at or 0.0))
        config = config_of(trace)
        models = {
            name: attrs.evolve(model, max_wait_secs=promise)
            for name, model in config.models.items()
        }
        setup = Setup(attrs.evolve(config, models=models), HookCosts(10.0))
        run = simulate(setup, trace, "balanced")
        drains = [s.began for s in run.spans if s.model == "a" and s.state.value == "draining"]
        return min(began for began in drains if began >= _COMES) - _COMES
