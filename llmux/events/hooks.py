"""What becomes of hooks."""

from __future__ import annotations

from txaio.tx import make_logger


class HookEvents:
    """Events about hooks."""

    log = make_logger()

    def hook_completed(self, model: str, hook: str, reason: str, seconds: float) -> None:
        """Log that a hook succeeded, and what it was run for; health is asked all the time."""
        log = self.log.debug if reason == "health" else self.log.info
        log(
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

    def hook_stopped(self, model: str, hook: str, reason: str, seconds: float) -> None:
        """Log that a hook was ended because nobody needs its answer any more."""
        self.log.info(
            "the {hook} hook of {model} was ended after {duration_secs} s ({reason})",
            event="hook_stopped",
            model=model,
            hook=hook,
            reason=reason,
            duration_secs=round(seconds, 3),
        )

    def prepare_started(self, model: str) -> None:
        """Log that the model that is expected next is being got ready."""
        self.log.info("preparing {model}", event="prepare_started", model=model)

    def prepared_in_vain(self, model: str, woken: str) -> None:
        """Log that a model was got ready, and another one was woken where it could have been."""
        self.log.info(
            "{model} was prepared in vain: {woken} was woken instead",
            event="prepared_in_vain",
            model=model,
            woken=woken,
        )

    def hook_left(self, model: str, hook: str, pid: int) -> None:
        """Log that a hook is waited for that another llmux has left running."""
        self.log.info(
            "the {hook} hook of {model} may still run from before (process {pid}): waiting for it",
            event="hook_left",
            model=model,
            hook=hook,
            pid=pid,
        )
