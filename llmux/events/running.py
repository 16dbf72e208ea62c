"""How llmux itself is: where it listens, its configuration, its journal, its end."""

from __future__ import annotations

from txaio.tx import make_logger


class RunningEvents:
    """Events about the program."""

    log = make_logger()

    def listening(self, url: str, models: list[str]) -> None:
        """Log where llmux can be asked, and for which models; once for each of its sockets."""
        self.log.info(
            "listening on {url} for {models}",
            event="listening",
            url=url,
            models=models,
        )

    def operators_listening(self, url: str) -> None:
        """Log where operators can ask llmux, if that is elsewhere than where clients can."""
        self.log.info("operators are heard on {url}", event="operators_listening", url=url)

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

    def config_reloaded(
        self,
        path: str,
        changed: list[str],
        added: list[str],
        removed: list[str],
        needs_restart: list[str],
    ) -> None:
        """
        Log that another configuration counts.

        :param changed: the models of which something is different.
        :param needs_restart: the keys in which the file differs from what holds until the next
            start.
        """
        told = (
            "{path} was read again; models changed: {changed}, added: {added}, removed: {removed}"
        )
        self.log.info(
            f"{told}; only a restart changes {{needs_restart}}" if needs_restart else told,
            event="config_reloaded",
            path=path,
            changed=changed,
            added=added,
            removed=removed,
            needs_restart=needs_restart,
        )

    def config_rejected(self, path: str, problems: list[str]) -> None:
        """
        Log that a configuration cannot be used, and that nothing has changed.

        :param problems: each a line, with the place it is about.
        """
        lines = "\n".join(problems).replace("{", "{{").replace("}", "}}")
        self.log.error(
            f"{{path}} was read again and cannot be used; nothing has changed:\n{lines}",
            event="config_rejected",
            path=path,
            problems=problems,
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

    def recording_began(self, path: str) -> None:
        """Log that what is asked and answered is recorded from now on: how much, and when."""
        self.log.info(
            "recording sizes and times of requests to {path}",
            event="recording_began",
            path=path,
        )

    def recording_ended(self, path: str, rows: int, lost: int) -> None:
        """Log that it is not any more; of so many requests, and of so many others not."""
        self.log.info(
            "{rows} requests were recorded to {path}, {lost} could not be",
            event="recording_ended",
            path=path,
            rows=rows,
            lost=lost,
        )

    def recording_failed(self, path: str, error: str) -> None:
        """Log that requests are not recorded, though they should be, until it works again."""
        self.log.error(
            "requests are not recorded: {path}: {error}; llmux goes on, and tries again with each"
            " request",
            event="recording_failed",
            path=path,
            error=error,
        )

    def recording_resumed(self, path: str, lost: int) -> None:
        """Log that requests can be recorded again, and how many could not be so far."""
        self.log.info(
            "requests are recorded to {path} again; {lost} were not",
            event="recording_resumed",
            path=path,
            lost=lost,
        )

    def stopping(self, signal: str | None, grace_secs: float, in_flight: int, waiting: int) -> None:
        """
        Log that llmux ends.

        :param signal: what told it to: ``TERM`` or ``INT``; ``None``: not a signal.
        :param grace_secs: how long requests in flight may go on.
        :param in_flight: how many there are.
        :param waiting: how many requests wait, and are refused.
        """
        self.log.info(
            f"ending{' by {signal}' if signal else ''}: {{in_flight}} requests in flight may go on"
            " for {grace_secs} s, {waiting} that wait are refused",
            event="stopping",
            signal=signal,
            grace_secs=grace_secs,
            in_flight=in_flight,
            waiting=waiting,
        )

    def stopped(self, seconds: float) -> None:
        """Log that llmux has ended, but for what is Twisted's, after so many seconds."""
        self.log.info(
            "ended after {duration_secs} s",
            event="stopped",
            duration_secs=round(seconds, 3),
        )
