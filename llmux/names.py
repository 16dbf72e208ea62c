"""The names that clients use, and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping

from llmux.config import Config, ModelConfig
from llmux.errors import UnknownModel
from llmux.readers import near_miss

_LONGEST_GUESS = 200  # characters of a name for which it is guessed what was meant


class Names:
    """
    Resolves names.

    :param config: what holds.
    :ivar listed: all of them, in the order in which clients are shown them.
    """

    def __init__(self, config: Config) -> None:
        self._asked = {
            **{name: name for name in (*config.models, *config.first_awake)},
            **{alias: name for name, model in config.models.items() for alias in model.aliases},
        }
        self._default = config.default_model
        self._members: Mapping[str, tuple[str, ...]] = config.first_awake
        self.listed = tuple(sorted(self._asked))

    def __contains__(self, name: object) -> bool:
        return name in self._asked

    def resolve(self, name: str) -> str:
        """
        Say what a name stands for.

        :param name: what a client asks for; empty: it names nothing, and gets the default.
        :returns: the name of a model, or of several of which any will do.
        :raises UnknownModel: if it stands for nothing.
        """
        found = self._asked.get(name or self._default or "")
        if found is None:
            raise self.unknown(name)
        return found

    def unknown(self, name: str) -> UnknownModel:
        """Make the error for a name that stands for nothing; it says what was probably meant."""
        hint = near_miss(name, self._asked) if len(name) <= _LONGEST_GUESS else ""
        return UnknownModel(name, hint)

    @property
    def has_default(self) -> bool:
        """Whether a request may name no model."""
        return self._default is not None

    def models(self, name: str) -> tuple[str, ...]:
        """Give the models that a name, or what it stands for, may be served by; perhaps none."""
        found = self._asked.get(name, "")
        return self._members.get(found, (found,) if found else ())

    def at_backend(self, said: str, model: ModelConfig) -> str | None:
        """
        Say what a request has to call a model for its backend.

        No backend knows llmux's names for it: without ``rewrite_model`` it is the model's own name.

        :param said: what the request calls it.
        :returns: ``None`` if that may stay: it is right, or no name of ours.
        """
        wanted = model.rewrite_model or model.name
        if said == wanted:
            return None
        if model.rewrite_model is None and model.name not in self.models(said):
            return None
        return wanted
