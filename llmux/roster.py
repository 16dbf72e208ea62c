"""Which models there are: what changes when the configuration does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from llmux.admission import Admission
from llmux.config import ModelConfig
from llmux.errors import UnknownModel
from llmux.events import Events
from llmux.lifecycle import Model, Prepared
from llmux.outlook import Outlook


@attrs.frozen
class Changes:
    """
    What a new configuration changes about the models; each is a name.

    :param added: were not there before.
    :param removed: are there no longer; they go as soon as nothing runs on them.
    :param changed: have other settings.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@attrs.define(eq=False)
class Roster:
    """
    Takes over new configurations of models, and lets those go that have none any more.

    :param admission: has the models.
    :param events: logs what cannot be done.
    :param configured: called with each configuration of a model when it begins to count.
    :param forgotten: called with the name of each model that is not there any more.
    :param outlook: knows what is under way, and what there is.
    :ivar pending: whether :meth:`settle` has something to wait for.
    """

    _admission: Admission
    _events: Events
    _configured: Callable[[ModelConfig], None]
    _forgotten: Callable[[str], None]
    _outlook: Outlook
    pending: bool = False

    def reconfigure(
        self, configs: Mapping[str, ModelConfig], shared: Mapping[str, tuple[str, ...]]
    ) -> Changes:
        """
        Take over a configuration.

        Models that stay as they are are not touched.  Another address counts when the model has
        gone to sleep at the old one; all else counts at once, hooks from their next run on.

        :param configs: by name, in the order of the configuration.
        :param shared: by name, the models of which any can serve a request for it.
        """
        models = self._admission.models
        added, removed, changed = [], [], []
        for name, config in configs.items():
            model = models.get(name)
            if model is None:
                models[name] = self._admission.make_model(config)
                self._configured(config)
                added.append(name)
            elif model.removed or config != (model.successor or model.config):
                self._change(model, config)
                changed.append(name)
        for name, model in models.items():
            if name not in configs and not model.removed:
                model.removed = True
                self._admission.refuse_own(model, lambda name=name: UnknownModel(name))  # type: ignore[misc]  # mypy#15459
                removed.append(name)
        self.settle()
        in_order = {name: models.pop(name) for name in configs}
        leaving = dict(models)
        models.clear()
        models.update({**in_order, **leaving})
        self._admission.share(shared)
        return Changes(tuple(added), tuple(removed), tuple(changed))

    def recall(self, name: str, document: Mapping[str, object]) -> None:
        """
        Take in a model that held something when llmux ended.

        If it is not in the configuration any more, or at another address there, it has to go from
        where it was, by the hooks that it had then.

        :param document: its configuration then; :meth:`ModelConfig.as_json`.
        """
        model = self._admission.models.get(name)
        try:
            config = ModelConfig.from_json(document)
        except ValueError:
            if model is None:
                self._events.model_lost(name)
            return
        if model is None:
            model = self._admission.make_model(config)
            model.removed = True
            self._admission.models[name] = model
        elif config.backend != model.config.backend:
            model.config, model.successor = config, model.config
        else:
            return
        self.pending = True
        self._configured(config)

    def settle(self) -> None:
        """Let models go, or change over, that were waited for to be asleep and unused."""
        models = self._admission.models
        for name, model in list(models.items()):
            if not model.gone or self._outlook.is_moving(model):
                continue
            if model.removed and not model.in_use and not model.preparing:
                del models[name]
                self._forgotten(name)
            elif model.successor is not None:
                self._take_over(model, model.successor)
        self.pending = any(model.moving for model in models.values())

    def check_place(self, model: Model) -> None:
        """Forget where a model is if there is no such place any more: it may be in any of its."""
        if model.placement is not None and not self._outlook.budget.knows(model.placement.needs):
            model.placement = None

    def _change(self, model: Model, config: ModelConfig) -> None:
        model.removed = False
        if config.backend == model.config.backend:
            model.successor = None
            self._take_over(model, config)
        elif model.gone:
            self._take_over(model, config)
        else:
            model.successor = config

    def _take_over(self, model: Model, config: ModelConfig) -> None:
        if model.config.pinned is not config.pinned:
            model.pin = None  # the file has the last word
        model.config, model.successor = config, None
        model.prepared = Prepared.NO
        self.check_place(model)
        model.waiting.limit(config.request_timeout_secs)
        self._configured(config)
