"""One run: a trace of requests, replayed on a virtual clock before the real switcher."""

from __future__ import annotations

import attrs

from llmux.states import State


@attrs.frozen
class Served:
    """
    A request that was answered; all times are seconds since the trace's begin.

    :param model: who served it.
    :param kind: its class.
    :param arrived: when it came.
    :param leased: when it was given its lease.
    :param first: when the first token of its answer came.
    :param done: when its answer was complete.
    """

    model: str
    kind: str
    arrived: float
    leased: float
    first: float
    done: float


@attrs.frozen
class Span:
    """
    A state that a model was in for more than no time.

    :param model: its name.
    :param state: see :class:`~llmux.states.State`.
    :param began: since when, in seconds since the trace's begin.
    :param ended: until when, likewise.
    """

    model: str
    state: State
    began: float
    ended: float


@attrs.frozen
class Run:
    """
    What happened to a trace under one policy.

    :param policy: its name.
    :param served: the requests that were answered, in the order of their ends.
    :param spans: who was in which state when, in the order of their ends.
    :param ended: when the last request had ended, in seconds since the trace's begin.
    :param failed: how many requests ended with an error.
    """

    policy: str
    served: tuple[Served, ...]
    spans: tuple[Span, ...]
    ended: float
    failed: int
