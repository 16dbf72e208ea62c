"""The processes that relay requests, if there are several."""

from __future__ import annotations

from txaio.tx import make_logger


class WorkerEvents:
    """Events about workers."""

    log = make_logger()

    def worker_began(self, worker: int, pid: int) -> None:
        """Log that a worker serves clients from now on."""
        self.log.info(
            "worker {worker} serves clients, as process {worker_pid}",
            event="worker_began",
            worker=worker,
            worker_pid=pid,
        )

    def worker_ended(
        self, worker: int, pid: int, how: str, in_flight: int, again_secs: float | None
    ) -> None:
        """
        Log that a worker has ended.

        :param how: in what way, in words.
        :param in_flight: how many of its requests were cut.
        :param again_secs: when it is started again; ``None``: it was meant to end.
        """
        told = "worker {worker} (process {worker_pid}) has ended {how}"
        fields = {"worker": worker, "worker_pid": pid, "how": how, "in_flight": in_flight}
        if again_secs is None:
            self.log.info(told, event="worker_ended", again_secs=None, **fields)
            return
        self.log.error(
            f"{told}; {{in_flight}} requests were cut, and it is started again in {{again_secs}} s",
            event="worker_ended",
            again_secs=round(again_secs, 3),
            **fields,
        )

    def worker_killed(self, worker: int, pid: int, cause: str) -> None:
        """Log that a worker is killed, and why, in words."""
        self.log.error(
            "worker {worker} (process {worker_pid}) is killed: {cause}",
            event="worker_killed",
            worker=worker,
            worker_pid=pid,
            cause=cause,
        )
