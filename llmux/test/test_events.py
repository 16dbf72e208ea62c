"""Tests of :mod:`llmux.events`."""

from __future__ import annotations

import inspect
import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from txaio.tx import make_logger, set_global_log_level

from llmux.events import Events
from llmux.logs import format_json

# The events of llmux 2.4.0 and their fields, and behind a + what is added to them here.
OLD = {
    "switch_started": "from to + evicted",
    "model_activated": "model from duration_secs + placement",
    "switch_failed": "model from error",
    "sleep_hook_failed": "model to error",
    "request_timeout": "model timeout_secs",
    "hook_completed": "model hook duration_secs + reason",
    "hook_failed": "model hook exit_code duration_secs stderr + reason how",
}
NEW = {
    "model_spared": "model to",
    "reservation_asked": "id needs note",
    "reservation_held": "id duration_secs",
    "reservation_ended": "id cause",
    "pin_changed": "model pinned now",
    "hook_stopped": "model hook reason duration_secs",
    "prepare_started": "model",
    "prepared_in_vain": "model woken",
    "hook_left": "model hook pid",
    "alive_doubted": "model how",
    "model_slept": "model reason duration_secs",
    "model_down": "model cause",
    "model_found": "model state cause",
    "model_lost": "model",
    "listening": "url models",
    "switch_called_off": "from to reason",
    "request_ended": (
        "request_id model method path status how bytes_in bytes_out"
        " queue_secs first_byte_secs duration_secs"
    ),
    "own_path_asked": "request_id method path status duration_secs",
    "operator_asked": "order model client request_id",
    "operator_answered": "order model status duration_secs request_id",
    "connections_limited": "wanted allowed open_files",
    "worker_began": "worker worker_pid",
    "worker_ended": "worker worker_pid how in_flight again_secs",
    "worker_killed": "worker worker_pid cause",
    "recording_began": "path",
    "recording_ended": "path rows lost",
    "recording_failed": "path error",
    "recording_resumed": "path lost",
    "journal_failed": "path error",
    "journal_written": "path",
    "journal_unreadable": "path error kept",
    "policy_unsettled": "policy",
    "max_wait_missed": "model late longest_secs max_wait_secs",
    "operators_listening": "url",
    "config_reloaded": "path changed added removed needs_restart",
    "config_rejected": "path problems",
    "stopping": "signal grace_secs in_flight waiting",
    "stopped": "duration_secs",
}


def record() -> tuple[Events, list[LogEvent]]:
    """Make events that only this test sees."""
    seen: list[LogEvent] = []
    events = Events()
    events.log = make_logger(level="debug", observer=seen.append)
    events.publish = seen.append  # type: ignore[assignment]  # all that it needs
    return events, seen


def end_request(events: Events, model: str, path: str = "/v1/chat/completions") -> None:
    """Let a request end."""
    events.request_ended(
        request_id="r1",
        model=model,
        method="POST",
        path=path,
        status=200,
        how="complete",
        bytes_in=14,
        bytes_out=5,
        waited=41.20004,
        first_byte=42.12345,
        seconds=50.00005,
    )


def log_everything(events: Events) -> None:
    """Let everything happen once."""
    events.switch_started("a", "b", ["a"])
    events.model_spared("a", "b")
    events.reservation_asked("5f", {"gpu0": 20.0}, "training")
    events.reservation_held("5f", 12.34567)
    events.reservation_ended("5f", "it was given back")
    events.pin_changed("a", True)
    events.model_activated("b", "a", 41.23456, {"gpu0": 20.0})
    events.switch_failed("b", "a", "the wake hook exited with status 1")
    events.sleep_hook_failed("a", "b", "the sleep hook exited with status 1")
    events.request_timeout("b", 30.0)
    events.hook_completed("b", "wake", "request", 40.00049)
    events.hook_failed(
        "a", "sleep", "request", 1.50049, 1, "exited with status 1", "no such\nthing"
    )
    events.hook_stopped("b", "alive", "health", 0.10049)
    events.prepare_started("b")
    events.prepared_in_vain("b", "c")
    events.hook_left("b", "wake", 4711)
    events.alive_doubted("b", "exited with status 1")
    events.model_slept("a", "request", 1.50049)
    events.model_down("b", "nobody listens at its address")
    events.model_found("b", "unknown", "its alive hook agrees")
    events.model_lost("c")
    events.listening("http://127.0.0.1:3000", ["a", "b"])
    events.switch_called_off("a", "b", "nobody waits for it any more")
    end_request(events, model="b")
    events.own_path_asked(
        request_id="r2", method="GET", path="/health", status=200, seconds=0.00149
    )
    events.operator_asked(order="wake", model="b", client="127.0.0.1", request_id="r3")
    events.operator_answered(order="wake", model="b", status=200, seconds=12.34567, request_id="r3")
    events.connections_limited(10000, 6624, 20000)
    events.worker_began(2, 4711)
    events.worker_killed(2, 4711, "it has not answered for 5 s")
    events.worker_ended(2, 4711, "by signal 9", 3, 4.0004)
    events.recording_began("/s/trace.csv")
    events.recording_failed("/s/trace.csv", "No space left on device")
    events.recording_resumed("/s/trace.csv", 3)
    events.recording_ended("/s/trace.csv", 5, 3)
    events.journal_failed("/s/journal.json", "No space left on device")
    events.journal_written("/s/journal.json")
    events.journal_unreadable("/s/journal.json", "it is no JSON", "it is journal.json.broken now")
    events.policy_unsettled("FifoPolicy")
    events.max_wait_missed("b", 3, 61.23456, 60.0)
    events.operators_listening("http://127.0.0.1:3001")
    events.config_reloaded(
        path="c.yaml", changed=["a"], added=[], removed=[], needs_restart=["host"]
    )
    events.config_rejected("c.yaml", ["c.yaml:3: port: a {port}"])
    events.stopping("TERM", 30.0, in_flight=2, waiting=1)
    events.stopped(1.23456)


def fields(event: LogEvent) -> dict[str, object]:
    """Give an event's own fields."""
    return {name: value for name, value in event.items() if not name.startswith("log_")}


class EventsTests(SynchronousTestCase):
    def logged(self) -> dict[str, LogEvent]:
        """Let everything happen, and give the events by name."""
        events, seen = record()
        log_everything(events)
        return {event["event"]: event for event in seen}

    def test_names_and_fields(self) -> None:
        """Each event has its fixed name and fields, so that queries of old go on working."""
        got = {name: set(fields(event)) for name, event in self.logged().items()}
        expected = {
            name: {"event", *words.split()} - {"+"} for name, words in {**OLD, **NEW}.items()
        }
        self.assertEqual(got, expected)

    def test_all(self) -> None:
        """There is no event that these tests do not know."""
        methods = {name for name, _ in inspect.getmembers(Events, inspect.isfunction)}
        self.assertEqual(methods, {*OLD, *NEW})

    def test_values(self) -> None:
        """The fields hold what happened; seconds are rounded to milliseconds."""
        expected: dict[str, dict[str, object]] = {
            "switch_started": {"from": "a", "to": "b", "evicted": ["a"]},
            "model_spared": {"model": "a", "to": "b"},
            "reservation_asked": {"id": "5f", "needs": {"gpu0": 20.0}, "note": "training"},
            "reservation_held": {"id": "5f", "duration_secs": 12.346},
            "reservation_ended": {"id": "5f", "cause": "it was given back"},
            "pin_changed": {"model": "a", "pinned": True, "now": "is to"},
            "model_activated": {
                "model": "b", "from": "a", "duration_secs": 41.235, "placement": {"gpu0": 20.0},
            },
            "switch_failed": {
                "model": "b", "from": "a", "error": "the wake hook exited with status 1",
            },
            "sleep_hook_failed": {
                "model": "a", "to": "b", "error": "the sleep hook exited with status 1",
            },
            "request_timeout": {"model": "b", "timeout_secs": 30.0},
            "hook_completed": {
                "model": "b", "hook": "wake", "reason": "request", "duration_secs": 40.0,
            },
            "hook_failed": {
                "model": "a", "hook": "sleep", "reason": "request", "duration_secs": 1.5,
                "exit_code": 1, "stderr": "no such\nthing", "how": "exited with status 1",
            },
            "hook_stopped": {
                "model": "b", "hook": "alive", "reason": "health", "duration_secs": 0.1,
            },
            "prepare_started": {"model": "b"},
            "prepared_in_vain": {"model": "b", "woken": "c"},
            "hook_left": {"model": "b", "hook": "wake", "pid": 4711},
            "alive_doubted": {"model": "b", "how": "exited with status 1"},
            "model_slept": {"model": "a", "reason": "request", "duration_secs": 1.5},
            "model_down": {"model": "b", "cause": "nobody listens at its address"},
            "model_found": {"model": "b", "state": "unknown", "cause": "its alive hook agrees"},
            "model_lost": {"model": "c"},
            "listening": {"url": "http://127.0.0.1:3000", "models": ["a", "b"]},
            "switch_called_off": {
                "from": "a", "to": "b", "reason": "nobody waits for it any more",
            },
            "request_ended": {
                "request_id": "r1", "model": "b", "method": "POST",
                "path": "/v1/chat/completions", "status": 200, "how": "complete",
                "bytes_in": 14, "bytes_out": 5,
                "queue_secs": 41.2, "first_byte_secs": 42.123, "duration_secs": 50.0,
            },
            "own_path_asked": {
                "request_id": "r2", "method": "GET", "path": "/health", "status": 200,
                "duration_secs": 0.001,
            },
            "operator_asked": {
                "order": "wake", "model": "b", "client": "127.0.0.1", "request_id": "r3",
            },
            "operator_answered": {
                "order": "wake", "model": "b", "status": 200, "duration_secs": 12.346,
                "request_id": "r3",
            },
            "connections_limited": {"wanted": 10000, "allowed": 6624, "open_files": 20000},
            "worker_began": {"worker": 2, "worker_pid": 4711},
            "worker_killed": {
                "worker": 2, "worker_pid": 4711, "cause": "it has not answered for 5 s",
            },
            "worker_ended": {
                "worker": 2, "worker_pid": 4711, "how": "by signal 9", "in_flight": 3,
                "again_secs": 4.0,
            },
            "recording_began": {"path": "/s/trace.csv"},
            "recording_failed": {"path": "/s/trace.csv", "error": "No space left on device"},
            "recording_resumed": {"path": "/s/trace.csv", "lost": 3},
            "recording_ended": {"path": "/s/trace.csv", "rows": 5, "lost": 3},
            "journal_failed": {"path": "/s/journal.json", "error": "No space left on device"},
            "journal_written": {"path": "/s/journal.json"},
            "journal_unreadable": {
                "path": "/s/journal.json", "error": "it is no JSON",
                "kept": "it is journal.json.broken now",
            },
            "policy_unsettled": {"policy": "FifoPolicy"},
            "max_wait_missed": {
                "model": "b",
                "late": 3,
                "longest_secs": 61.235,
                "max_wait_secs": 60.0,
            },
            "operators_listening": {"url": "http://127.0.0.1:3001"},
            "config_reloaded": {
                "path": "c.yaml", "changed": ["a"], "added": [], "removed": [],
                "needs_restart": ["host"],
            },
            "config_rejected": {"path": "c.yaml", "problems": ["c.yaml:3: port: a {port}"]},
            "stopping": {"signal": "TERM", "grace_secs": 30.0, "in_flight": 2, "waiting": 1},
            "stopped": {"duration_secs": 1.235},
        }  # fmt: skip
        for name, event in self.logged().items():
            self.assertEqual(fields(event), {"event": name, **expected[name]})
            written = json.loads(format_json({"log_time": 0.0, **event}))
            self.assertLessEqual(expected[name].items(), written.items(), name)

    def test_levels(self) -> None:
        """What an operator has to look at is an error; what clients do is none."""
        errors = {
            "switch_failed", "sleep_hook_failed", "hook_failed", "policy_unsettled",
            "journal_failed", "journal_unreadable", "config_rejected", "recording_failed",
            "model_down", "model_lost", "worker_ended", "worker_killed",
        }  # fmt: skip
        warnings = {"request_timeout", "max_wait_missed", "connections_limited", "alive_doubted"}
        for name, event in self.logged().items():
            level = LogLevel.error if name in errors else LogLevel.info
            if name in warnings:
                level = LogLevel.warn
            elif name == "own_path_asked":
                level = LogLevel.debug
            self.assertEqual(event["log_level"], level, name)

    def test_sentences(self) -> None:
        """Every event reads as a sentence that says what happened to what."""
        said = {name: formatEvent(event) for name, event in self.logged().items()}
        self.assertEqual(
            said,
            {
                "switch_started": "switching from a to b",
                "model_spared": "a stays: there is room for b without that",
                "reservation_asked": "reservation 5f asks for {'gpu0': 20.0}",
                "reservation_held": "reservation 5f holds its room, after 12.346 s",
                "reservation_ended": "reservation 5f has ended: it was given back",
                "pin_changed": "a is to stay, whoever waits",
                "model_activated": "b is awake, 41.235 s after the switch from a began",
                "switch_failed": "the switch from a to b failed: the wake hook exited with"
                " status 1",
                "sleep_hook_failed": "a did not go to sleep for b: the sleep hook exited with"
                " status 1",
                "request_timeout": "a request for b waited 30.0 s, as long as it may",
                "hook_completed": "the wake hook of b took 40.0 s (request)",
                "hook_failed": "the sleep hook of a exited with status 1 (request);"
                " it printed last:\nno such\nthing",
                "hook_stopped": "the alive hook of b was ended after 0.1 s (health)",
                "prepare_started": "preparing b",
                "prepared_in_vain": "b was prepared in vain: c was woken instead",
                "hook_left": "the wake hook of b may still run from before (process 4711):"
                " waiting for it",
                "alive_doubted": "b is taken to be awake, for its wake hook succeeded; but its"
                " alive hook exited with status 1, and it has never agreed yet: see whether it"
                " works",
                "model_slept": "a is asleep, after 1.5 s (request)",
                "model_down": "b is down: nobody listens at its address; it is cleaned up after",
                "model_found": "b is unknown: its alive hook agrees",
                "model_lost": "c was awake when llmux ended, and neither the configuration nor the"
                " journal has its hooks any more; end it by hand",
                "listening": "listening on http://127.0.0.1:3000 for ['a', 'b']",
                "switch_called_off": "the switch from a to b was called off: nobody waits for it"
                " any more",
                "request_ended": "POST /v1/chat/completions for b: 200, complete after 50.0 s"
                " (41.2 s waiting, 14 bytes in, 5 out, r1)",
                "own_path_asked": "GET /health: 200 after 0.001 s (r2)",
                "operator_asked": "an operator at 127.0.0.1 orders: wake b (r3)",
                "operator_answered": "the order wake b ended with 200 after 12.346 s (r3)",
                "connections_limited": "6624 clients can be connected at once, not 10000: a process"
                " may have 20000 open files here; raise its hard limit (ulimit -Hn, LimitNOFILE=)",
                "worker_began": "worker 2 serves clients, as process 4711",
                "worker_killed": "worker 2 (process 4711) is killed: it has not answered for 5 s",
                "worker_ended": "worker 2 (process 4711) has ended by signal 9; 3 requests were"
                " cut, and it is started again in 4.0 s",
                "recording_began": "recording sizes and times of requests to /s/trace.csv",
                "recording_failed": "requests are not recorded: /s/trace.csv: No space left on"
                " device; llmux goes on, and tries again with each request",
                "recording_resumed": "requests are recorded to /s/trace.csv again; 3 were not",
                "recording_ended": "5 requests were recorded to /s/trace.csv, 3 could not be",
                "journal_failed": "the journal /s/journal.json cannot be written: No space left on"
                " device; llmux goes on, but a restart would not know what happens now",
                "journal_written": "the journal /s/journal.json can be written again",
                "journal_unreadable": "the journal /s/journal.json cannot be used: it is no JSON;"
                " it is journal.json.broken now, and llmux starts without it",
                "max_wait_missed": "3 requests for b waited longer than 60.0 s, up to 61.235 s",
                "policy_unsettled": "the policy FifoPolicy does not settle;"
                " it is asked again at the next event",
                "operators_listening": "operators are heard on http://127.0.0.1:3001",
                "config_reloaded": "c.yaml was read again; models changed: ['a'], added: [],"
                " removed: []; only a restart changes ['host']",
                "config_rejected": "c.yaml was read again and cannot be used; nothing has"
                " changed:\nc.yaml:3: port: a {port}",
                "stopping": "ending by TERM: 2 requests in flight may go on for 30.0 s,"
                " 1 that wait are refused",
                "stopped": "ended after 1.235 s",
            },
        )

    def test_an_order_without_a_model(self) -> None:
        """An order that is about all models names none."""
        events, seen = record()
        events.operator_asked(order="reload", model="", client="unix", request_id="r1")
        self.assertEqual(formatEvent(seen[0]), "an operator at unix orders: reload (r1)")

    def test_a_hook_that_did_not_exit(self) -> None:
        """A hook that printed nothing and has no exit status is told without them."""
        events, seen = record()
        events.hook_failed("a", "wake", "request", 600.0, None, "was ended", "")
        (event,) = seen
        self.assertEqual((event["exit_code"], event["stderr"]), (None, ""))
        self.assertEqual(formatEvent(event), "the wake hook of a was ended (request)")

    @given(st.text(), st.text())
    def test_words_of_clients(self, model: str, path: str) -> None:
        """What clients make up neither fills the log nor forges a line of it."""
        events, seen = record()
        end_request(events, model=model * 50, path=path)
        (event,) = seen
        self.assertTrue(formatEvent(event).isprintable())
        self.assertLess(len(event["model"]), 2500)

    def test_long_names(self) -> None:
        """A name of a million characters is cut; one that can be a model's is not."""
        for name, shown in (("x" * 200, "x" * 200), ("x" * 1_000_000, "x" * 200 + "...")):
            events, seen = record()
            end_request(events, model=name)
            self.assertEqual(seen[0]["model"], shown)


class QuietTests(SynchronousTestCase):
    def test_whether_anybody_hears(self) -> None:
        """Where nothing is logged of requests that have ended, nothing need be made for that."""
        self.addCleanup(set_global_log_level, "info")
        for level, hears in (("debug", True), ("info", True), ("warn", False), ("error", False)):
            set_global_log_level(level)
            self.assertIs(Events().tells_of_requests, hears, level)
