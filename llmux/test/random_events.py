"""
Random events for a :class:`~llmux.test.world.World`, from one source of choices.

Hypothesis chooses in the tests.  ``python -m llmux.test.random_events --events 1000000 --seed 1``
lets a seeded generator choose, for as long as one likes.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence

from llmux.errors import RequestTimedOut
from llmux.lease import Outcome
from llmux.orders import Kind
from llmux.policy import POLICIES
from llmux.test.holders import HolderWorld
from llmux.test.terrain import NAMES, Choices, change, make_machine, make_slots
from llmux.test.world import World

_PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
_OUTCOMES = (Outcome.COMPLETE, Outcome.COMPLETE, Outcome.ABORTED, Outcome.FAILED)
_SETS = ("abcd", "abc", "ab", "acd", "bcd", "a")


def make_world(
    choices: Choices, policies: Sequence[str] = tuple(POLICIES), *, holders: bool = False
) -> World:
    """
    Make a world: one of which the configuration knows resources, or one slot.

    :param policies: the policies of which one decides.
    :param holders: whether requests come in at holders of grants.
    """
    terrain = choices.choice((make_slots, make_machine, make_machine))(choices)
    policy = choices.choice(policies)
    if holders:
        return HolderWorld(terrain, policy, choices.choice((1, 2, 3)))
    return World(terrain, policy)


def happen(world: World, choices: Choices) -> str:
    """
    Let one random event happen.

    :returns: what it was.
    """
    possible: list[Callable[[World, Choices], str]] = [_arrive, _arrive, _arrive, _time, _time]
    if world.hooks.running:
        possible += [_hook] * 5
    if world.served:
        possible += [_finish] * 3
    if world.waiting:
        possible += [_leave]
    if world.left:
        possible += [_leftover] * 3
    rare = choices.choice(range(12))
    if rare == 0:
        possible = [_crash, _wedge, _order, _reload, _restart, _refuse, _refuse, _crash, _close]
        possible += [_reserve]
        if not world.terrain.one_slot:
            possible += [_pin, _reserve, _capacity, _needs]
        if isinstance(world, HolderWorld):
            possible += [_die, _hang]
    if world.reservations and choices.choice(range(6)) == 0:
        possible = [_end_reservation]
    return choices.choice(possible)(world, choices)


def _arrive(world: World, choices: Choices) -> str:
    name = choices.choice((*world.told, *world.sharing))
    count = choices.choice((1, 1, 2, 3))
    for _ in range(count):
        world.arrive(name)
    return f"{count} arrive for {name}"


def _time(world: World, choices: Choices) -> str:
    seconds = choices.choice(_PAUSES)
    world.pass_time(seconds)
    return f"{seconds} s pass"


def _hook(world: World, choices: Choices) -> str:
    hook = choices.choice(world.hooks.running)
    outcome = choices.choice((0, 0, 0, 0, 1, None))
    world.end_hook(hook, outcome)
    return f"{hook.call.hook.value} {hook.call.model} ends: {outcome}"


def _finish(world: World, choices: Choices) -> str:
    asker, outcome = choices.choice(world.served), choices.choice(_OUTCOMES)
    world.finish(asker, outcome)
    return f"a request for {asker.model} is {outcome.value}"


def _leave(world: World, choices: Choices) -> str:
    asker = choices.choice(world.waiting)
    world.leave(asker)
    return f"a client of {asker.model} leaves"


def _refuse(world: World, choices: Choices) -> str:
    refused = [asker for asker in world.served if asker.server not in world.serving]
    if not refused:
        return "nobody is refused"
    asker = choices.choice(refused)
    world.refuse(asker)
    return f"a request for {asker.model} is refused"


def _crash(world: World, choices: Choices) -> str:
    name = choices.choice(tuple(NAMES))
    world.crash(name)
    return f"{name} crashes"


def _wedge(world: World, choices: Choices) -> str:
    name = choices.choice(tuple(NAMES))
    world.wedge(name)
    return f"{name} hangs"


def _order(world: World, choices: Choices) -> str:
    kind, name = choices.choice(tuple(Kind)), choices.choice(tuple(NAMES))
    world.order(kind, name)
    return f"an operator wants {name}: {kind.value}"


def _pin(world: World, choices: Choices) -> str:
    name, pinned = choices.choice(tuple(world.told)), choices.choice((True, False, False))
    world.pin(name, pinned=pinned)
    return f"{name} is {'pinned' if pinned else 'unpinned'}"


def _reserve(world: World, choices: Choices) -> str:
    resource = choices.choice(tuple(world.capacity))
    share, ttl = choices.choice((0.25, 0.5, 1.0)), choices.choice((5.0, 60.0))
    needs = {resource: share * world.capacity[resource]}
    everything = world.terrain.one_slot or choices.choice((True, False, False))
    world.reserve(None if everything else needs, ttl)
    return f"somebody asks for {'everything' if everything else needs}"


def _end_reservation(world: World, choices: Choices) -> str:
    reservation = choices.choice(world.reservations)
    world.end_reservation(reservation)
    return f"{reservation.needs} is given back"


def _capacity(world: World, choices: Choices) -> str:
    factor = choices.choice((1.0, 1.0, 1.25))
    world.capacity = {name: factor * most for name, most in world.terrain.capacity.items()}
    world.resized = True
    world.reload("".join(world.told), 1)
    return f"there is {world.capacity}"


def _needs(world: World, choices: Choices) -> str:
    name = choices.choice(tuple(world.told))
    if not change(world.terrain, name, choices):
        return f"{name} takes what it took"
    world.resized = True
    world.reload("".join(world.told), 1)
    return f"{name} takes {world.terrain.settings[name]['needs']}"


def _reload(world: World, choices: Choices) -> str:
    first = world.terrain.names
    names = choices.choice((first, first, first[:-1] or first, first[1:] or first, NAMES[:6]))
    if world.terrain.one_slot:
        names = choices.choice(_SETS)
    port = choices.choice((1, 1, 2))
    settings = choices.choice(({}, {"settle_secs": 3.0}, {"sleep_timeout_secs": 9.0}))
    world.reload(names, port, **settings)
    return f"the configuration has {names} at {port} with {settings}"


def _restart(world: World, choices: Choices) -> str:
    world.restart()
    return "llmux is killed and starts again"


def _close(world: World, choices: Choices) -> str:
    sleep_models = choices.choice((False, True))
    world.close(sleep_models=sleep_models)
    return f"llmux ends, and its models {'sleep' if sleep_models else 'stay awake'}"


def _die(world: World, choices: Choices) -> str:
    assert isinstance(world, HolderWorld)
    choices.choice(world.holders).die()
    return "a holder dies"


def _hang(world: World, choices: Choices) -> str:
    assert isinstance(world, HolderWorld)
    choices.choice(world.holders).hang()
    return "a holder hangs"


def _leftover(world: World, choices: Choices) -> str:
    hook, outcome = world.left[0], choices.choice((0, 0, 1))
    world.end_leftover(outcome)
    return f"{hook.call.hook.value} {hook.call.model} of before ends: {outcome}"


def all_goes_well(world: World) -> None:
    """
    See that everybody is served, and every model can be, once nothing goes wrong any more.

    :raises AssertionError: if somebody is not.
    """
    if world.closing:
        world.restart()
    for reservation in tuple(world.reservations):
        world.end_reservation(reservation)
    for name in (*world.told, *world.sharing):
        world.arrive(name)
    for _ in range(3000):
        for asker in world.served:
            if asker.lease is None:
                continue  # it was wanted back when another one was refused
            if asker.server in world.serving:
                world.finish(asker, Outcome.COMPLETE)
            else:
                world.refuse(asker)
        for hook in list(world.hooks.running):
            if hook in world.hooks.running:
                world.end_hook(hook, 0)
        while world.left:
            world.end_leftover(0)
        world.pass_time(1.0)
        world.check()
        if not world.waiting and not world.served and not world.switcher.switches:
            break
    assert not world.waiting, f"rule 6: somebody waits for ever: {world.switcher.states()}"
    for name in world.told:
        world.pin(name, pinned=False)
    world.pass_time(100)
    for name in (*world.told, *world.sharing):
        asker = world.arrive(name)
        for _ in range(300):
            for hook in list(world.hooks.running):
                if hook in world.hooks.running:
                    world.end_hook(hook, 0)
            if isinstance(asker.error, RequestTimedOut):
                asker = world.arrive(name)  # a policy may let an idle model be for a while
            if asker.lease is not None and asker.server not in world.serving:
                world.refuse(asker)
            if asker.lease is not None and asker.server in world.serving:
                break
            world.pass_time(1.0)
        served = asker.lease is not None and asker.server in world.serving
        assert served, f"rule 6: {name} cannot be served any more: {asker.error}"
        world.finish(asker, Outcome.COMPLETE)
        world.check()


def drive(
    events: int,
    seed: int,
    per_world: int = 200,
    policies: Sequence[str] = tuple(POLICIES),
    *,
    holders: bool = False,
) -> int:
    """
    Let random events happen, in one world after the other.

    :param policies: the policies of which one decides in each world.
    :param holders: whether requests come in at holders of grants.
    :returns: how many happened.
    :raises AssertionError: with what led to it, if a rule does not hold.
    """
    done = number = 0
    while done < events:
        number += 1
        choices = random.Random(f"{seed}-{number}")  # the same each time
        world = make_world(choices, policies, holders=holders)
        history: list[str] = []
        try:
            for _ in range(min(per_world, events - done)):
                done += 1
                history.append(happen(world, choices))
                world.check()
            history.append("from here on all goes well")
            all_goes_well(world)
        except Exception as error:
            told = "\n".join(history)
            calls = ", ".join(world.hooks.names()[-12:])
            states = world.switcher.states()
            raise AssertionError(
                f"world {seed}-{number}, {world.policy_name}, after\n{told}\n"
                f"last hooks: {calls}\n{states}\n{error}"
            ) from error
    return done


def main() -> None:
    """Drive, and say how it went."""
    parser = argparse.ArgumentParser(description="Hold the core's rules against random events.")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policy", choices=tuple(POLICIES), help="default: any of them")
    parser.add_argument("--holders", action="store_true", help="requests come in at holders")
    given = parser.parse_args()
    began = time.monotonic()
    policies = (given.policy,) if given.policy else tuple(POLICIES)
    done = drive(given.events, given.seed, policies=policies, holders=given.holders)
    print(f"{done} events with seed {given.seed}, {time.monotonic() - began:.0f} s: rules held")


if __name__ == "__main__":
    main()
