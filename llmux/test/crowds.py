"""
For how long does anybody wait, when crowds come before the real switcher that leave no model alone.

Hypothesis chooses in the tests.  ``python -m llmux.test.crowds --runs 1000 --seed 1`` lets a seeded
generator choose, for as long as one likes.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

import attrs
from twisted.python.failure import Failure

from llmux.amounts import Amounts
from llmux.budget import ONE_SLOT
from llmux.hooks.contract import Hook, HookCall
from llmux.lease import Lease, Revocation
from llmux.policy import POLICIES
from llmux.test.fakes import model_config
from llmux.test.patience import Worst
from llmux.test.switching import Bench
from llmux.test.terrain import Choices
from llmux.urgency import CLASSES, Urgency

NAMES = "abcdef"

ENDLESS = 1e6
"""Seconds of an answer that ends when it is cut."""

_HOOKS = (0.1, 0.5, 2.0, 5.0)  # seconds
_ANSWERS = (0.5, 1.0, 2.0, 4.0)  # seconds
_GAPS = (0.7, 1.5, 3.0)  # seconds
_AGAIN = 1.0  # seconds after which one comes again who was refused
_LONGEST = 2500.0  # seconds of a run
_MOST = 3000  # requests of a run
_ROUNDING = 1e-3  # seconds

_MACHINES: Sequence[tuple[Mapping[str, float] | None, Sequence[tuple[Amounts, ...]]]] = (
    (None, ((ONE_SLOT,),)),
    ({"slot": 2.0}, ((ONE_SLOT,),)),
    (
        {"left": 10.0, "right": 10.0},
        (({"left": 10.0},), ({"left": 5.0}, {"right": 5.0}), ({"left": 10.0, "right": 10.0},)),
    ),
)
"""What there is, and what models take of it in turn."""


@attrs.frozen
class Crowd:
    """
    Clients that do the same.

    :param models: what they ask for, in turn.
    :param urgency: how much of a hurry they are in.
    :param count: how many they are.
    :param gap: a new one comes each so many seconds; ``None``: each comes back after its answer.
    :param moment: instead, all come whenever that happens to a model of theirs or to another:
        ``sleep`` right before one sleeps, ``lease`` when somebody is served; ``None``: never.
    """

    models: str
    urgency: Urgency
    count: int = 1
    gap: float | None = None
    moment: str | None = None


@attrs.frozen(kw_only=True)
class Siege:
    """
    A machine, and what it has to stand.

    :param policy: who decides.
    :param names: of the models, a letter each.
    :param resources: what there is; ``None``: one slot.
    :param needs: by model, where it can be.
    :param hooks: how long hooks take, in turn, and
    :param steady: whether each model has one of these, and keeps it.
    :param failing: how they end, in turn: an exit status; ``None``: not at all.
    :param answers: how long answers take, in turn.
    :param cool_down: see ``min_active_secs``.
    :param drain_timeout: see ``drain_timeout_secs``.
    :param crowds: who comes.
    :param promise: see ``max_wait_secs``.
    :param promised: the models for which that is promised.
    """

    policy: str
    names: str
    resources: Mapping[str, float] | None
    needs: Sequence[tuple[Amounts, ...]]
    hooks: Sequence[float]
    steady: bool
    failing: Sequence[int | None]
    answers: Sequence[float]
    cool_down: float
    drain_timeout: float | None
    crowds: Sequence[Crowd]
    promise: float = 1.0
    promised: str = ""

    def worst(self, leases: int) -> Worst:
        """Say what the worst is that can happen, with so many requests in flight at one model."""
        drain = max(self.answers)
        return Worst(
            models=len(self.names),
            sleep=max(self.hooks),
            wake=max(self.hooks),
            answer=max(answer for answer in self.answers if answer < ENDLESS),
            drain=drain if self.drain_timeout is None else min(drain, self.drain_timeout),
            cool_down=self.cool_down,
            leases=leases,
            fails=any(self.failing),
            one_slot=self.resources is None,
        )


def make_siege(choices: Choices, policies: Sequence[str] = tuple(POLICIES)) -> Siege:
    """Make a random one."""
    names = NAMES[: choices.choice((2, 3, 3, 4, 6))]
    resources, needs = choices.choice(_MACHINES)
    failing: tuple[int | None, ...] = choices.choice(((0,), (0,), (0, 0, 0, 1), (1, 0, None, 0, 0)))
    endless = choices.choice((False, False, True))
    answers = [choices.choice(_ANSWERS) for _ in range(3)]
    drain_timeout = choices.choice((None, None, 3.0))
    if endless and drain_timeout is not None:
        answers[0] = ENDLESS
    kinds = choices.choice((CLASSES[:1], CLASSES[:1], (*CLASSES, CLASSES[0])))
    crowds = [_make_crowd(choices, names, kinds) for _ in range(choices.choice((2, 3, 4, 5)))]
    return Siege(
        policy=choices.choice(policies),
        names=names,
        resources=resources,
        needs=[needs[number % len(needs)] for number in range(len(names))],
        hooks=[choices.choice(_HOOKS) for _ in range(choices.choice((1, 3, 4)))],
        steady=choices.choice((True, False)),
        failing=failing,
        answers=answers,
        cool_down=choices.choice((0.0, 0.0, 4.0)),
        drain_timeout=drain_timeout,
        crowds=crowds,
        promise=choices.choice((0.1, 10.0, 100.0)),
        promised=choices.choice(("", "", names, names[:-1])),
    )


def _make_crowd(choices: Choices, names: str, kinds: Sequence[str]) -> Crowd:
    models = "".join(choices.choice(names) for _ in range(choices.choice((1, 1, 2, 3))))
    urgency = Urgency(choices.choice(kinds), choices.choice((0, 0, 9, -9)))
    crowd = Crowd(models, urgency, choices.choice((1, 1, 2)))
    match choices.choice(("flood", "flood", "loop", "sleep", "lease")):
        case "flood":
            return attrs.evolve(crowd, gap=choices.choice(_GAPS))
        case "loop":
            return crowd
        case moment:
            return attrs.evolve(crowd, moment=moment)


class Besieged(Bench):
    """
    A switcher under siege.

    :ivar waits: since when requests wait, by number, with their class.
    :ivar longest: the longest wait, by class, in seconds.
    :ivar most: how many requests were in flight at one model at most.
    """

    def __init__(self, siege: Siege) -> None:
        self.siege = siege
        models = [
            model_config(
                name,
                needs=needs,
                min_active_secs=siege.cool_down,
                drain_timeout_secs=siege.drain_timeout,
                settle_secs=0.0,
                max_waiting=10**6,
                max_wait_secs=siege.promise if name in siege.promised else None,
            )
            for name, needs in zip(siege.names, siege.needs, strict=True)
        ]
        super().__init__(models, POLICIES[siege.policy].make({}), resources=siege.resources)
        self.waits: dict[int, tuple[float, str]] = {}
        self.longest = dict.fromkeys(CLASSES, 0.0)
        self.most = 0
        self.requests = 0
        self._hooks, self._failing = cycle(siege.hooks), cycle(siege.failing)
        self._answers = cycle(siege.answers)
        self._told: dict[str, list[Callable[[], None]]] = {"sleep": [], "lease": []}
        self.hooks.script = self._script
        self.hooks.deadlines = dict.fromkeys(siege.names, max(siege.hooks))
        for crowd in siege.crowds:
            self._gather(crowd)

    def _script(self, call: HookCall) -> tuple[int, float]:
        seconds, code = next(self._hooks), next(self._failing)
        if self.siege.steady:
            seconds = self.siege.hooks[NAMES.index(call.model) % len(self.siege.hooks)]
        if call.hook not in (Hook.WAKE, Hook.SLEEP):
            return 0, 0.0
        return (0, 10 * seconds + 100) if code is None else (code, seconds)

    def before_sleep(self, model: str) -> None:
        """Let those come who come then."""
        super().before_sleep(model)
        self._happens("sleep")

    def _happens(self, moment: str) -> None:
        for come in self._told[moment]:
            self.clock.callLater(0.0, come)

    def _gather(self, crowd: Crowd) -> None:
        models = cycle(crowd.models)
        back = crowd.gap is None and crowd.moment is None

        def come() -> None:
            self._ask(next(models), crowd, come if back else None)

        def flood() -> None:
            assert crowd.gap is not None
            self.clock.callLater(crowd.gap, flood)
            come()

        for _ in range(crowd.count):
            if crowd.moment is not None:
                self._told[crowd.moment].append(come)
            elif crowd.gap is not None:
                self.clock.callLater(crowd.gap, flood)
            else:
                self.clock.callLater(0.0, come)

    def _ask(self, name: str, crowd: Crowd, again: Callable[[], None] | None) -> None:
        number = self.requests = self.requests + 1
        self.waits[number] = self.clock.seconds(), crowd.urgency.kind

        def served(lease: Lease) -> None:
            self._ended(number)
            self.most = max(self.most, self.switcher.in_flight(name))
            end = self.clock.callLater(next(self._answers), finish, lease)

            def cut(why: Revocation) -> None:
                end.cancel()
                finish(lease)

            lease.on_revoked(cut)
            if crowd.moment is None:  # or those would call each other
                self._happens("lease")

        def finish(lease: Lease) -> None:
            lease.release()
            if again is not None:
                self.clock.callLater(0.0, again)

        def refused(failure: Failure) -> None:
            self._ended(number)
            if again is not None:
                self.clock.callLater(_AGAIN, again)

        self.switcher.acquire(name, crowd.urgency).addCallbacks(served, refused)

    def _ended(self, number: int) -> None:
        arrived, kind = self.waits.pop(number)
        self.longest[kind] = max(self.longest[kind], self.clock.seconds() - arrived)

    def stand(self) -> None:
        """Let time pass until nobody can wait any more who came at first."""
        siege = self.siege
        worst = siege.worst(4)
        kinds = {crowd.urgency.kind for crowd in siege.crowds}
        length = 2 * max(worst.longest_wait(siege.policy, kind) for kind in kinds)
        end = self.clock.seconds() + min(_LONGEST, length)
        while self.clock.seconds() < end and self.requests < _MOST:
            if not self.clock.run_next():
                break  # all wait for something to happen to others
        for number in tuple(self.waits):
            self._ended(number)

    def check(self) -> float:
        """
        Check that nobody has waited, or waits, for longer than the documentation says.

        :returns: the longest wait, as a part of what is allowed.
        :raises AssertionError: if somebody has.
        """
        assert not self.switcher.policy.failures, "the policy failed; the log says how"
        worst = self.siege.worst(self.most)
        part = 0.0
        for kind, waited in self.longest.items():
            bound = worst.longest_wait(self.siege.policy, kind)
            part = max(part, waited / bound)
            told = f"{kind}: somebody waited for {waited:.1f} s, not for {bound:.1f} s at most"
            assert waited <= bound + _ROUNDING, f"{told}: {worst} {self.siege}"
        return part


def stand(siege: Siege) -> float:
    """
    Let a siege pass.

    :returns: the longest wait, as a part of what is allowed.
    :raises AssertionError: if somebody waited for longer than that.
    """
    besieged = Besieged(siege)
    besieged.stand()
    return besieged.check()


def drive(runs: int, seed: int, policies: Sequence[str] = tuple(POLICIES)) -> float:
    """
    Let random sieges pass.

    :returns: the longest wait, as a part of what is allowed.
    :raises AssertionError: if somebody waited for longer than that.
    """
    return max(
        stand(make_siege(random.Random(f"{seed}-{number}"), policies)) for number in range(runs)
    )


def main() -> None:
    """Drive, and say how it went."""
    parser = argparse.ArgumentParser(description="Find out how long anybody can wait.")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policy", choices=sorted(POLICIES), action="append")
    given = parser.parse_args()
    began = time.monotonic()
    part = drive(given.runs, given.seed, given.policy or tuple(POLICIES))
    print(
        f"{given.runs} sieges with seed {given.seed}, {time.monotonic() - began:.0f} s: nobody"
        f" waited for more than {part:.0%} of what is allowed"
    )


if __name__ == "__main__":
    main()
