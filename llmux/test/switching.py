"""A switcher on a virtual clock, with everything that a test wants to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from llmux.budget import Budget
from llmux.clock import VirtualClock
from llmux.config import ModelConfig
from llmux.costs import SwitchCosts
from llmux.events import Events
from llmux.hooks.contract import Hook, HookCall
from llmux.lease import Lease, Outcome
from llmux.metrics import Metrics
from llmux.policy import FifoPolicy, ISwitchPolicy
from llmux.switcher import Switcher
from llmux.test.fakes import FakeHookRunner, model_config


class Client:
    """
    One request: it waits, holds a lease, or has ended.

    :ivar order: grows with each lease that any client of this bench was given.
    """

    def __init__(self, bench: Bench, model: str, waiting: Deferred[Lease] | None = None) -> None:
        self.model = model
        self.lease: Lease | None = None
        self.error: BaseException | None = None
        self.endings = 0
        self.order = 0
        self._bench = bench
        self.waiting = bench.switcher.acquire(model) if waiting is None else waiting
        self.waiting.addCallbacks(self._served, self._refused)

    def _served(self, lease: Lease) -> None:
        self.endings += 1
        self.lease = lease
        self._bench.leases += 1
        self.order = self._bench.leases
        self._bench.granted(self)

    def _refused(self, failure: object) -> None:
        self.endings += 1
        self.error = failure.value  # type: ignore[attr-defined]  # a Failure

    def finish(self, outcome: Outcome = Outcome.COMPLETE) -> None:
        """Let the answer end."""
        assert self.lease is not None
        self.lease.release(outcome)

    def is_refused(self) -> Client:
        """Let the backend refuse its connection; the request asks for another lease."""
        assert self.lease is not None
        return Client(self._bench, self.model, self._bench.switcher.acquire_again(self.lease))

    def leave(self) -> None:
        """Let the client hang up while it waits."""
        self.waiting.cancel()


class Bench:
    """
    A switcher with a virtual clock and hooks that end when the test says so.

    :param models: their names, or whole configurations.
    :param resources: what there is; ``None``: so many slots.
    :param shared: by name, the models of which any will do.
    :param idle_model: the one that is woken when nothing is asked.
    """

    def __init__(
        self,
        models: Sequence[str | ModelConfig] = ("a", "b"),
        policy: ISwitchPolicy | None = None,
        slots: int = 1,
        alive: frozenset[str] = frozenset(),
        resources: Mapping[str, float] | None = None,
        shared: Mapping[str, tuple[str, ...]] | None = None,
        idle_model: str | None = None,
    ) -> None:
        configs = [m if isinstance(m, ModelConfig) else model_config(m) for m in models]
        configs = [
            attrs.evolve(config, alive=f"alive {config.name}") if config.name in alive else config
            for config in configs
        ]
        self.clock = VirtualClock()
        self.clock.advance(1000)  # a machine has been up for a while
        self.hooks = self.make_hooks(alive)
        self.registry = CollectorRegistry()
        self.events = RecordedEvents()
        self.costs = SwitchCosts()
        self.leases = 0
        self.told_to_sleep: list[str] = []
        self.switcher = Switcher(
            models={config.name: config for config in configs},
            hooks=self.hooks,
            policy=policy or FifoPolicy(),
            clock=self.clock,
            budget=Budget.slots(slots) if resources is None else self.budget(resources),
            metrics=Metrics([config.name for config in configs], self.registry),
            events=self.events,
            costs=self.costs,
            before_sleep=self.before_sleep,
            shared=shared,
            idle_model=idle_model,
        )

    def budget(self, resources: Mapping[str, float]) -> Budget:
        """Make what there is of some resources."""
        return Budget.of(resources)

    def make_hooks(self, alive: frozenset[str]) -> FakeHookRunner:
        """Make what runs the hooks."""
        return FakeHookRunner(self.clock, alive)

    def request(self, model: str) -> Client:
        """Let a client ask for a model."""
        return Client(self, model)

    def granted(self, client: Client) -> None:
        """Do something when a client gets its lease; for subclasses."""

    def before_sleep(self, model: str) -> None:
        """Note which model is about to be put to sleep, and how many hooks ran before."""
        self.told_to_sleep.append(f"{model} after {len(self.hooks.calls)}")

    def states(self) -> dict[str, str]:
        """Give the state of every model, as its name."""
        return {name: state.value for name, state in self.switcher.states().items()}

    def exit(self, code: int = 0) -> HookCall:
        """End the only hook that runs."""
        (hook,) = self.hooks.running
        hook.exit(code)
        return hook.call

    def wake(self, model: str) -> Client:
        """Let a first client wake a model from idle, and give it its lease."""
        client = self.request(model)
        self.clock.advance(2)
        call = self.exit()
        assert (call.hook, call.model) == (Hook.WAKE, model)
        if self.hooks.has(model, Hook.ALIVE):
            assert self.exit().hook is Hook.ALIVE
        return client

    def answer(self, *codes: int) -> list[str]:
        """End one hook after the other with these statuses; say which they were."""
        return [f"{call.hook.value} {call.model}" for call in map(self.exit, codes)]

    def sample(self, name: str, **labels: str) -> float | None:
        """Give the value of one metric."""
        return self.registry.get_sample_value(name, labels)


class RecordedEvents(Events):
    """Events that a test can read."""

    def __init__(self) -> None:
        self.recorded: list[LogEvent] = []
        self.log = _Recorder(self.recorded)

    def named(self, name: str) -> list[LogEvent]:
        """Give the events of one name."""
        return [event for event in self.recorded if event["event"] == name]

    def names(self) -> list[str]:
        """Give the names of all events."""
        return [event["event"] for event in self.recorded]


class _Recorder:
    def __init__(self, recorded: list[LogEvent]) -> None:
        def record(format: str, **fields: object) -> None:
            recorded.append({"log_format": format, **fields})

        self.info = self.warn = self.error = self.debug = record
