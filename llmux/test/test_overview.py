"""Tests of :mod:`llmux.overview`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from llmux.overview import lasting, render, render_recording
from llmux.test.statuses import a_hook, a_model, a_status, a_switch


def waiters(count: int, oldest: float) -> dict[str, object]:
    """Make what is told of a queue."""
    return {"count": count, "oldest_secs": oldest, "ages_secs": [oldest] * count}


def notes(*models: dict[str, object], columns: int | None = None, **changes: object) -> list[str]:
    """Give the lines below the table, for models that stand in one."""
    lines = render(a_status(*models, **changes), columns).splitlines()
    below = lines[lines.index("", 3) :] if "" in lines[3:] else []
    return below[1:]


BUSY = (
    a_model("qwen3-8b", "draining", leases=3, hooks={"wake": a_hook(), "alive": a_hook()}),
    a_model("gemma", waiters=waiters(2, 41), hooks={"sleep": a_hook(duration_secs=0.4)}),
    a_model("big/llama-70b", "unknown", since_secs=7300),
)


class WorkerTests(SynchronousTestCase):
    def test_workers(self) -> None:
        """Each worker is told, if there are any: what it has to do, and how it fares."""
        one = {"worker": 1, "pid": 4712, "restarts": 0, "in_flight": 3, "waiting": 2}
        two = {"worker": 2, "pid": None, "restarts": 4, "in_flight": 0, "waiting": 0}
        self.assertEqual(
            notes(a_model("a"), workers=[one, two]),
            [
                "worker 1 (process 4712): 3 in flight, 2 waiting",
                "worker 2 is not running, started again 4 times",
            ],
        )


class TableTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Everything that matters is seen at once, in columns that stand one below the other."""
        shown = render(
            a_status(*BUSY, switches=[a_switch(**{"from": ["qwen3-8b"], "to": "gemma"})])
        )
        self.assertEqual(
            shown.splitlines(),
            [
                "llmux 3.0.0, serving, up for 2 h (pid 4711)",
                "/etc/llmux/config.yaml",
                "",
                "MODEL          STATE     SINCE  IN FLIGHT   WAITING  LAST HOOK",
                "qwen3-8b       draining   83 s          3         0  wake 12 s",
                "gemma          asleep     83 s          0  2 (41 s)  sleep 0.4 s",
                "big/llama-70b  unknown     2 h          0         0",
                "",
                "switching from qwen3-8b to gemma: draining for 3.2 s, 2 in flight; requests wait"
                " for b",
            ],
        )

    def test_80_columns(self) -> None:
        """On a terminal no line is wider than it; long names lose their middle."""
        long = "meta-llama/Llama-3.1-70B-Instruct-AWQ-INT4-with-a-very-long-name"
        status = a_status(
            a_model(long, "draining", waiters=waiters(1000, 5000), hooks={"freed": a_hook()}),
            a_model("a", hooks={"wake": a_hook(result="failed", how="exited with status 1 " * 9)}),
            switches=[a_switch(why="requests wait " * 9)],
        )
        lines = render(status, 80).splitlines()
        self.assertLessEqual(max(map(len, lines)), 80, lines)
        (row,) = [line for line in lines if line.startswith("meta")]
        self.assertIn("...", row)
        self.assertIn("ame  draining", row)
        self.assertIn(long, render(status))

    def test_narrow(self) -> None:
        """On a very narrow terminal names are still told apart."""
        lines = render(a_status(a_model("a-long-name-of-a-model-1")), 20).splitlines()
        self.assertTrue(lines[-1].startswith("a-lon...el-1  asleep"), lines[-1])

    def test_config(self) -> None:
        """A configuration that has changed since is pointed out; none at all is not."""
        config = {"path": "/x.yaml", "loaded_at": "", "modified": True}
        self.assertIn("/x.yaml; changed since it was read (llmux reload)",
                      render(a_status(config=config)))  # fmt: skip
        lines = render(a_status(config={**config, "path": None})).splitlines()
        self.assertEqual(lines[1], "")

    def test_last_hook(self) -> None:
        """The last hook that changed something is shown; one that runs comes first."""
        for hooks, expected in (
            ({}, ""),
            ({"alive": a_hook()}, ""),
            ({"wake": a_hook(ended_secs_ago=9), "sleep": a_hook(ended_secs_ago=5)}, "sleep 12 s"),
            ({"wake": a_hook(ended_secs_ago=0.1),
              "sleep": a_hook(result="running", ended_secs_ago=None)}, "sleep runs"),
            ({"kill": a_hook(result="failed")}, "kill failed"),
            ({"prepare": a_hook(result="stopped")}, "prepare stopped"),
        ):  # fmt: skip
            line = render(a_status(a_model("a", hooks=hooks))).splitlines()[4]
            self.assertEqual(" ".join(line.split()[6:]), expected, line)

    def test_lasting(self) -> None:
        """Durations are short, and never of a size that nobody reads."""
        for seconds, expected in (
            (0, "0.0 s"), (-1, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"),
            (119.4, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"),
            (172799, "48 h"), (172800, "2 d"), (1e7, "116 d"),
        ):  # fmt: skip
            self.assertEqual(lasting(seconds), expected)


class RecordingTests(SynchronousTestCase):
    def test_sentences(self) -> None:
        """It is said what is recorded or was, and what could not be."""
        for path, since, lost, said in (
            (None, None, 0, "nothing is recorded"),
            (None, "2031-01-01T00:00:00+00:00", 0,
             "nothing is recorded any more; requests recorded: 7"),
            ("/t", "2031-01-01T00:00:00+00:00", 0,
             "recording to /t since 2031-01-01T00:00:00+00:00; requests recorded: 7"),
            ("/t", "2031-01-01T00:00:00+00:00", 2,
             "recording to /t since 2031-01-01T00:00:00+00:00; requests recorded: 7, lost: 2"),
        ):  # fmt: skip
            document = {"path": path, "since": since, "rows": 7, "lost": lost}
            self.assertEqual(render_recording(document), said)


class NoteTests(SynchronousTestCase):
    def test_quiet(self) -> None:
        """Where nothing goes on nothing is said."""
        self.assertEqual(notes(a_model("a")), [])

    def test_switches(self) -> None:
        """What is being switched is said with its phase and why."""
        for changes, expected in (
            ({"from": [], "phase": "waking", "leases": 0},
             "waking b: waking for 3.2 s; requests wait for b"),
            ({"from": ["a", "c"], "phase": "sleeping", "leases": 0},
             "switching from a, c to b: sleeping for 3.2 s; requests wait for b"),
            ({"to": None, "why": "an operator wants it"},
             "putting a to sleep: draining for 3.2 s, 2 in flight; an operator wants it"),
        ):  # fmt: skip
            self.assertEqual(notes(a_model("a"), switches=[a_switch(**changes)]), [expected])

    def test_orders(self) -> None:
        """Orders that are not carried out yet are not forgotten."""
        orders = [{"order": "wake", "model": "b", "waiting_secs": 3},
                  {"order": "reload", "model": "", "waiting_secs": 80}]  # fmt: skip
        self.assertEqual(
            notes(a_model("a"), orders=orders),
            ["ordered 3.0 s ago, not done yet: wake b", "ordered 80 s ago, not done yet: reload"],
        )

    def test_troubles(self) -> None:
        """What went wrong is said of each model, and when it is tried again."""
        failed = a_hook(result="failed", how="exited with status 1", ended_secs_ago=3)
        model = a_model(
            "a",
            hooks={"wake": failed, "sleep": a_hook()},
            back_off={"wake_secs": 12, "sleep_secs": 8, "failures": 2},
            health={"alive": "disagrees", "failures": 2, "asked_secs_ago": 1},
            removed=True,
        )
        self.assertEqual(
            notes(model),
            [
                "a: wake exited with status 1, 3.0 s ago",
                "a: is not woken for another 12 s",
                "a: is not put to sleep for another 8.0 s",
                "a: alive disagrees (2 in a row)",
                "a: is not in the configuration any more",
            ],
        )

    def test_failure_that_is_past(self) -> None:
        """A failure is no news once another hook of the model has succeeded."""
        hooks = {"wake": a_hook(result="failed"), "sleep": a_hook(ended_secs_ago=1)}
        self.assertEqual(notes(a_model("a", hooks=hooks)), [])
