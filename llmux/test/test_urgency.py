"""Tests of :mod:`llmux.urgency`, and of the order that comes of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from llmux.clock import VirtualClock
from llmux.test.fakes import model_config
from llmux.test.switching import Bench, Client
from llmux.urgency import BATCH, BATCH_SECS, CLASSES, ORDINARY, PRIORITY_SECS, Urgency
from llmux.waiting import Waiter, WaitingRoom

urgencies = st.builds(Urgency, st.sampled_from(CLASSES), st.integers(-9, 9))


class UrgencyTests(SynchronousTestCase):
    def test_header(self) -> None:
        """A client says a class, and perhaps a priority."""
        for value, right in {
            b"interactive": ORDINARY,
            b" Batch ": Urgency(BATCH),
            b"batch;priority=2": Urgency(BATCH, 2),
            b"interactive; priority=-9": Urgency(priority=-9),
        }.items():
            self.assertEqual(Urgency.from_header(value), right)

    def test_bad_header(self) -> None:
        """What is no such thing is refused with a word on what would be."""
        for value in (b"", b"bulk", b"batch;priority=10", b"batch;priority=1.5", b"batch;x=1",
                      b"batch, batch", b"priority=3", b"batch;priority=", b"\xff"):  # fmt: skip
            error = self.assertRaises(ValueError, Urgency.from_header, value)
            self.assertIn("interactive or batch", str(error))

    @given(st.binary(max_size=40))
    def test_any_header(self, value: bytes) -> None:
        """Whatever a client sends, it is taken or refused."""
        try:
            urgency = Urgency.from_header(value)
        except ValueError:
            return
        self.assertIn(urgency.kind, CLASSES)
        self.assertLessEqual(abs(urgency.priority), 9)

    @given(urgencies)
    def test_written(self, urgency: Urgency) -> None:
        """What is written is read as the same."""
        self.assertEqual(Urgency.from_header(str(urgency).encode("ascii")), urgency)

    @given(urgencies, urgencies)
    def test_class_before_priority(self, one: Urgency, other: Urgency) -> None:
        """Of two that come together, the interactive one goes first, else the higher priority."""
        if one.kind != other.kind:
            self.assertEqual(one.delay < other.delay, other.kind == BATCH)
        else:
            self.assertEqual(one.delay < other.delay, one.priority > other.priority)


class OrderTests(SynchronousTestCase):
    @given(st.lists(st.tuples(st.sampled_from((0, 1, 20, 200)), urgencies), max_size=30))
    def test_bounds(self, arrivals: list[tuple[float, Urgency]]) -> None:
        """Nobody is passed by one that came later than the documented bounds allow."""
        clock = VirtualClock()
        room = WaitingRoom(clock, None, lambda waiter, timed_out: None, lambda: 1)
        waiters: list[Waiter] = []
        for number, (seconds, urgency) in enumerate(arrivals):
            clock.advance(seconds)
            waiters.append(room.add(number, urgency))
        order = []
        while room:
            order += room.take(2)
        self.assertCountEqual(order, waiters)
        for later, waiter in enumerate(order):
            for other in order[:later]:
                steps = other.urgency.priority - waiter.urgency.priority
                kinds = (waiter.urgency.kind == BATCH) - (other.urgency.kind == BATCH)
                bound = kinds * BATCH_SECS + steps * PRIORITY_SECS
                self.assertLessEqual(other.arrived - waiter.arrived, bound)

    def test_places(self) -> None:
        """A place that gets free goes to whoever is in the greatest hurry."""
        bench = Bench([model_config("a", max_concurrency=1)])
        first = bench.wake("a")
        urgencies = (Urgency(BATCH, 9), Urgency(BATCH), ORDINARY, Urgency(priority=1))
        clients = [
            Client(bench, "a", bench.switcher.acquire("a", urgency)) for urgency in urgencies
        ]
        self.assertEqual(
            [bench.switcher.waiting_before(client.waiting) for client in clients], [2, 3, 1, 0]
        )
        first.finish()
        for client in (clients[3], clients[2], clients[0]):
            client.finish()
        self.assertEqual([client.order for client in clients], [4, 5, 3, 2])

    def test_ageing(self) -> None:
        """A batch request that has waited for long goes before an interactive one that comes."""
        bench = Bench([model_config("a", max_concurrency=1)])
        first = bench.wake("a")
        batch = Client(bench, "a", bench.switcher.acquire("a", Urgency(BATCH)))
        bench.clock.advance(BATCH_SECS + 1)
        later = bench.request("a")
        first.finish()
        self.assertEqual((batch.order, later.order), (2, 0))

    def test_model(self) -> None:
        """What is not said of a request, the configuration says of its model."""
        bench = Bench([model_config("a", kind=BATCH, max_concurrency=1)])
        bench.wake("a")
        model = bench.switcher.models["a"]
        self.assertEqual((model.leases, model.batch_leases), (1, 1))
        batch = bench.request("a")
        urgent = Client(bench, "a", bench.switcher.acquire("a", ORDINARY))
        self.assertEqual(list(model.views()), ["interactive", "batch"])
        next(iter(model.held)).release()
        self.assertEqual((batch.order, urgent.order, model.batch_leases), (0, 2, 0))

    def test_place_is_kept(self) -> None:
        """A request whose lease was of no use waits at its old place, as urgent as it was."""
        bench = Bench([model_config("a", max_concurrency=1)])
        bench.wake("a").finish()
        batch = Client(bench, "a", bench.switcher.acquire("a", Urgency(BATCH, 1)))
        second = Client(bench, "a", bench.switcher.acquire("a", Urgency(BATCH)))
        urgent = bench.request("a")
        again = batch.is_refused()
        waiting = [each.waiting for each in (urgent, again, second)]
        self.assertEqual([bench.switcher.waiting_before(each) for each in waiting], [0, 1, 2])
