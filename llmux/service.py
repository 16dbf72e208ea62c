"""Puts it all together: the only place where the parts are made and handed to one another."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from txaio.tx import make_logger

from llmux.budget import Budget
from llmux.config import Config, ModelConfig
from llmux.costs import SwitchCosts
from llmux.engine.choice import HTTP
from llmux.events import Events
from llmux.front import build_front, build_models
from llmux.hooks.contract import Leftover
from llmux.hooks.runner import HookRunner
from llmux.journal import Journal
from llmux.keeper import Keeper
from llmux.lock import StateLock
from llmux.metrics import Metrics
from llmux.operating import Operator
from llmux.policies import configured_policy
from llmux.proxy import RelayClient
from llmux.recorder import Recorder
from llmux.recordings import Recordings
from llmux.reload import Reload, Reloaded
from llmux.server.site import RelaySite
from llmux.statedir import state_directory
from llmux.status import observe
from llmux.switcher import Switcher
from llmux.web.admin import AdminFace
from llmux.web.app import FrontDoor, health
from llmux.web.guard import Reach
from llmux.web.house import House
from llmux.workers.crew import Crew
from llmux.workers.member import Parent


@attrs.define(eq=False)
class App:
    """
    One multiplexer, ready to be served.

    :ivar house: what all its exchanges share.
    :ivar state_dir: where its state is kept.
    :ivar switcher: gives leases; for programs that embed llmux without HTTP.
    :ivar metrics: in a registry of its own.
    :ivar events: what it logs.
    :ivar clients: by model, what sends to its backend.
    :ivar hooks: runs the models' scripts.
    :ivar resource: answers HTTP requests; it needs the requests of a
        :class:`~llmux.server.site.RelaySite`.
    :ivar site: the same, as a factory to listen with.
    :ivar reloading: has another configuration count.
    :ivar journal: what a restart must know.
    :ivar keeper: writes it.
    :ivar lock: keeps other llmux off the state directory; :meth:`start` takes it.
    :ivar operator: does what operators want.
    :ivar clock: tells the time.
    :ivar recorder: records how much is asked and answered.
    :ivar crew: the workers that relay requests, if this process does not.
    """

    house: House
    state_dir: Path
    switcher: Switcher
    metrics: Metrics
    events: Events
    clients: Mapping[str, RelayClient]
    hooks: HookRunner
    resource: FrontDoor
    site: RelaySite
    reloading: Reload
    journal: Journal
    keeper: Keeper
    lock: StateLock
    operator: Operator
    clock: IReactorTime
    recorder: Recorder
    crew: Crew
    _log = make_logger()

    @property
    def config(self) -> Config:
        """What holds now: what it was built from, or what was applied since."""
        return self.house.config

    def start(self) -> Deferred[None]:
        """
        Find out what the models do, from what was noted down and from themselves.

        Requests that come meanwhile wait.  A program that embeds llmux calls it once, when its
        reactor runs.

        :returns: fires when that is known.
        :raises ConfigError: if another llmux uses the state directory.
        """
        if self.lock.held:
            self.lock.claim()  # twistd has made us another process if it was to become a daemon
        else:
            self.lock.take()
        self.recorder.follow(self.config.record)
        memory = self.journal.read()
        try:
            self.switcher.costs.take_over(SwitchCosts.from_json(memory.costs))
        except ValueError:
            if memory.costs:
                self._log.warn("what was learnt of switches cannot be used, and is learnt anew")
        self.switcher.policy.learn(memory.policy)
        return self.switcher.start(memory)

    def stop(self) -> Deferred[None]:
        """
        End in order, as ``shutdown`` says in the configuration: who waits is refused, who is served
        may go on for a while, hooks that run are waited for.
        """
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> Deferred[Reloaded]:
        """
        Read the configuration again, and have it count if it is good.

        :returns: what that has changed; fails with :class:`ConfigError`, with all that is wrong,
            and nothing has changed then.
        """
        return Deferred.fromCoroutine(self._reload())

    def apply(self, config: Config) -> Deferred[Reloaded]:
        """
        Have another configuration count.

        :param config: all of it; what counts only at the start is left as it is.
        :returns: what that has changed.
        """
        return Deferred.fromCoroutine(self.reloading.apply(config))

    def make_face(self, reach: Reach) -> AdminFace:
        """Make the operator's face, for a listener that so many can reach."""
        return AdminFace(
            self.operator, reach, self.clock, self.events, lambda: health(self.switcher)
        )

    async def _stop(self) -> None:
        settings = self.config.shutdown
        await self.switcher.close(settings.grace_secs, settings.sleep_models)
        self.recorder.stop()
        self.keeper.finish()
        self.lock.release()

    async def _reload(self) -> Reloaded:
        done = await self.reloading.again()
        self.operator.config_loaded()
        return done


def build_app(
    config: Config,
    reactor: Any,
    registry: CollectorRegistry | None = None,
    read: Callable[[], Config] | None = None,
    http: str | None = None,
) -> App:
    """
    Build a multiplexer.  It listens nowhere and has started nothing yet.

    :param config: what to build.
    :param reactor: spawns, connects and tells the time, which should be monotonic:
        :func:`llmux.clock.make_monotonic`.
    :param registry: where the metrics are kept, instead of a registry of their own.
    :param read: reads the configuration again, for :meth:`App.reload`.
    :param http: what reads HTTP, see :data:`llmux.engine.choice.HTTP`; ``None``: what the
        environment asks for, or the fast one.
    :raises UnknownChoice: if that cannot be had.
    :raises ConfigError: if the state directory cannot be used.
    :raises LLMuxError: if its policy cannot be made.
    """
    http = HTTP.made(os.environ) if http is None else http
    metrics = Metrics((*config.models, *config.first_awake), registry)
    events = Events()
    state_dir = state_directory(config.state_dir, config.path)
    journal = Journal(state_dir, events)
    hooks = HookRunner(
        reactor,
        reactor,
        config.models,
        state_dir,
        started=lambda call, process, deadline: keeper.hook_began(
            Leftover(call.model, call.hook, process, deadline)
        ),
        ended=lambda call: keeper.hook_ended(call.model, call.hook),
        resources=config.resources,
    )
    models = build_models(config, reactor, http)

    def configured(model: ModelConfig) -> None:
        models.configure(model)
        hooks.configure(model)
        crew.tell("set_model", model)

    def forgotten(name: str) -> None:
        models.forget(name)
        hooks.forget(name)
        crew.tell("forget_model", name)

    def close_idle(name: str) -> None:
        models.close_idle(name)
        crew.tell("close_idle", name)

    switcher = Switcher(
        models=config.models,
        hooks=hooks,
        policy=configured_policy(config.policy),
        clock=reactor,
        budget=Budget.of(config.resources),
        metrics=metrics,
        events=events,
        costs=SwitchCosts(),
        before_sleep=close_idle,
        configured=configured,
        forgotten=forgotten,
        remember=lambda: keeper.changed(),
        finished=lambda leftover: keeper.hook_ended(leftover.model, leftover.hook),
        shared=config.first_awake,
        idle_model=config.idle_model,
    )
    keeper = Keeper(
        journal,
        reactor,
        lambda: (
            switcher.records(),
            switcher.costs.as_json(),
            switcher.policy.as_json(),
            switcher.reservations.records(),
        ),
        promised=lambda: (
            switcher.reservations.records(),
            {name: model.pin for name, model in switcher.models.items()},
        ),
    )
    metrics.watch(lambda: observe(switcher, reactor.seconds()))
    recorder = Recorder(reactor, events, switched=lambda on: crew.tell("record", on))
    crew = Crew(
        Parent(
            reactor,
            switcher,
            metrics,
            recorder,
            events,
            lambda: house.config,
            models.settings,
        )
    )
    front = build_front(config, reactor, models, switcher, metrics, events, recorder, http)
    house = front.house
    reloading = Reload(
        read, house, front.site, switcher, hooks, metrics, events, recorder, crew.configure
    )
    app = App(
        house=house,
        state_dir=state_dir,
        switcher=switcher,
        metrics=metrics,
        events=events,
        clients=models.clients,
        hooks=hooks,
        resource=front.resource,
        site=front.site,
        reloading=reloading,
        journal=journal,
        keeper=keeper,
        lock=StateLock(state_dir, config.path),
        operator=Operator(
            switcher,
            hooks,
            lambda: house.config,
            lambda: app.reload(),
            reactor,
            Recordings(recorder, state_dir),
            crew.as_json,
        ),
        clock=reactor,
        recorder=recorder,
        crew=crew,
    )
    return app
