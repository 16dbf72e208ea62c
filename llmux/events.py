"""
The structured log events: a fixed name and fixed fields each, for queries and for people.

Names and fields are those of llmux 2.4.0, so that ``| json | event = "switch_started"`` goes on
working; events that this program adds stand at the end.
"""

from __future__ import annotations

from txaio.tx import make_logger

_LONGEST = 200  # characters of a client's own words that a line repeats


class Events:
    """Writes each event with txaio's logger; where it goes from there is up to the program."""

    log = make_logger()

    def switch_started(self, source: str, target: str) -> None:
        """Log that a switch has begun: its drain, or from idle its wake."""
        self.log.info(
            "switching from {from} to {to}",
            event="switch_started",
            **{"from": source, "to": target},
        )

    def model_activated(self, model: str, source: str, seconds: float) -> None:
        """Log that a model is awake after so many seconds of drain, sleep and wake."""
        self.log.info(
            "{model} is awake, {duration_secs} s after the switch from {from} began",
            event="model_activated",
            model=model,
            duration_secs=round(seconds, 3),
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

    def request_timeout(self, model: str, timeout: float) -> None:
        """Log that a request has waited as long as it may."""
        self.log.warn(
            "a request for {model} waited {timeout_secs} s, as long as it may",
            event="request_timeout",
            model=model,
            timeout_secs=timeout,
        )

    def hook_completed(self, model: str, hook: str, reason: str, seconds: float) -> None:
        """Log that a hook succeeded, and what it was run for."""
        self.log.info(
            "the {hook} hook of {model} took {duration_secs} s ({reason})",
            event="hook_completed",
            model=model,
            hook=hook,
            reason=reason,
            duration_secs=round(seconds, 3),
        )

    def hook_failed(
        self,
        model: str,
        hook: str,
        reason: str,
        seconds: float,
        exit_code: int | None,
        how: str,
        output: str,
    ) -> None:
        """
        Log that a hook failed.

        :param reason: what it was run for.
        :param exit_code: its exit status, if it has one.
        :param how: what happened, in words.
        :param output: the last lines that it printed; the field keeps the name it always had.
        """
        told = "the {hook} hook of {model} {how} ({reason})"
        self.log.error(
            f"{told}; it printed last:\n{{stderr}}" if output else told,
            event="hook_failed",
            model=model,
            hook=hook,
            reason=reason,
            exit_code=exit_code,
            duration_secs=round(seconds, 3),
            stderr=output,
            how=how,
        )

    def listening(self, url: str, models: list[str]) -> None:
        """Log where llmux can be asked, and for which models."""
        self.log.info(
            "listening on {url} for {models}",
            event="listening",
            url=url,
            models=models,
        )

    def switch_called_off(self, source: str, target: str, reason: str) -> None:
        """Log that a switch ended before anything was put to sleep."""
        self.log.info(
            "the switch from {from} to {to} was called off: {reason}",
            event="switch_called_off",
            reason=reason,
            **{"from": source, "to": target},
        )

    def request_ended(
        self,
        model: str,
        method: str,
        path: str,
        status: int,
        how: str,
        waited: float,
        seconds: float,
    ) -> None:
        """
        Log that a request has ended.

        :param model: the name that the client gave.
        :param status: what the client got; 499 if it left before it got anything.
        :param how: ``complete``, or who broke it off: ``client`` or ``backend``; or ``error``: a
            bug.
        :param waited: how long it waited for its model, in seconds.
        :param seconds: from its arrival to its end.
        """
        self.log.info(
            "{method} {path} for {model}: {status}, {how} after {duration_secs} s"
            " ({queue_secs} s waiting)",
            event="request_ended",
            model=_shown(model),
            method=method,
            path=_shown(path),
            status=status,
            how=how,
            queue_secs=round(waited, 3),
            duration_secs=round(seconds, 3),
        )

    def policy_unsettled(self, policy: str) -> None:
        """Log that a policy changed its mind over and over within one moment."""
        self.log.error(
            "the policy {policy} does not settle; it is asked again at the next event",
            event="policy_unsettled",
            policy=policy,
        )


def _shown(text: str) -> str:
    """Give a client's own words so that they can neither fill the log nor forge lines of it."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return text if text.isprintable() else repr(text)
