"""Tests of the hooks in ``examples/ollama``, with an Ollama that only answers."""

from __future__ import annotations

from typing import Any

from llmux.test.examples import ExampleTests, Server


class OllamaTests(ExampleTests):
    """Ollama's hooks."""

    example = "ollama"
    model = "hub/tiny"

    def setUp(self) -> Any:
        """Serve Ollama's endpoints."""
        started = super().setUp()
        self.hurry()
        self.loaded: list[str] = ["tiny:latest"]
        self.lingers = 0
        self.server = Server(
            {
                "/api/generate": self.generate,
                "/api/embed": self.embed,
                "/api/ps": self.list_loaded,
            }
        )
        return started

    def generate(self) -> tuple[int, object]:
        """Load or unload."""
        if '"keep_alive": 0' not in self.server.calls[-1]:
            self.loaded.append("hub/tiny:latest")
        return 200, {}

    def embed(self) -> tuple[int, object]:
        """Load."""
        self.loaded.append("hub/tiny:latest")
        return 200, {}

    def list_loaded(self) -> tuple[int, object]:
        """List what is loaded; what was unloaded lingers for as many questions as is set."""
        listed = {"models": [{"name": name, "size": 1} for name in self.loaded]}
        if "hub/tiny:latest" in self.loaded and '"keep_alive": 0' in " ".join(self.server.calls):
            self.lingers -= 1
            if self.lingers < 0:
                self.loaded.remove("hub/tiny:latest")
        return 200, listed

    async def test_life(self) -> None:
        """A model is loaded for good, and unloaded; the hook waits until it has gone."""
        self.serve(self.server)
        await self.assert_hook_fails("alive")
        await self.assert_hook("wake")
        await self.assert_hook("alive")
        self.lingers = 2
        await self.assert_hook("sleep")
        await self.assert_hook_fails("alive")
        self.assertEqual(
            self.server.calls,
            [
                '/api/generate {"model": "hub/tiny", "keep_alive": -1, "stream": false}',
                '/api/generate {"model": "hub/tiny", "keep_alive": 0, "stream": false}',
            ],
        )

    async def test_embedder(self) -> None:
        """A model that can only embed is loaded in its own way."""
        self.serve(self.server)
        self.server.answers["/api/generate"] = lambda: (400, {"error": "does not generate"})
        await self.assert_hook("wake")
        await self.assert_hook("alive")
        self.assertIn("/api/embed", self.server.calls[-1])

    async def test_failures(self) -> None:
        """A model that is not there, and one that cannot be loaded, fail the wake with a reason."""
        self.serve(self.server)
        self.server.answers["/api/generate"] = lambda: (404, {"error": "not found"})
        self.assertIn("ollama pull hub/tiny", await self.assert_hook_fails("wake"))
        await self.assert_hook("sleep")
        self.server.answers["/api/generate"] = lambda: (500, {"error": "out of memory"})
        self.assertIn("out of memory", await self.assert_hook_fails("wake"))
        self.assertIn("status 500", await self.assert_hook_fails("sleep"))

    async def test_stays_loaded(self) -> None:
        """A model that does not go within the deadline fails the sleep."""
        self.serve(self.server)
        self.loaded.append("hub/tiny:latest")
        self.lingers = 1000
        output = await self.assert_hook_fails("sleep", LLMUX_DEADLINE="5")
        self.assertIn("still loaded", output)

    async def test_no_ollama(self) -> None:
        """Without Ollama nothing can be woken, and all is asleep."""
        self.assertIn("start it", await self.assert_hook_fails("wake"))
        await self.assert_hook("sleep")
