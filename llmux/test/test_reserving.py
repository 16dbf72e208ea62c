"""Tests of :mod:`llmux.reserving`: room for those who are no models, in a switcher at work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from llmux.budget import Budget
from llmux.config import ModelConfig
from llmux.hooks.contract import Hook
from llmux.journal import Memory
from llmux.orders import Kind, OrderFailed
from llmux.reservation import Reservation, ReservationEnded, ReservationRefused
from llmux.test.fakes import model_config
from llmux.test.switching import Bench

TWO = {"gpu0": 24.0, "gpu1": 24.0}


def on(name: str, gpu: str, amount: float = 20.0, **more: Any) -> ModelConfig:
    """Make a model that takes something of a GPU."""
    return model_config(name, needs=({gpu: amount},), **more)


class ReservationTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a machine of two GPUs, with a model for each, and a small one."""
        models = [on("a", "gpu0"), on("b", "gpu1"), on("small", "gpu0", 4.0)]
        self.bench = Bench(models, resources=TWO)
        self.told: list[str] = []

    def reserve(self, needs: Mapping[str, float], ttl: float = 60.0) -> Reservation:
        """Ask for room; what becomes of it is noted."""
        reservation = self.bench.switcher.reservations.make(needs, ttl, "training")
        reservation.granted.addCallbacks(
            lambda _: self.told.append("held"),
            lambda failure: self.told.append(str(failure.value) or failure.type.__name__),
        )
        return reservation

    def end(self, model: str, hook: Hook = Hook.SLEEP, code: int = 0) -> None:
        """End a hook."""
        (running,) = [
            each
            for each in self.bench.hooks.running
            if (each.call.model, each.call.hook) == (model, hook)
        ]
        running.exit(code)

    def wake(self, model: str) -> None:
        """Have a model awake, with nothing in flight."""
        self.bench.wake(model).finish()

    def test_free_room(self) -> None:
        """What is free is held at once, and no hook runs."""
        reservation = self.reserve({"gpu0": 24.0})
        self.assertEqual((self.told, reservation.held), (["held"], True))
        self.assertEqual(self.bench.hooks.calls, [])
        self.assertEqual(self.bench.switcher.used()["gpu0"], 24.0)

    def test_drains_what_is_in_the_way(self) -> None:
        """Who is in the way is drained and put to sleep; what is not, goes on."""
        client = self.bench.wake("a")
        self.wake("b")
        self.reserve({"gpu0": 20.0})
        states = {"a": "draining", "b": "awake", "small": "asleep"}
        self.assertEqual(self.bench.states(), states)
        self.assertEqual(self.told, [])
        client.finish()
        self.assertEqual(self.told, [], "not before it sleeps")
        self.end("a")
        self.assertEqual(self.told, ["held"])
        self.assertIsNotNone(self.bench.request("b").lease, "b is served all the time")

    def test_held_room_is_nobody_elses(self) -> None:
        """While it is held no model comes there; one that fits beside it does, and waits not."""
        self.reserve({"gpu0": 20.0})
        waiting, small = self.bench.request("a"), self.bench.request("small")
        self.assertEqual(self.bench.hooks.names(), ["wake small"])
        self.bench.exit()
        self.assertIsNotNone(small.lease)
        self.assertIsNone(waiting.error or waiting.lease)

    def test_given_back(self) -> None:
        """When it is given back, whoever waited for the room is served."""
        reservation = self.reserve({"gpu0": 24.0})
        waiting = self.bench.request("a")
        self.assertEqual(self.bench.hooks.calls, [])
        self.bench.switcher.reservations.give_back(reservation.id)
        self.end("a", Hook.WAKE)
        self.assertIsNotNone(waiting.lease)
        self.assertRaises(KeyError, self.bench.switcher.reservations.give_back, reservation.id)

    def test_runs_out(self) -> None:
        """One that is not renewed ends by itself; a renewal begins its time anew."""
        reservation = self.reserve({"gpu0": 24.0}, ttl=10.0)
        self.bench.request("a")
        self.bench.clock.advance(9)
        self.bench.switcher.reservations.renew(reservation.id)
        self.bench.clock.advance(9)
        self.bench.switcher.reservations.renew(reservation.id, 30.0)
        self.bench.clock.advance(29)
        self.assertEqual(self.bench.hooks.calls, [])
        self.bench.clock.advance(1)
        self.assertEqual(self.bench.hooks.names(), ["wake a"])
        self.assertRaises(KeyError, self.bench.switcher.reservations.renew, reservation.id)

    def test_waits_for_its_turn(self) -> None:
        """Its time begins when it holds, however long it has waited."""
        client = self.bench.wake("a")
        reservation = self.reserve({"gpu0": 20.0}, ttl=5.0)
        self.bench.clock.advance(100)
        self.assertFalse(reservation.held)
        client.finish()
        self.end("a")
        self.bench.clock.advance(4)
        self.assertIn(reservation.id, self.bench.switcher.reservations.all)

    def test_withdrawn(self) -> None:
        """Whoever goes while it waits takes it back, and who was drained for it stays."""
        self.bench.wake("a")
        self.reserve({"gpu0": 20.0}).granted.cancel()
        self.assertEqual(self.bench.states()["a"], "awake")
        self.assertEqual(self.told, ["CancelledError"])
        self.assertEqual(dict(self.bench.switcher.reservations.all), {})

    def test_withdrawn_too_late(self) -> None:
        """Past the point of no return its room is free for whoever comes next."""
        self.wake("a")
        reservation = self.reserve({"gpu0": 20.0})
        reservation.granted.cancel()
        waiting = self.bench.request("a")
        self.end("a")
        self.end("a", Hook.WAKE)
        self.assertIsNotNone(waiting.lease)

    def test_stubborn_model(self) -> None:
        """If who is in the way would not sleep, whoever asked is told, and all goes on."""
        self.wake("a")
        self.reserve({"gpu0": 20.0})
        self.end("a", code=1)
        self.end("a", code=1)
        self.assertEqual(len(self.told), 1)
        self.assertIn("a did not go to sleep: the sleep hook exited with status 1", self.told[0])
        self.assertIsNotNone(self.bench.request("a").lease)

    def test_refused(self) -> None:
        """What makes no sense, or can never be, is refused with the reason."""
        for needs, wrong, words in (
            ({}, True, "nothing is asked for"),
            ({"gpu0": 0.0}, True, "nothing is asked for"),
            ({"gpu7": 1.0}, True, "no resource gpu7; there are: gpu0, gpu1"),
            ({"gpu0": float("nan")}, True, "an amount is a number"),
            ({"gpu0": 25.0}, False, "no room for 25 of gpu0: all that there is, is 24"),
        ):
            error = self.assertRaises(ReservationRefused, self.reserve, needs)
            self.assertEqual(error.wrong, wrong)
            self.assertIn(words, str(error))
        for ttl in (0.0, 1e9):
            error = self.assertRaises(ReservationRefused, self.reserve, {"gpu0": 1.0}, ttl)
            self.assertIn("a time to live is a number of seconds from 1 to 86400", str(error))

    def test_pinned(self) -> None:
        """Nobody who is pinned goes for it."""
        self.wake("a")
        self.bench.switcher.pin("a", True)
        error = self.assertRaises(ReservationRefused, self.reserve, {"gpu0": 20.0})
        self.assertIn("beside what is pinned: a", str(error))
        self.reserve({"gpu0": 4.0})
        self.assertEqual(self.told, ["held"])

    def ended(self) -> list[str]:
        """Say what is in the log of why reservations have ended."""
        return [event["cause"] for event in self.bench.events.named("reservation_ended")]

    def test_pinned_while_it_waits(self) -> None:
        """One of which nothing can come any more ends, and the log says so."""
        self.bench.wake("a")
        self.reserve({"gpu0": 20.0})
        self.bench.switcher.pin("a", True)
        self.assertEqual(self.told, ["there is no room for it beside what is pinned: a"])
        self.assertEqual(self.ended(), self.told)

    def test_comes_before_requests(self) -> None:
        """A switch for a request that is in its way, and can be called off, is."""
        self.bench = Bench([on("a", "gpu0"), on("rival", "gpu0")], resources={"gpu0": 24.0})
        client = self.bench.wake("a")
        self.bench.request("rival")
        self.assertEqual(self.bench.states()["a"], "draining")
        self.reserve({"gpu0": 20.0})
        (off,) = self.bench.events.named("switch_called_off")
        self.assertEqual(off["reason"], "a reservation comes first")
        client.finish()
        self.end("a")
        self.assertEqual(self.told, ["held"])

    def test_less_than_there_was(self) -> None:
        """So it is if another configuration has less, whatever is pinned."""
        self.bench.wake("a")
        self.reserve({"gpu0": 24.0})
        configs = {name: model.config for name, model in self.bench.switcher.models.items()}
        self.bench.switcher.reconfigure(configs, Budget.of({"gpu0": 22.0, "gpu1": 24.0}))
        (told,) = self.told
        self.assertIn("there is no room for it: there is less than it takes", told)
        self.assertEqual(self.ended(), self.told)

    def test_one_slot(self) -> None:
        """Where no resources are named nothing else can be reserved than all that there is."""
        bench = Bench()
        make = bench.switcher.reservations.make
        self.assertIn("no resources", str(self.assertRaises(ReservationRefused, make, {"a": 1}, 9)))
        bench.wake("a").finish()
        reservation = make(None, 9.0)
        bench.hooks.running[0].exit(0)
        self.assertTrue(reservation.held)
        bench.request("b")
        self.assertEqual(bench.hooks.running, [])
        bench.switcher.reservations.give_back(reservation.id)
        self.assertEqual(bench.hooks.names()[-1], "wake b")

    def test_everything(self) -> None:
        """Whoever does not say what is needed has all but what is pinned, or kept asleep."""
        keeps = on("c", "gpu1", 1.0, asleep_needs={"ram": 2.0})
        bench = Bench([on("a", "gpu0"), on("b", "gpu1"), keeps], resources={**TWO, "ram": 9.0})
        bench.wake("b")
        bench.wake("c").finish()
        bench.switcher.order(Kind.SLEEP, "c")
        bench.hooks.running[0].exit(0)
        bench.switcher.pin("b", pinned=True)
        reservation = bench.switcher.reservations.make(None, 9.0)
        self.assertEqual(reservation.needs, {"gpu0": 24.0, "gpu1": 4.0, "ram": 7.0})

    def test_nothing_left(self) -> None:
        """Where all is pinned there is nothing to be had."""
        bench = Bench([on("a", "gpu0", 24.0)], resources={"gpu0": 24.0})
        bench.wake("a")
        bench.switcher.pin("a", pinned=True)
        make = bench.switcher.reservations.make
        self.assertIn("no room", str(self.assertRaises(ReservationRefused, make, None, 9)))

    def test_other_resources(self) -> None:
        """Who holds what is called otherwise now holds, for all that is known, any of it."""
        held = self.reserve({"gpu1": 20.0})
        configs = {"a": on("a", "gpu")}
        self.bench.switcher.reconfigure(configs, Budget.of({"gpu": 48.0}))
        self.assertEqual((held.held, held.needs), (True, {"gpu": 48.0}))
        self.bench.request("a")
        self.assertEqual(self.bench.hooks.calls, [])
        self.bench.switcher.reservations.give_back(held.id)
        self.assertEqual(self.bench.hooks.names(), ["wake a"])

    def test_other_resources_after_a_restart(self) -> None:
        """The same, if the file has changed while no llmux ran."""
        self.reserve({"gpu1": 20.0}, ttl=30.0)
        records = self.bench.switcher.reservations.records()
        other = Bench()
        other.switcher.start(Memory(reservations=records))
        other.request("a")
        self.assertEqual(other.hooks.calls, [])
        other.clock.advance(30)
        self.assertEqual(other.hooks.names(), ["wake a"])

    def test_first_resources_while_everything_is_waited_for(self) -> None:
        """Who waits for all that there is goes on doing so, whatever that is by then."""
        bench = Bench()
        request = bench.wake("a")
        waits = bench.switcher.reservations.make(None, 9.0)
        bench.switcher.reconfigure({"a": on("a", "gpu0"), "b": on("b", "gpu0")}, Budget.of(TWO))
        request.finish()
        bench.hooks.running[0].exit(0)
        self.assertEqual((waits.held, waits.needs), (True, TWO))

    def test_two(self) -> None:
        """The second one waits until there is room beside the first, and they are told apart."""
        first = self.reserve({"gpu0": 20.0})
        second = self.reserve({"gpu0": 20.0})
        self.assertFalse(second.held)
        self.bench.switcher.reservations.give_back(first.id)
        self.assertTrue(second.held)
        self.assertNotEqual(first.id, second.id)

    def test_keeps_what_it_waits_for(self) -> None:
        """No small model takes a part of what one waits for that cannot have the rest yet."""
        self.bench.request("a").leave()
        self.assertEqual(self.bench.states()["a"], "waking")
        self.reserve({"gpu0": 20.0, "gpu1": 20.0})
        passing = self.bench.request("b")
        self.assertEqual(self.bench.hooks.names(), ["wake a"], "gpu1 is kept for it")
        self.end("a", Hook.WAKE)
        self.end("a")
        self.assertEqual(self.told, ["held"])
        self.assertIsNone(passing.lease)

    def test_being_made(self) -> None:
        """What one is about to hold is promised to nobody, least of all to an order."""
        self.wake("a")
        self.reserve({"gpu0": 22.0})
        self.assertEqual(self.bench.states()["a"], "sleeping")
        done = self.bench.switcher.order(Kind.WAKE, "small")
        failure = self.failureResultOf(done, OrderFailed)
        self.assertIn("no room for small beside what is reserved", failure.getErrorMessage())
        self.end("a")
        self.assertEqual(self.told, ["held"])

    def test_another_time_is_remembered(self) -> None:
        """A restart knows the time to live that the last renewal gave, and not an older one."""
        noted: list[float] = []
        reservation = self.reserve({"gpu0": 20.0}, ttl=10.0)
        reservations = self.bench.switcher.reservations
        self.bench.switcher._remember = lambda: noted.append(
            reservations.records()[reservation.id].ttl
        )
        reservations.renew(reservation.id)
        self.assertEqual(noted, [], "nothing is different")
        reservations.renew(reservation.id, 300.0)
        self.assertEqual(noted, [300.0])

    def test_end(self) -> None:
        """When llmux ends, those that wait are told; those that hold are remembered."""
        self.bench.wake("a")
        held = self.reserve({"gpu1": 20.0})
        self.reserve({"gpu0": 20.0})
        self.bench.switcher.stop()
        self.assertEqual(self.told, ["held", "llmux is shutting down"])
        records = self.bench.switcher.reservations.records()
        self.assertEqual(list(records), [held.id])

    def test_restart(self) -> None:
        """Another llmux holds them on, for their whole time."""
        held = self.reserve({"gpu0": 20.0}, ttl=30.0)
        records = self.bench.switcher.reservations.records()
        other = Bench([on("a", "gpu0")], resources={"gpu0": 24.0})
        other.switcher.start(Memory(reservations=records))
        other.request("a")
        other.clock.advance(29)
        self.assertEqual(other.hooks.calls, [])
        self.assertEqual(list(other.switcher.reservations.all), [held.id])
        other.clock.advance(1)
        self.assertEqual(other.hooks.names(), ["wake a"])

    def test_errors(self) -> None:
        """What ends before it holds fails with an error of its own."""
        self.bench.wake("a")
        reservation = self.bench.switcher.reservations.make({"gpu0": 20.0}, 9.0)
        self.bench.switcher.reservations.give_back(reservation.id)
        failure = self.failureResultOf(reservation.granted, ReservationEnded)
        self.assertEqual(failure.getErrorMessage(), "it was given back")
