"""Tests of the hooks in ``examples/vllm-sleep-mode``, with an engine that only answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmux.test.examples import TOOL, ExampleTests, Server

#: A server that ends at once when it is told to, and a worker of it that does not.
VLLM = r"""#!/bin/sh
echo "dev mode ${VLLM_SERVER_DEV_MODE:-0}, arguments $*" >>"$FAKE/calls"
echo up >"$FAKE/status"
env PATH="${PATH#*:}" sleep 60 & # past the stand-ins
wait
"""


def group_runs(group: int) -> bool:
    """Tell whether a process of a group still runs; one that has ended (Z) does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False


class VLLMTests(ExampleTests):
    """vLLM's hooks, with an engine that is healthy when its status says ``up``."""

    example = "vllm-sleep-mode"

    def setUp(self) -> Any:
        """Serve the engine's endpoints."""
        started = super().setUp()
        self.hurry()
        self.asleep = False
        self.server = Server(
            {
                "/health": self.healthy,
                "/is_sleeping": lambda: (200, {"is_sleeping": self.asleep}),
                "/sleep": lambda: self.fall(asleep=True),
                "/wake_up": lambda: self.fall(asleep=False),
                "/collective_rpc": lambda: (200, {}),
            }
        )
        self.serve(self.server)
        return started

    def fall(self, *, asleep: bool) -> tuple[int, object]:
        """Fall asleep, or awake."""
        self.asleep = asleep
        return 200, {}

    async def start(self) -> int:
        """Have wake.sh start an engine, and give its number."""
        self.install("vllm", VLLM)
        await self.assert_hook("wake", VLLM_ARGS="--gpu-memory-utilization 0.5")
        return int((self.state / "vllm.pid").read_text())

    async def test_levels(self) -> None:
        """Level 1 is woken in one step; level 2 gets its weights before its KV cache."""
        self.set_status("up")
        await self.assert_hook("sleep")
        await self.assert_hook_fails("alive")
        await self.assert_hook("wake")
        await self.assert_hook("alive")
        self.assertEqual(self.server.calls, ["/sleep?level=1", "/wake_up"])
        self.server.calls.clear()
        await self.assert_hook("sleep", SLEEP_LEVEL="2")
        await self.assert_hook("wake")
        self.assertEqual(
            self.server.calls,
            [
                "/sleep?level=2",
                "/wake_up?tags=weights",
                '/collective_rpc {"method": "reload_weights"}',
                "/wake_up?tags=kv_cache",
            ],
        )

    async def test_again(self) -> None:
        """What sleeps is not put to sleep again, and what is awake is not woken."""
        self.set_status("up")
        await self.assert_hook("wake")
        self.asleep = True
        await self.assert_hook("sleep")
        self.assertEqual(self.server.calls, [])

    async def test_start(self) -> None:
        """An engine that does not run is started, in development mode, able to sleep."""
        await self.start()
        [call] = self.calls
        self.assertIn("dev mode 1, arguments serve some/model", call)
        self.assertIn(f"--port {self.port} --enable-sleep-mode --gpu-memory-utilization 0.5", call)
        await self.assert_hook("sleep")
        await self.assert_hook("wake")
        self.assertEqual(self.calls, [call])

    async def test_broken_wake(self) -> None:
        """An engine whose wake broke off is ended with its workers, although it seems asleep."""
        pid = await self.start()
        await self.assert_hook("sleep", SLEEP_LEVEL="2")
        self.server.answers["/wake_up"] = lambda: (200, {})
        self.server.answers["/collective_rpc"] = lambda: (500, {})
        self.assertIn("cannot be woken", await self.assert_hook_fails("wake"))
        self.assertNotIn("/wake_up?tags=kv_cache", self.server.calls)
        self.assertIn("broke off", await self.assert_hook("sleep", KILL_AFTER="1"))
        self.assertFalse(group_runs(pid))

    async def test_will_not_sleep(self) -> None:
        """An engine that refuses to sleep is ended; one that somebody else started is not."""
        pid = await self.start()
        self.server.answers["/sleep"] = lambda: (500, {})
        self.assertIn("will not sleep", await self.assert_hook("sleep", KILL_AFTER="1"))
        self.assertFalse(group_runs(pid))
        output = await self.assert_hook_fails("sleep", KILL_AFTER="1")
        self.assertIn("was not started by wake.sh", output)

    async def test_unhealthy(self) -> None:
        """An engine that runs without being healthy is ended; none at all is asleep already."""
        pid = await self.start()
        self.set_status("down")
        await self.assert_hook("sleep", KILL_AFTER="1")
        self.assertFalse(group_runs(pid))
        await self.assert_hook("sleep")

    async def test_no_sleep_mode(self) -> None:
        """An engine without the sleep endpoints fails the wake, which says what it needs."""
        self.set_status("up")
        del self.server.answers["/is_sleeping"]
        self.assertIn("VLLM_SERVER_DEV_MODE=1", await self.assert_hook_fails("wake"))

    async def test_container(self) -> None:
        """An engine in a container is started by docker, and stopped if it will not sleep."""
        self.install("docker", TOOL)
        await self.assert_hook("wake", VLLM_CONTAINER="box")
        await self.assert_hook("sleep", VLLM_CONTAINER="box")
        await self.assert_hook("wake", VLLM_CONTAINER="box")
        self.assertEqual(self.calls, ["start box"])
        self.server.answers["/sleep"] = lambda: (500, {})
        await self.assert_hook("sleep", VLLM_CONTAINER="box", KILL_AFTER="3")
        self.assertEqual(self.calls, ["start box", "stop -t 3 box"])

    async def test_place(self) -> None:
        """An engine starts on the GPU that it is given, and starts anew if that is another one."""
        ending = """trap 'echo down >"$FAKE/status"; exit' TERM\nwait\n"""
        engine = VLLM.replace('echo "dev', 'echo "on $CUDA_VISIBLE_DEVICES, dev')
        self.install("vllm", engine.replace("wait\n", ending))
        await self.assert_hook("wake", LLMUX_PLACEMENT="gpu1")
        pid = int((self.state / "vllm.pid").read_text())
        await self.assert_hook("wake", LLMUX_PLACEMENT="gpu1")
        self.assertEqual(len(self.calls), 1)
        self.assertIn("on 1, dev", self.calls[0])
        output = await self.assert_hook("wake", LLMUX_PLACEMENT="gpu0,gpu1", KILL_AFTER="1")
        self.assertIn("is to be on other GPUs", output)
        self.assertFalse(group_runs(pid))
        self.assertIn("on 0,1, dev", self.calls[1])
        self.assertIn("--tensor-parallel-size 2", self.calls[1])

    async def test_stop(self) -> None:
        """An engine that is stopped is gone, be it asleep; if there is none, that is as good."""
        await self.assert_hook("stop")
        pid = await self.start()
        await self.assert_hook("sleep")
        await self.assert_hook("stop", KILL_AFTER="1")
        self.assertFalse(group_runs(pid))
