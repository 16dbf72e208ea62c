"""Tests of the hooks in ``examples/llama-server``, with the demo and with a real server."""

import os
from typing import TYPE_CHECKING

from twisted.internet.utils import getProcessOutputAndValue

from llmux.test.examples import MISSING, ExampleTests

if TYPE_CHECKING:
    Base = ExampleTests
else:
    Base = object

#: llama-server's command line in front of the demo backend: -m FILE -a NAME --host H --port P.
LLAMA_SERVER = r"""#!/bin/sh
exec "$PYTHON" -m llmux.demo --load-secs 0 --model "$4" --port "$8"
"""

UNSET = [name for name in ("LLAMA_SERVER", "LLAMA_MODEL") if not os.environ.get(name)]


class LifeContract(Base):
    """What the hooks do with any llama-server."""

    example = "llama-server"

    def server(self) -> dict[str, str]:
        """Give the settings that name the program and the model's file."""
        raise NotImplementedError

    async def test_life(self) -> None:
        """A model wakes, stays the same when it is woken again, and sleeps, once and again."""
        server = self.server()
        pid_file = self.state / "llama-server.pid"
        await self.assert_hook_fails("alive")
        await self.assert_hook("wake", **server)
        pid = int(pid_file.read_text())
        await self.assert_hook("alive")
        await self.assert_hook("wake", **server)
        self.assertEqual(int(pid_file.read_text()), pid)
        models, _errors, _status = await getProcessOutputAndValue(
            "curl",
            ["-fsS", f"http://127.0.0.1:{self.port}/v1/models"],
            {"PATH": os.environ["PATH"]},
        )
        self.assertIn(self.model.encode(), models)
        await self.assert_hook("sleep")
        await self.assert_hook_fails("alive")
        await self.assert_hook("sleep")


class LlamaServerTests(LifeContract, ExampleTests):
    """The hooks with the demo backend."""

    def server(self) -> dict[str, str]:
        """Put the demo in a llama-server's place."""
        return {
            "LLAMA_SERVER": str(self.install("server", LLAMA_SERVER)),
            "MODEL_FILE": str(self.place / "calls"),
        }

    async def test_missing(self) -> None:
        """Without a model file or a program, the wake says which setting is wrong."""
        self.assertIn("MODEL_FILE", await self.assert_hook_fails("wake"))
        nowhere = str(self.place / "nowhere")
        output = await self.assert_hook_fails("wake", MODEL_FILE=nowhere, LLAMA_SERVER="sh")
        self.assertIn(f"cannot read MODEL_FILE {nowhere}", output)
        output = await self.assert_hook_fails("wake", MODEL_FILE="x", LLAMA_SERVER=nowhere)
        self.assertIn("set LLAMA_SERVER", output)


class RealLlamaServerTests(LifeContract, ExampleTests):
    """The hooks with the program that the environment names in ``LLAMA_SERVER``."""

    skip = MISSING or (f"{' and '.join(UNSET)} not set" if UNSET else None)

    def server(self) -> dict[str, str]:
        """Name the program and its file."""
        return {
            "LLAMA_SERVER": os.environ["LLAMA_SERVER"],
            "MODEL_FILE": os.environ["LLAMA_MODEL"],
        }
