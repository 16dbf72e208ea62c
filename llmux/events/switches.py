"""What happens to models: switches, and what is learnt of their state."""

from __future__ import annotations

from txaio.tx import make_logger


class SwitchEvents:
    """Events about models."""

    log = make_logger()

    def switch_started(self, source: str, target: str, evicted: list[str]) -> None:
        """
        Log that a switch has begun: its drain, or from idle its wake.

        :param evicted: all that have to give something back for it.
        """
        self.log.info(
            "switching from {from} to {to}",
            event="switch_started",
            evicted=evicted,
            **{"from": source, "to": target},
        )

    def reservation_asked(self, id: str, needs: dict[str, float], note: str) -> None:
        """Log that somebody who is no model wants room."""
        self.log.info(
            "reservation {id} asks for {needs}",
            event="reservation_asked",
            id=id,
            needs=needs,
            note=note,
        )

    def reservation_held(self, id: str, seconds: float) -> None:
        """Log that it has its room, and how long that took."""
        self.log.info(
            "reservation {id} holds its room, after {duration_secs} s",
            event="reservation_held",
            id=id,
            duration_secs=round(seconds, 3),
        )

    def reservation_ended(self, id: str, cause: str) -> None:
        """Log that a reservation has ended."""
        self.log.info(
            "reservation {id} has ended: {cause}", event="reservation_ended", id=id, cause=cause
        )

    def pin_changed(self, model: str, pinned: bool) -> None:
        """Log that an operator has pinned a model, or that it need not stay any more."""
        self.log.info(
            "{model} {now} stay, whoever waits",
            event="pin_changed",
            model=model,
            pinned=pinned,
            now="is to" if pinned else "need not",
        )

    def model_spared(self, model: str, target: str) -> None:
        """Log that a model need not go after all."""
        self.log.info(
            "{model} stays: there is room for {to} without that",
            event="model_spared",
            model=model,
            to=target,
        )

    def model_activated(
        self, model: str, source: str, seconds: float, placement: dict[str, float]
    ) -> None:
        """
        Log that a model is awake after so many seconds of drain, sleep and wake.

        :param placement: by resource, how much it takes where it is; empty if there is one slot.
        """
        self.log.info(
            "{model} is awake, {duration_secs} s after the switch from {from} began",
            event="model_activated",
            model=model,
            duration_secs=round(seconds, 3),
            placement=placement,
            **{"from": source},
        )

    def switch_failed(self, model: str, source: str, error: str) -> None:
        """Log that a switch to a model did not come to its end."""
        self.log.error(
            "the switch from {from} to {model} failed: {error}",
            event="switch_failed",
            model=model,
            error=error,
            **{"from": source},
        )

    def sleep_hook_failed(self, model: str, target: str, error: str) -> None:
        """Log that a model may still hold what another one needs."""
        self.log.error(
            "{model} did not go to sleep for {to}: {error}",
            event="sleep_hook_failed",
            model=model,
            to=target,
            error=error,
        )

    def switch_called_off(self, source: str, target: str, reason: str) -> None:
        """Log that a switch ended before anything was put to sleep."""
        self.log.info(
            "the switch from {from} to {to} was called off: {reason}",
            event="switch_called_off",
            reason=reason,
            **{"from": source, "to": target},
        )

    def policy_unsettled(self, policy: str) -> None:
        """Log that a policy changed its mind over and over within one moment."""
        self.log.error(
            "the policy {policy} does not settle; it is asked again at the next event",
            event="policy_unsettled",
            policy=policy,
        )

    def alive_doubted(self, model: str, how: str) -> None:
        """Log that a model's ``alive`` has never agreed, and is therefore not believed."""
        self.log.warn(
            "{model} is taken to be awake, for its wake hook succeeded; but its alive hook {how},"
            " and it has never agreed yet: see whether it works",
            event="alive_doubted",
            model=model,
            how=how,
        )

    def model_slept(self, model: str, reason: str, seconds: float) -> None:
        """Log that a model is asleep, and what it was put to sleep for."""
        self.log.info(
            "{model} is asleep, after {duration_secs} s ({reason})",
            event="model_slept",
            model=model,
            reason=reason,
            duration_secs=round(seconds, 3),
        )

    def model_down(self, model: str, cause: str) -> None:
        """Log that a model that was awake does not serve any more."""
        self.log.error(
            "{model} is down: {cause}; it is cleaned up after",
            event="model_down",
            model=model,
            cause=cause,
        )

    def model_found(self, model: str, state: str, cause: str) -> None:
        """Log what is known of a model at the start, where it may hold something."""
        self.log.info(
            "{model} is {state}: {cause}",
            event="model_found",
            model=model,
            state=state,
            cause=cause,
        )

    def model_lost(self, model: str) -> None:
        """Log that a model held something, and nobody knows its hooks any more."""
        self.log.error(
            "{model} was awake when llmux ended, and neither the configuration nor the journal has"
            " its hooks any more; end it by hand",
            event="model_lost",
            model=model,
        )
