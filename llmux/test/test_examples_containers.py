"""Tests of the hooks for docker, podman and systemd, with a tool that only notes its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from llmux.test.examples import TOOL, ExampleTests, Server


class ToolTests(ExampleTests):
    """
    What the tests of hooks share that call a tool.

    :cvar tools: the programs that the stand-in takes the place of.
    """

    tools: ClassVar[tuple[str, ...]] = ()

    def setUp(self) -> Any:
        """Serve what the tool runs, while it runs."""
        started = super().setUp()
        self.hurry()
        for tool in self.tools:
            self.install(tool, TOOL)
        self.server = Server({"/health": self.healthy})
        self.serve(self.server)
        return started

    def fall(self, status: str) -> tuple[int, object]:
        """Change the status, and be unhealthy."""
        self.set_status(status)
        return 503, {}


if TYPE_CHECKING:
    Base = ToolTests
else:
    Base = object


class ContainerContract(Base):
    """What the hooks do with any container engine."""

    settings: ClassVar[dict[str, str]] = {"CONTAINER": "box"}

    async def test_missing(self) -> None:
        """A container that does not exist fails the wake, and is asleep."""
        output = await self.assert_hook_fails("wake")
        self.assertIn("create it as README.rst says", output)
        await self.assert_hook("sleep")

    async def test_paused(self) -> None:
        """A paused container is continued, be it to serve or to stop."""
        for hook in ("wake", "sleep"):
            self.set_status("paused")
            await self.assert_hook(hook)
        self.assertEqual(self.calls[:2], ["unpause box", "unpause box"])

    async def test_ends_while_starting(self) -> None:
        """A container that ends while it starts fails the wake, which shows its last lines."""
        self.set_status("exited")
        self.server.answers["/health"] = lambda: self.fall("exited")
        output = await self.assert_hook_fails("wake")
        self.assertIn("its last words", output)

    async def test_tool_fails(self) -> None:
        """A tool that does not answer, start or stop fails the hook that needs it."""
        self.set_status("exited")
        for verb, hook, status in (
            ("inspect", "wake", "exited"),
            ("inspect", "sleep", "exited"),
            ("start", "wake", "exited"),
            ("stop", "sleep", "running"),
        ):
            (self.place / "fails").write_text(f"{verb} checkpoint")
            self.set_status(status)
            self.assertIn(f"{verb} fails", await self.assert_hook_fails(hook))

    async def test_stranger(self) -> None:
        """A server that answers although the container has stopped fails the sleep."""
        self.set_status("exited")
        self.server.answers["/health"] = lambda: (200, {})
        output = await self.assert_hook_fails("sleep")
        self.assertIn("served by something else", output)


class DockerTests(ContainerContract, ToolTests):
    """The hooks for docker containers."""

    example = "docker"
    tools = ("docker",)

    async def test_life(self) -> None:
        """A container is started once and stopped once, however often the hooks run."""
        self.set_status("exited")
        await self.assert_hook("wake")
        await self.assert_hook("wake")
        await self.assert_hook("alive")
        await self.assert_hook("sleep", STOP_SECS="3")
        await self.assert_hook("sleep")
        await self.assert_hook_fails("alive")
        self.assertEqual(self.calls, ["start box", "stop -t 3 box"])


class PodmanTests(ContainerContract, ToolTests):
    """The hooks that freeze podman's containers."""

    example = "podman-criu"
    tools = ("podman",)

    async def test_life(self) -> None:
        """A container is started, then frozen and thawed, each once."""
        self.set_status("created")
        for _round in range(2):
            for hook in ("wake", "wake", "alive", "sleep", "sleep"):
                await self.assert_hook(hook)
        frozen = "container checkpoint --tcp-established box"
        thawed = "container restore --tcp-established box"
        self.assertEqual(self.calls, ["start box", frozen, thawed, frozen])

    async def test_cannot_freeze(self) -> None:
        """A container that cannot be frozen, or is still loading, is stopped instead."""
        self.set_status("running")
        (self.place / "fails").write_text("checkpoint")
        await self.assert_hook("sleep")
        self.assertEqual(self.calls[-1], "stop -t 10 box")
        self.set_status("running")
        self.server.answers["/health"] = lambda: (503, {})
        await self.assert_hook("sleep")
        self.assertEqual(self.calls[-1], "stop -t 10 box")

    async def test_cannot_thaw(self) -> None:
        """A container whose checkpoint is of no use is started afresh."""
        self.set_status("exited")
        (self.place / "checkpointed").write_text("true")
        (self.place / "fails").write_text("restore")
        self.assertIn("starting afresh", await self.assert_hook("wake"))
        self.assertEqual(self.calls[-1], "start box")

    async def test_through_sudo(self) -> None:
        """Podman can be run through another program."""
        self.install("through", '#!/bin/sh\necho "$*" >>"$FAKE/passed"\nexec "$@"\n')
        self.set_status("exited")
        await self.assert_hook("wake", PODMAN="through podman")
        self.assertEqual(self.calls, ["start box"])
        self.assertIn("podman start box", (self.place / "passed").read_text())


class SystemdTests(ToolTests):
    """The hooks for units of the user's systemd."""

    example = "systemd-user"
    tools = ("systemctl", "journalctl")
    settings: ClassVar[dict[str, str]] = {"UNIT": "llm@a.service"}

    def setUp(self) -> Any:
        """Have a unit that does not run."""
        started = super().setUp()
        self.set_status("inactive")
        return started

    async def test_life(self) -> None:
        """A unit is started once and stopped once, however often the hooks run."""
        for hook in ("wake", "wake", "alive", "sleep", "sleep"):
            await self.assert_hook(hook)
        await self.assert_hook_fails("alive")
        start, stop = "--user start llm@a.service", "--user stop --no-block llm@a.service"
        self.assertEqual(self.calls, [start, stop])

    async def test_no_unit_named(self) -> None:
        """Without a unit's name, every hook says where to set it."""
        for hook in ("wake", "sleep", "alive"):
            self.assertIn("UNIT: set it in the config", await self.assert_hook_fails(hook, UNIT=""))

    async def test_ends_while_starting(self) -> None:
        """A unit that fails while it starts fails the wake, which shows its last lines."""
        self.server.answers["/health"] = lambda: self.fall("failed")
        output = await self.assert_hook_fails("wake")
        self.assertIn("llm@a.service is failed", output)

    async def test_will_not_stop(self) -> None:
        """A unit that does not stop in half of the time is killed."""
        self.set_status("active")
        self.install("systemctl", TOOL.replace("    stop) ", "    never) "))
        await self.assert_hook("sleep", LLMUX_DEADLINE="3")
        self.assertEqual(self.calls[-1], "--user kill -s KILL llm@a.service")

    async def test_tool_fails(self) -> None:
        """A systemd that does not answer, start or stop fails the hook that needs it."""
        for verb, hook, status in (
            ("show", "wake", "inactive"),
            ("show", "sleep", "inactive"),
            ("start", "wake", "inactive"),
            ("stop", "sleep", "active"),
        ):
            (self.place / "fails").write_text(verb)
            self.set_status(status)
            output = await self.assert_hook_fails(hook)
            self.assertIn(f"{verb} fails", output)
