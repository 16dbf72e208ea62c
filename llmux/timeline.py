"""What each model was doing over the last hours, and how many waited for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime

from llmux.states import State

KEPT = 6 * 3600.0
"""For so many seconds back it is known."""

RESOLUTION = 1.0
"""Of how many wait, only the most in so many seconds is noted."""

_What = TypeVar("_What")
_MOST = 20_000  # spans or counts of one name: models that switch every second do so for hours


@attrs.define
class _Lane:
    """
    One model, or one name that several share.

    :ivar states: when it entered which state, in the clock's seconds.
    :ivar counts: from when on how many waited, in the clock's seconds.
    :ivar count: how many wait now.
    """

    states: deque[tuple[float, State]] = attrs.Factory(lambda: deque(maxlen=_MOST))
    counts: deque[tuple[float, int]] = attrs.Factory(lambda: deque(maxlen=_MOST))
    count: int = 0

    def settle(self, now: float) -> None:
        """Note how many were left when what was noted last had lasted for long enough."""
        if not self.counts:
            return
        began, most = self.counts[-1]
        if now >= began + RESOLUTION and most != self.count:
            self.counts.append((began + RESOLUTION, self.count))

    def forget(self, before: float) -> None:
        """Leave out what has ended before a time."""
        for line in (self.states, self.counts):
            while len(line) > 1 and line[1][0] <= before:
                line.popleft()

    def is_over(self, before: float) -> bool:
        """Tell whether nothing was there since a time."""
        if self.count or (self.counts and self.counts[-1][0] > before - RESOLUTION):
            return False
        return not self.states or (self.states[-1][0] < before and not self.states[-1][1].holds)


class Timeline:
    """
    Keeps the last hours.

    :param clock: tells the time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}

    def entered(self, model: str, state: State) -> None:
        """Take in that a model is in another state."""
        now = self._clock.seconds()
        lane = self._lane(model)
        lane.states.append((now, state))
        lane.forget(now - KEPT)

    def waiting(self, name: str, more: int) -> None:
        """Take in that so many more wait now for a model, or for any of those that share a name."""
        now = self._clock.seconds()
        lane = self._lane(name)
        lane.settle(now)
        lane.count += more
        if lane.counts and now < lane.counts[-1][0] + RESOLUTION:
            began, most = lane.counts.pop()
            lane.counts.append((began, max(most, lane.count)))
        else:
            lane.counts.append((now, lane.count))
            lane.forget(now - KEPT)

    def as_json(self) -> dict[str, object]:
        """
        Give all of it as plain JSON values; what has done nothing for so long is left out.

        :returns: ``kept_secs``, how far it goes back at most; ``lanes``, a list of which each has a
            ``name``, ``states`` and ``waiting``.  These are lists from the oldest to the newest, of
            which each lasts until the next begins, and the last until now.
        """
        now = self._clock.seconds()
        for name in [name for name, lane in self._lanes.items() if lane.is_over(now - KEPT)]:
            del self._lanes[name]
        return {
            "kept_secs": KEPT,
            "lanes": [self._told(name, lane, now) for name, lane in self._lanes.items()],
        }

    def _told(self, name: str, lane: _Lane, now: float) -> dict[str, object]:
        lane.settle(now)
        lane.forget(now - KEPT)
        return {
            "name": name,
            "states": [
                {"state": state.value, "began_secs_ago": ago}
                for ago, state in _ago(lane.states, now)
            ],
            "waiting": [
                {"count": count, "began_secs_ago": ago} for ago, count in _ago(lane.counts, now)
            ],
        }

    def _lane(self, name: str) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane()
        return lane


def _ago(line: Iterable[tuple[float, _What]], now: float) -> Iterator[tuple[float, _What]]:
    for began, what in line:
        yield round(min(now - began, KEPT), 3), what
