"""What operators are told, and what becomes of their orders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from llmux.config import Config
from llmux.hooks.contract import Hook
from llmux.lease import Outcome
from llmux.operator import IOperator, OrderRefused
from llmux.orders import Kind
from llmux.service import App, build_app
from llmux.status import Status
from llmux.test.fakes import model_config
from llmux.test.statuses import MODEL, STATUS, SWITCH, faults
from llmux.test.switching import Bench


class StatusTests(SynchronousTestCase):
    """The parts of the status document that are about models."""

    def setUp(self) -> None:
        """Make a bench with an alive for each model."""
        self.bench = Bench(alive=frozenset({"a", "b"}))

    def status(self) -> Status:
        """Look at what is so now; its shape is always right."""
        status = Status(self.bench.switcher, self.bench.clock.seconds())
        self.assertEqual(faults(status.models(), [MODEL], "models"), [])
        self.assertEqual(faults(status.switch(), SWITCH, "switch"), [])
        self.assertEqual(faults(status.switches(), [SWITCH], "switches"), [])
        self.assertEqual(faults(status.orders(), STATUS["orders"], "orders"), [])
        self.assertEqual(faults(status.pairs(), STATUS["costs"]["pairs"], "pairs"), [])  # type: ignore[index]  # a mapping
        return status

    def phase(self) -> tuple[object, ...]:
        """Say how far the switch is, since when, and why it happens."""
        switch = self.status().switch()
        assert switch is not None
        return switch["phase"], switch["phase_since_secs"], switch["why"]

    def test_phases(self) -> None:
        """A switch is told step by step, with its reason and how long each takes."""
        bench = self.bench
        client = bench.wake("a")
        waiting = bench.request("b")
        bench.request("b")
        bench.clock.advance(3)
        self.assertEqual(self.phase(), ("draining", 3.0, "2 requests wait for b"))
        waiting.leave()
        client.finish(Outcome.ABORTED)
        self.assertEqual(self.phase(), ("settling", 3.0, "1 request waits for b"))
        bench.clock.advance(2)
        self.assertEqual(self.phase()[:2], ("sleeping", 1.0))
        bench.exit()
        bench.clock.advance(1)
        self.assertEqual(self.phase()[:2], ("waking", 1.0))
        bench.exit(1)
        self.assertEqual(self.phase()[:2], ("cleaning_up", 0.0))
        bench.exit()
        self.assertIsNone(self.status().switch())

    def test_waiters(self) -> None:
        """Who waits is told with how long, the oldest first."""
        self.bench.request("a")
        self.bench.clock.advance(2)
        self.bench.request("a")
        (a, _) = self.status().models()
        waiters = {"count": 2, "oldest_secs": 2.0, "ages_secs": [2.0, 0.0]}
        self.assertEqual((a["state"], a["waiters"]), ("waking", waiters))

    def test_hooks(self) -> None:
        """The last run of each hook is told: how it went, or that it is running."""
        bench = self.bench
        bench.request("a")
        bench.clock.advance(2)
        hooks = self.status().models()[0]["hooks"]
        assert isinstance(hooks, dict)
        self.assertEqual((hooks["wake"]["result"], hooks["wake"]["duration_secs"]), ("running", 2))
        bench.hooks.running[0].exit(3, "loading\nno memory")
        bench.exit()
        bench.clock.advance(1)
        hooks = self.status().models()[0]["hooks"]
        assert isinstance(hooks, dict)
        wake = hooks["wake"]
        self.assertEqual((wake["result"], wake["how"]), ("failed", "exited with status 3"))
        self.assertEqual(wake["last_lines"], ["loading", "no memory"])
        self.assertEqual((wake["ended_secs_ago"], wake["reason"]), (1.0, "request"))
        self.assertEqual(hooks["sleep"]["result"], "success")

    def test_back_off(self) -> None:
        """How long a model is left alone is told in seconds."""
        self.bench.request("a")
        self.bench.answer(1, 0)
        self.bench.clock.advance(0.5)
        back_off = {"wake_secs": 1.5, "sleep_secs": 0.0, "failures": 1}
        self.assertEqual(self.status().models()[0]["back_off"], back_off)

    def test_health(self) -> None:
        """Whether alive agrees is told, or that it never has."""

        def health() -> object:
            found = self.status().models()[0]["health"]
            assert isinstance(found, dict)
            return found["alive"]

        self.assertEqual(health(), "unproven")
        client = self.bench.wake("a")
        self.assertEqual(health(), "agrees")
        client.is_refused()
        self.assertEqual(health(), "disagrees")

    def test_orders(self) -> None:
        """Orders that wait for their turn are told."""
        self.bench.request("a")
        self.bench.switcher.order(Kind.SLEEP, "a")
        self.bench.clock.advance(4)
        expected = [{"order": "sleep", "model": "a", "waiting_secs": 4.0}]
        self.assertEqual(self.status().orders(), expected)


class OperatorTests(TestCase):
    """A real operator, with real hooks."""

    def build(self, **hooks: str) -> App:
        """Build an app with one model."""
        directory = Path(self.mktemp()).absolute()
        scripts = {"wake": "echo waking", "sleep": "echo sleeping", **hooks}
        config = Config(models={"a": model_config("a", **scripts)}, state_dir=directory)
        return build_app(config, reactor)

    async def refusal(self, order: Deferred[Any]) -> OrderRefused:
        """Give what an order fails with."""
        refused: Deferred[Any] = self.assertFailure(order, OrderRefused)
        error = await refused
        assert isinstance(error, OrderRefused)
        return error

    def test_interface(self) -> None:
        """It is what the operator's face asks for."""
        self.assertTrue(verifyObject(IOperator, self.build().operator))

    async def test_orders(self) -> None:
        """What was ordered is done, and the whole status is as it is documented."""
        app = self.build()
        operator = app.operator
        self.assertIn("a is awake, after", await operator.wake("a"))
        status = operator.status()
        self.assertEqual(faults(status), [])
        self.assertEqual(status["phase"], "serving")
        self.assertIn("a is asleep, after", await operator.sleep("a"))
        self.assertEqual(operator.output("a", Hook.WAKE.value), "waking\n")
        await app.stop()

    async def test_order_that_fails(self) -> None:
        """What was tried and failed is a 503 that says why."""
        app = self.build(wake="exit 7")
        refused = await self.refusal(app.operator.wake("a"))
        self.assertEqual(
            (refused.status, str(refused)), (503, "the wake hook exited with status 7")
        )
        await app.stop()

    async def test_other_names(self) -> None:
        """An order may call a model as clients do, but not by what several share."""
        models = {
            "a": model_config("a", aliases=("gpt-4o",)), "b": model_config("b"),
        }  # fmt: skip
        shared = {"any": ("a", "b"), "one": ("b",)}
        config = Config(models=models, first_awake=shared, state_dir=Path(self.mktemp()))
        operator = build_app(config, reactor).operator
        self.assertEqual(await operator.pin("gpt-4o"), "a is pinned")
        self.assertEqual(await operator.pin("one"), "b is pinned")
        refused = await self.refusal(operator.pin("any"))
        self.assertEqual(
            (refused.status, str(refused)), (404, "any is any of a, b; say which of them")
        )

    async def test_order_that_cannot_be(self) -> None:
        """At the end, and for models and hooks that there are not, it is said so."""
        app = self.build()
        unknown = await self.refusal(app.operator.sleep("b"))
        self.assertEqual((unknown.status, str(unknown)), (404, "There is no model b; there are: a"))
        no_hook = self.assertRaises(OrderRefused, app.operator.output, "a", "kill")
        self.assertEqual((no_hook.status, str(no_hook)), (404, "a has no kill hook"))
        await app.stop()
        late = await self.refusal(app.operator.wake("a"))
        self.assertEqual(late.status, 409)

    async def test_reload_without_a_file(self) -> None:
        """A program that has read no file is told that there is none to read again."""
        app = self.build()
        refused = await self.refusal(app.operator.reload())
        self.assertEqual(refused.status, 400)
        await app.stop()
