"""Tests of grants: who may give leases without asking, and how that ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from llmux.errors import InternalError, RequestError, ShuttingDown
from llmux.grant import News
from llmux.granting import ANSWERING
from llmux.holder import Began, Ended, Happened, Heard, Holder, IHolderLink
from llmux.lease import Lease, Outcome, Revocation
from llmux.leases import ILeases
from llmux.states import State
from llmux.test.fakes import model_config
from llmux.test.switching import Bench
from llmux.urgency import ORDINARY, Urgency
from llmux.workers.local import GATHERING, HEARING, RESTING, IParentLink, LocalLeases


@implementer(IHolderLink)
class Line:
    """
    A line to a holder at which nothing takes any time, and that can be held up.

    :ivar said: what the switcher has said, in words.
    :ivar far: what the holder hears it with, if there is a real one.
    :ivar held_up: what the holder has not heard yet; ``None``: it hears at once.
    """

    def __init__(self) -> None:
        self.said: list[object] = []
        self.far: LocalLeases | None = None
        self.held_up: list[Callable[[LocalLeases], object]] | None = None

    def _say(self, words: object, heard: Callable[[LocalLeases], object]) -> None:
        self.said.append(words)
        if self.held_up is not None:
            self.held_up.append(heard)
        elif self.far is not None:
            heard(self.far)

    def grant(self, model: str, places: int) -> None:
        """See :meth:`IHolderLink.grant`."""
        self._say(("grant", model, places), lambda far: far.grant(model, places))

    def recall(self, model: str) -> None:
        """See :meth:`IHolderLink.recall`."""
        self._say(("recall", model), lambda far: far.recall(model))

    def queued(self, number: int, before: int) -> None:
        """See :meth:`IHolderLink.queued`."""
        self._say(("queued", number, before), lambda far: far.queued(number, before))

    def lease(self, number: int, lease: Lease) -> None:
        """See :meth:`IHolderLink.lease`."""
        told = (number, lease.model, lease.shared, lease.switching)
        self._say(("lease", number), lambda far: far.lease(*told))

    def refuse(self, number: int, error: RequestError) -> None:
        """See :meth:`IHolderLink.refuse`."""
        self._say(("refuse", number, error.status), lambda far: far.refuse(number, error))

    def want_back(self, number: int, why: Revocation) -> None:
        """See :meth:`IHolderLink.want_back`."""
        self._say(("want back", number, why), lambda far: far.want_back(number, why))

    def hear(self, news: Mapping[str, News]) -> None:
        """See :meth:`IHolderLink.hear`."""
        if self.far is not None:
            self.far.hear(news)

    def end(self) -> None:
        """See :meth:`IHolderLink.end`."""
        self.said.append("end")


@attrs.define(eq=False)
class Office:
    """
    A switcher that has ``a`` awake, and holders.

    :ivar bench: the switcher's.
    """

    bench: Bench

    @classmethod
    def opened(cls, **settings: object) -> Office:
        """Make one, with so many places at ``a``."""
        bench = Bench([model_config("a", **settings), "b"])
        bench.wake("a").finish()
        return cls(bench)

    def holder(self) -> tuple[Holder, Line]:
        """Let one more holder give leases, of which only the line is there."""
        line = Line()
        return self.bench.switcher.share(line), line

    def worker(self) -> tuple[LocalLeases, Line, Reports]:
        """Let one more holder give leases, and be there."""
        line = Line()
        reports = Reports()
        models = {name: model.config for name, model in self.bench.switcher.models.items()}
        line.far = LocalLeases(self.bench.clock, reports, models, dict)
        reports.holder = self.bench.switcher.share(line)
        return line.far, line, reports

    def model(self, name: str) -> int:
        """Say how many leases the switcher counts."""
        return self.bench.switcher.in_flight(name)


@implementer(IParentLink)
class Reports:
    """
    What a worker says, and who hears it.

    :ivar said: its methods' names, in order.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.holder: Holder | None = None

    def _heard(self, words: str) -> Holder:
        self.said.append(words)
        assert self.holder is not None
        return self.holder

    def wait(self, number: int, name: str, urgency: Urgency | None) -> None:
        """See :meth:`IParentLink.wait`."""
        self._heard("wait").wait(number, name, urgency)

    def wait_again(self, number: int, before: int) -> None:
        """See :meth:`IParentLink.wait_again`."""
        self._heard("wait again").wait_again(number, before)

    def leave(self, number: int) -> None:
        """See :meth:`IParentLink.leave`."""
        self._heard("leave").leave(number)

    def before(self, number: int) -> None:
        """See :meth:`IParentLink.before`."""
        self._heard("before").before(number)

    def report(self, events: list[Happened]) -> None:
        """See :meth:`IParentLink.report`."""
        self._heard("report").report(events)

    def returned(self, model: str) -> None:
        """See :meth:`IParentLink.returned`."""
        self._heard("returned").returned(model)


class HolderTests(SynchronousTestCase):
    """What the switcher makes of a holder."""

    def test_links(self) -> None:
        """The lines of these tests are what the real ones are."""
        self.assertTrue(verifyObject(IHolderLink, Line()))
        self.assertTrue(verifyObject(IParentLink, Reports()))

    def test_first_request(self) -> None:
        """Whoever asks for an open model gets a lease, and leave to give further ones."""
        office = Office.opened()
        holder, line = office.holder()
        holder.wait(1, "a", None)
        self.assertEqual(line.said[0], ("lease", 1))
        self.assertEqual([words[:2] for words in line.said[1:]], [("grant", "a")])  # type: ignore[index]  # tuples
        self.assertEqual((holder.in_flight, holder.waiting), (1, 0))

    def test_shares(self) -> None:
        """Where there are few places each holder has its share, and the rest go one by one."""
        office = Office.opened(max_concurrency=5)
        (one, to_one), (two, to_two) = office.holder(), office.holder()
        one.wait(1, "a", None)
        two.wait(1, "a", None)
        self.assertIn(("grant", "a", 2), to_one.said)
        self.assertIn(("lease", 1), to_two.said)
        self.assertEqual(office.bench.switcher.models["a"].free_places, 0)
        two.wait(2, "a", None)
        self.assertIn(("queued", 2, 0), to_two.said)
        self.assertIn(("recall", "a"), to_one.said)
        one.returned("a")
        self.assertIn(("lease", 2), to_two.said)

    def test_drain(self) -> None:
        """A model goes to sleep when its grants are back, and what was given by them has ended."""
        office = Office.opened()
        holder, line = office.holder()
        holder.wait(1, "a", None)
        holder.report([Ended(1, Outcome.COMPLETE, 0.5)])
        office.bench.request("b")
        self.assertIn(("recall", "a"), line.said)
        self.assertEqual(office.bench.hooks.names()[1:], [])
        holder.report([Began(2, "a", None, ORDINARY, office.bench.clock.seconds())])
        holder.returned("a")
        self.assertEqual((office.model("a"), office.bench.hooks.names()[1:]), (1, []))
        holder.report([Ended(2, Outcome.COMPLETE, 0.5)])
        self.assertEqual(office.bench.hooks.names()[1:], ["sleep a"])

    def test_hangs(self) -> None:
        """A holder that does not give a grant back in time is ended."""
        office = Office.opened()
        holder, line = office.holder()
        holder.wait(1, "a", None)
        office.bench.request("b")
        office.bench.clock.advance(ANSWERING - 0.1)
        self.assertNotIn("end", line.said)
        office.bench.clock.advance(0.2)
        self.assertIn("end", line.said)
        holder.lost()
        office.bench.clock.advance(office.bench.switcher.models["a"].config.settle_secs)
        self.assertEqual(office.bench.hooks.names()[1:], ["sleep a"])

    def test_lost(self) -> None:
        """What a holder had comes back when it dies, and those of its clients who wait are gone."""
        office = Office.opened()
        holder, _ = office.holder()
        holder.wait(1, "a", None)
        holder.wait(2, "b", None)
        self.assertEqual((office.model("a"), office.bench.switcher.waiting("b")), (1, 1))
        holder.lost()
        self.assertEqual((office.model("a"), office.bench.switcher.waiting("b")), (0, 0))
        self.assertEqual(office.bench.switcher.models["a"].grants, {})

    def test_revoked(self) -> None:
        """A lease that is wanted back is wanted back from its holder, also one that comes late."""
        office = Office.opened(drain_timeout_secs=1.0)
        holder, line = office.holder()
        holder.wait(1, "a", None)
        office.bench.request("b")
        office.bench.clock.advance(1.1)
        self.assertIn(("want back", 1, Revocation.DRAIN_TIMEOUT), line.said)
        holder.report([Began(2, "a", None, ORDINARY, office.bench.clock.seconds())])
        self.assertIn(("want back", 2, Revocation.DRAIN_TIMEOUT), line.said)

    def test_refused(self) -> None:
        """A request that cannot be served is refused where it has come in."""
        office = Office.opened()
        holder, line = office.holder()
        holder.wait(1, "nobody", None)
        self.assertEqual(line.said, [("refuse", 1, 404)])

    def test_left_too_late(self) -> None:
        """A client that leaves when its lease is on its way gives it back."""
        office = Office.opened()
        holder, _ = office.holder()
        holder.wait(1, "a", None)
        holder.leave(1)
        holder.leave(1)  # nobody knows it any more
        self.assertEqual(office.model("a"), 0)

    def test_heard(self) -> None:
        """The model knows when bytes of the holder's answers have last come."""
        office = Office.opened()
        holder, _ = office.holder()
        holder.wait(1, "a", None)
        holder.report([Heard("a", 1234.5)])
        self.assertEqual(office.bench.switcher.models["a"].heard_at(), 1234.5)

    def test_heard_of_what_has_ended(self) -> None:
        """That holds for an answer that has come to its end before anything else was said of it."""
        office = Office.opened()
        holder, _ = office.holder()
        holder.wait(1, "a", None)
        holder.report([Ended(1, Outcome.COMPLETE, 0.5, 1234.5)])
        self.assertEqual(office.bench.switcher.models["a"].heard_at(), 1234.5)

    def test_stop(self) -> None:
        """When all ends, grants are recalled and none are given."""
        office = Office.opened()
        holder, line = office.holder()
        holder.wait(1, "a", None)
        office.bench.switcher.stop()
        self.assertIn(("recall", "a"), line.said)
        holder.wait(2, "a", None)
        self.assertEqual(line.said[-1], ("refuse", 2, 503))

    def test_close(self) -> None:
        """All has come to its end when the grants are back, or whoever had them is dead."""
        for last in (lambda holder: holder.returned("a"), Holder.lost):
            office = Office.opened()
            holder, _ = office.holder()
            holder.wait(1, "a", None)
            holder.report([Ended(1, Outcome.COMPLETE, 0.5)])
            closed = Deferred.fromCoroutine(office.bench.switcher.close(30.0, sleep_models=False))
            self.assertNoResult(closed)
            last(holder)
            self.successResultOf(closed)


class LocalLeasesTests(SynchronousTestCase):
    """What a worker does by itself, and what it asks for."""

    def setUp(self) -> None:
        self.office = Office.opened()
        self.leases, self.line, self.reports = self.office.worker()
        self.clock = self.office.bench.clock

    def lease(self, name: str = "a") -> Lease:
        """Get a lease that is there at once."""
        return self.successResultOf(self.leases.acquire(name))

    def test_interface(self) -> None:
        """Whoever relays sees no difference to the switcher."""
        self.assertTrue(verifyObject(ILeases, self.leases))
        self.assertTrue(verifyObject(ILeases, self.office.bench.switcher))

    def test_no_question(self) -> None:
        """With a grant a lease takes no question, and is reported with others a little later."""
        self.lease()
        self.reports.said.clear()
        leases = [self.lease(), self.lease()]
        leases[0].release()
        self.assertEqual((self.reports.said, self.office.model("a")), ([], 1))
        self.clock.advance(GATHERING)
        self.assertEqual((self.reports.said, self.office.model("a")), (["report"], 2))

    def test_places(self) -> None:
        """A grant for few places is used up, and what is beyond is asked for."""
        self.leases.grant("a", 1)
        self.lease().release()
        self.lease()
        self.reports.said.clear()
        self.leases.acquire("a")
        self.assertEqual(self.reports.said, ["report", "wait"])

    def test_recalled(self) -> None:
        """A grant goes back at once, behind what was given by it; then an end is told at once."""
        self.lease()
        lease = self.lease()
        self.reports.said.clear()
        waiting = self.office.bench.request("b")
        self.assertEqual(self.reports.said, ["report", "returned"])
        self.assertIsNotNone(self.leases.leaving_since("a"))
        lease.release()
        self.assertEqual(self.reports.said, ["report", "returned", "report"])
        self.assertIsNone(waiting.lease)

    def test_waits(self) -> None:
        """A request for a model that sleeps waits at the parent, and knows who is before it."""
        self.office.bench.request("b")
        waiting = self.leases.acquire("b")
        self.assertEqual(self.leases.waiting_before(waiting), 1)
        waiting.cancel()
        self.failureResultOf(waiting)
        self.assertIsNone(self.leases.waiting_before(waiting))
        self.assertEqual(self.office.bench.switcher.waiting("b"), 1)

    def test_late_lease(self) -> None:
        """A lease for a client that has left in the meantime goes back."""
        self.line.held_up = []
        waiting = self.leases.acquire("a")
        waiting.cancel()
        self.failureResultOf(waiting)
        for heard in self.line.held_up:
            heard(self.leases)
        self.assertEqual(self.office.model("a"), 0)

    def test_again(self) -> None:
        """A request that got nowhere asks again, and its lease is the parent's to take back."""
        self.lease()
        again = self.leases.acquire_again(self.lease())
        self.assertEqual(self.reports.said[-3:], ["report", "wait again", "returned"])
        self.assertNoResult(again)
        self.assertEqual((self.office.model("a"), self.office.bench.switcher.waiting("a")), (1, 1))

    def test_revoked(self) -> None:
        """A lease that is wanted back is told so."""
        lease = self.lease()
        self.office.bench.switcher.cut()
        self.assertIs(lease.revoked, Revocation.SHUTDOWN)
        self.leases.want_back(lease.number + 1, Revocation.KILLED)  # has ended already

    def test_refused(self) -> None:
        """What the parent refuses fails here."""
        self.office.bench.switcher.stop()
        failure = self.failureResultOf(self.leases.acquire("a"))
        failure.trap(ShuttingDown)
        self.leases.refuse(99, InternalError())  # has gone already

    def test_heard(self) -> None:
        """While answers are coming the parent hears when, and nothing more when all have ended."""
        lease = self.lease()
        lease.heard_at = lambda: 1000.5
        self.clock.advance(HEARING + GATHERING)
        self.assertEqual(self.office.bench.switcher.models["a"].heard_at(), 1000.5)
        lease.release()
        self.clock.advance(60.0)
        self.reports.said.clear()
        self.clock.advance(60.0)
        self.assertEqual(self.reports.said, [])

    def test_heard_once(self) -> None:
        """The end of an answer says when it was heard of, too; how often is told is as needed."""
        lease = self.lease()
        lease.heard_at = lambda: 1000.5
        lease.release()
        self.clock.advance(GATHERING)
        self.assertEqual(self.office.bench.switcher.models["a"].heard_at(), 1000.5)
        lease, again = self.lease(), self.lease()
        again.heard_at = lambda: 2000.5
        self.clock.advance(RESTING + GATHERING)
        self.assertEqual(self.office.bench.switcher.models["a"].heard_at(), 2000.5)
        again.heard_at = lambda: 3000.5
        self.leases.recall("a")  # somebody may want to know
        self.assertEqual(self.office.bench.switcher.models["a"].heard_at(), 3000.5)
        lease.release()

    def test_heard_beside_others(self) -> None:
        """A model that is asked after often is told of soon, also beside others that are not."""
        models = {"a": model_config("a"), "b": model_config("b", alive_interval_secs=1.0)}
        said = Reports()
        said.holder, _ = self.office.holder()
        leases = LocalLeases(self.clock, said, models, dict)
        for name in "ab":
            leases.grant(name, 5)
            lease = self.successResultOf(leases.acquire(name))
        lease.heard_at = lambda: 1000.5
        self.clock.advance(HEARING + GATHERING)
        self.assertEqual(self.office.bench.switcher.models["b"].heard_at(), 1000.5)

    def test_news(self) -> None:
        """How models stand is known without asking."""
        self.assertEqual(self.leases.states(), self.office.bench.switcher.states())
        self.assertEqual(self.leases.states()["a"], State.AWAKE)
        self.assertGreaterEqual(self.leases.estimate("b"), 1)
        self.leases.forget("b")
        self.assertNotIn("b", self.leases.states())

    def test_any_of_several(self) -> None:
        """A name for several models is served by the grant for one, if no better one is awake."""
        models = {name: model_config(name) for name in "ab"}
        said = Reports()
        leases = LocalLeases(self.clock, said, models, lambda: {"any": ("b", "a")})
        leases.grant("a", 5)
        lease = self.successResultOf(leases.acquire("any"))
        self.assertEqual((lease.model, lease.shared), ("a", "any"))
        said.holder = self.office.holder()[0]
        leases.hear({"b": News(State.AWAKE, None, 1)})
        waiting: Deferred[Lease] = leases.acquire("any")
        self.assertNoResult(waiting)
        self.assertEqual(said.said[-1], "wait")
