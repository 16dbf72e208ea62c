"""Looks at llmux and at the processes all the time, and compares what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import linear_regression, mean
from typing import Any

from bench.fleet import Fleet
from bench.lives import Llmux, Sample, at_rest, states
from bench.processes import BenchError
from bench.violations import Violations

EVERY, SAMPLE_EVERY = 1.0, 10.0  # seconds
OLDEST = 62.0  # seconds that a waiter may be old: request_timeout_secs and a margin
LONGEST_SWITCH = 150.0  # seconds: a drain, the ladder of sleep, a wake and its clean-up
GROWTH_BYTES, GROWTH_FILES = 10_000_000, 10


async def watch(fleet: Fleet, llmux: Llmux, violations: Violations) -> None:
    """Look on and on."""
    sampled = 0.0
    while True:
        await asyncio.sleep(EVERY)
        if not llmux.up:
            continue
        life = llmux.life
        if llmux.now - sampled >= SAMPLE_EVERY:
            sampled = llmux.now
            llmux.sample()
        found = await asyncio.to_thread(look, fleet, llmux)
        if llmux.up and llmux.life is life:
            for complaint, context in found:
                violations.add(complaint, **context)
            if not life.process.running:
                violations.add(f"llmux has ended: {life.process.printed()}")
                await asyncio.to_thread(llmux.start)


def look(fleet: Fleet, llmux: Llmux) -> list[tuple[str, dict[str, Any]]]:
    """
    Look once: what llmux says, what there is, what llmux says.

    :returns: what must not be, each with its context.
    """
    try:
        before = llmux.status()
        held = fleet.held()
        after = llmux.status()
    except (OSError, BenchError) as error:
        return [(f"llmux does not say what it is doing: {error!r}", {})]
    if before is None or after is None:
        running = llmux.life.process.running
        return [("llmux does not say what it is doing", {})] if running and llmux.up else []
    context = {"status": after, "held": held}
    found = [(what, context) for what in _judge(before, held, after)]
    found += [(what, context) for what in _patience(after)]
    return found


def _judge(before: dict[str, Any], held: dict[str, list[int]], after: dict[str, Any]) -> list[str]:
    found = []
    if len(held) > 1:
        found.append(f"more is held than there is: {held}")
    if before["phase"] != "serving" or before["pid"] != after["pid"]:
        return found
    told = states(after)
    claiming = [name for name, state in told.items() if state != "asleep"]
    if len(claiming) > 1:
        found.append(f"llmux itself has more than one model in its slot: {claiming}")
    if at_rest(before) and at_rest(after) and states(before) == told:
        lost = [name for name in held if told.get(name, "asleep") == "asleep"]
        if lost:
            found.append(f"llmux has lost {lost} from view: it runs, and is said to be asleep")
    return found


def _patience(status: dict[str, Any]) -> list[str]:
    found = []
    for model in status["models"]:
        age = model["waiters"]["oldest_secs"]
        if age is not None and age > OLDEST:
            found.append(f"a request has waited {age} s for {model['name']}")
    switch = status["switch"]
    if switch is not None and switch["since_secs"] > LONGEST_SWITCH:
        found.append(f"a switch takes {switch['since_secs']} s")
    return found


def flatness(samples: Sequence[Sample], seconds: float) -> tuple[dict[str, Any], list[str]]:
    """
    Say how descriptors and memory went in a life of llmux.

    :param samples: of that life.
    :param seconds: how long the soak took; the last quarter of it is judged.
    :returns: the figures, and what grew too much.
    """
    last = [each for each in samples if each.at >= samples[-1].at - seconds / 4]
    if len(last) < 4:
        return {"samples": len(samples)}, []
    size = len(last) // 4
    first, end = last[:size], last[-size:]
    figures: dict[str, Any] = {"samples": len(samples), "judged": len(last)}
    complaints = []
    for name, most in (("files", GROWTH_FILES), ("bytes", GROWTH_BYTES)):
        values = [float(getattr(each, name)) for each in last]
        before = mean(float(getattr(each, name)) for each in first)
        after = mean(float(getattr(each, name)) for each in end)
        slope = linear_regression([each.at for each in last], values).slope
        figures[name] = {
            "first_quarter": round(before, 1),
            "last_quarter": round(after, 1),
            "slope_per_hour": round(slope * 3600, 1),
            "least": min(values),
            "most": max(values),
        }
        if after - before >= most:
            complaints.append(f"{name} grew from {before:.0f} to {after:.0f} while llmux ran on")
    return figures, complaints
