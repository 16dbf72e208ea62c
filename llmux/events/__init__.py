"""
The structured log events: a fixed name and fixed fields each, for queries and for people.

Names and fields are those of llmux 2.4.0, so that ``| json | event = "switch_started"`` goes on
working.
"""

from __future__ import annotations

from txaio.tx import make_logger

from llmux.events.hooks import HookEvents
from llmux.events.requests import RequestEvents
from llmux.events.running import RunningEvents
from llmux.events.switches import SwitchEvents
from llmux.events.workers import WorkerEvents


class Events(SwitchEvents, HookEvents, RequestEvents, RunningEvents, WorkerEvents):
    """Writes each event with txaio's logger; where it goes from there is up to the program."""

    log = make_logger()
