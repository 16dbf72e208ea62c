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
        *,
        request_id: str,
        model: str,
        method: str,
        path: str,
        status: int,
        how: str,
        bytes_in: int,
        bytes_out: int,
        waited: float,
        first_byte: float | None,
        seconds: float,
    ) -> None:
        """
        Log that a request has ended.

        :param model: the name that the client gave.
        :param status: what the client got; 499 if it left before it got anything.  Where a sign of
            life had been sent first: what it would have got.
        :param how: ``complete``, or who broke it off: ``client``, ``backend``, ``timeout`` or
            ``stalled``; or ``error``: a bug.
        :param bytes_in: of the request's body.
        :param bytes_out: of the answer's body.
        :param waited: how long it waited for its model, in seconds.
        :param first_byte: from its arrival to the answer's head, in seconds, if there was one.
        :param seconds: from its arrival to its end.
        """
        self.log.info(
            "{method} {path} for {model}: {status}, {how} after {duration_secs} s"
            " ({queue_secs} s waiting, {bytes_in} bytes in, {bytes_out} out, {request_id})",
            event="request_ended",
            request_id=request_id,
            model=_shown(model),
            method=method,
            path=_shown(path),
            status=status,
            how=how,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            queue_secs=round(waited, 3),
            first_byte_secs=None if first_byte is None else round(first_byte, 3),
            duration_secs=round(seconds, 3),
        )

    def own_path_asked(
        self, *, request_id: str, method: str, path: str, status: int, seconds: float
    ) -> None:
        """Log that llmux has answered for itself; whoever watches it asks every few seconds."""
        self.log.debug(
            "{method} {path}: {status} after {duration_secs} s ({request_id})",
            event="own_path_asked",
            request_id=request_id,
            method=method,
            path=_shown(path),
            status=status,
            duration_secs=round(seconds, 3),
        )

    def operator_asked(self, *, order: str, model: str, client: str, request_id: str) -> None:
        """
        Log an order of an operator's.

        :param order: ``wake``, ``sleep``, ``kill`` or ``reload``.
        :param model: the name that the operator gave; empty for ``reload``.
        :param client: the address that it came from; ``unix``: a UNIX socket.
        """
        self.log.info(
            f"an operator at {{client}} orders: {_order(model)} ({{request_id}})",
            event="operator_asked",
            order=order,
            model=_shown(model),
            client=client,
            request_id=request_id,
        )

    def operator_answered(
        self, *, order: str, model: str, status: int, seconds: float, request_id: str
    ) -> None:
        """Log what became of an order: 200, or the status of an error."""
        self.log.info(
            f"the order {_order(model)} ended with {{status}} after {{duration_secs}} s"
            " ({request_id})",
            event="operator_answered",
            order=order,
            model=_shown(model),
            status=status,
            duration_secs=round(seconds, 3),
            request_id=request_id,
        )

    def connections_limited(self, wanted: int, allowed: int, open_files: int) -> None:
        """Log that fewer clients can be connected at once than the configuration says."""
        self.log.warn(
            "{allowed} clients can be connected at once, not {wanted}: a process may have"
            " {open_files} open files here; raise its hard limit (ulimit -Hn, LimitNOFILE=)",
            event="connections_limited",
            wanted=wanted,
            allowed=allowed,
            open_files=open_files,
        )

    def journal_failed(self, path: str, error: str) -> None:
        """Log that a restart would not know what is so now, until the journal is written again."""
        self.log.error(
            "the journal {path} cannot be written: {error}; llmux goes on, but a restart would not"
            " know what happens now",
            event="journal_failed",
            path=path,
            error=error,
        )

    def journal_written(self, path: str) -> None:
        """Log that the journal, which could not be written, is up to date again."""
        self.log.info(
            "the journal {path} can be written again",
            event="journal_written",
            path=path,
        )

    def journal_unreadable(self, path: str, error: str, kept: str) -> None:
        """
        Log that what an earlier llmux knew is lost.

        :param error: what is wrong with the journal.
        :param kept: what became of the file.
        """
        self.log.error(
            "the journal {path} cannot be used: {error}; {kept}, and llmux starts without it",
            event="journal_unreadable",
            path=path,
            error=error,
            kept=kept,
        )

    def policy_unsettled(self, policy: str) -> None:
        """Log that a policy changed its mind over and over within one moment."""
        self.log.error(
            "the policy {policy} does not settle; it is asked again at the next event",
            event="policy_unsettled",
            policy=policy,
        )


def _order(model: str) -> str:
    """Give the part of a sentence that says an order, with its model if it is about one."""
    return "{order} {model}" if model else "{order}"


def _shown(text: str) -> str:
    """Give a client's own words so that they can neither fill the log nor forge lines of it."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return text if text.isprintable() else repr(text)
