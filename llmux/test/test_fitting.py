"""Tests of :mod:`llmux.fitting`: resources, and models that could never be awake."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from llmux.config import Config
from llmux.errors import ConfigError
from llmux.fitting import variables


def load(text: str) -> Config:
    """Read a configuration."""
    return Config.from_bytes(text.encode(), path=Path("c.yaml"))


def complaints(text: str) -> list[str]:
    """Give all that is said about one, without the file's name."""
    try:
        load(text)
    except ConfigError as error:
        return [line.removeprefix("c.yaml:") for line in str(error).splitlines()]
    return []


def models(**lines: str) -> str:
    """Write models, each in a line of its own from the third on."""
    written = [
        f"  {name}: {{port: {port}, wake: w, sleep: s, {line}}}\n"
        for port, (name, line) in enumerate(lines.items(), 8001)
    ]
    return "models:\n" + "".join(written)


TWO = "resources: {gpu0: 24, gpu1: 24, ram: 100}\n"


class ReadingTests(SynchronousTestCase):
    def test_read(self) -> None:
        """Resources, needs, alternatives and what is taken asleep are what the file says."""
        config = load(
            TWO
            + models(
                a="needs: [{gpu0: 20}, {gpu1: 2.5}], asleep_needs: {ram: 40}, stop: x",
                b="needs: {}, pinned: true, wake_at_start: true, idle_sleep_secs: null",
            )
            + "idle_model: a\npolicy: {idle_sleep_secs: 60}\n"
        )
        self.assertEqual(config.resources, {"gpu0": 24.0, "gpu1": 24.0, "ram": 100.0})
        a, b = config.models.values()
        self.assertEqual(a.needs, ({"gpu0": 20.0}, {"gpu1": 2.5}))
        self.assertEqual((a.asleep_needs, a.stop, a.idle_sleep_secs), ({"ram": 40.0}, "x", 60.0))
        self.assertEqual((b.needs, b.pinned, b.wake_at_start), (({},), True, True))
        self.assertEqual((b.idle_sleep_secs, config.idle_model), (None, "a"))

    def test_one_slot(self) -> None:
        """Without resources each model needs the one slot, and nothing is checked."""
        config = load(models(a="pinned: true", b="pinned: true"))
        self.assertEqual(config.resources, {})
        needs = [model.needs for model in config.models.values()]
        self.assertEqual(needs, [({"slot": 1.0},)] * 2)

    def test_mistakes(self) -> None:
        """Amounts and names that make no sense are complained about, each with its key."""
        for resources, words in (
            ("{}", "resources: no resources: name one at least"),
            ("[gpu0]", "resources: this must be a mapping from resources to amounts"),
            ("{gpu0: -1}", "resources: gpu0: an amount is a number, 0 or more"),
            ("{gpu0: much}", "resources: gpu0: this must be a number"),
            ("{9x: 1}", "resources: '9x' cannot be the name of a resource"),
            ("{gpu-0: 1, gpu_0: 2}", "gpu-0 and gpu_0 would both be LLMUX_RESOURCE_GPU_0"),
        ):
            (said,) = complaints(f"resources: {resources}\n" + models(a="needs: {gpu-0: 1}"))
            self.assertIn(words, said)

    def test_half_said(self) -> None:
        """What says nothing, or two things at once, is complained about."""
        for text, words in (
            (models(a="needs: {gpu0: 1}"), "2: models.a.needs: there are no resources"),
            (TWO + models(a="pinned: true"), "3: models.a: needs is missing"),
            (TWO + models(a="needs: []"), "models.a.needs: no alternatives"),
            (TWO + models(a="needs: {}, stop: x"), "models.a.stop: this would never run"),
            (
                TWO + models(a="needs: {}, pinned: true, idle_sleep_secs: 9"),
                "models.a.pinned: it cannot stay and sleep when idle",
            ),
            (TWO + models(a="needs: {gpu: 1}"), "there is no gpu in resources; did you mean gpu"),
            (models(a="pinned: maybe"), "models.a.pinned: this must be true or false"),
            (models(a="max_waiting: 1") + "idle_model: b\n", "idle_model: this must be one of: a"),
            (TWO + models(a="needs: {}") + "policy: {resources: {}}\n", "at the top of the file"),
        ):
            (said,) = complaints(text)
            self.assertIn(words, said)


class FitTests(SynchronousTestCase):
    def assert_fits(self, text: str) -> Config:
        """Read a configuration that is good."""
        self.assertEqual(complaints(text), [])
        return load(text)

    def test_alone(self) -> None:
        """A model that can never fit is refused, for one of its places or what it takes asleep."""
        self.assertEqual(
            complaints(TWO + models(a="needs: [{gpu0: 20}, {gpu1: 25}]")),
            ["3: models.a.needs: this can never fit: it takes 25 of gpu1, and there is 24"],
        )
        (said,) = complaints(TWO + models(a="needs: {ram: 70}, asleep_needs: {ram: 40}"))
        self.assertIn("it takes 110 of ram, and there is 100", said)

    def test_rounding(self) -> None:
        """Fractions that are the whole together are no more than it."""
        self.assert_fits(
            "resources: {gpu0: 0.3}\n"
            + models(a="needs: {gpu0: 0.1}, pinned: true", b="needs: {gpu0: 0.2}")
        )

    def test_beside_pinned(self) -> None:
        """One that does not fit beside what is pinned is refused; pinned ones have to fit, too."""
        (said,) = complaints(
            TWO + models(a="needs: {gpu0: 8}, pinned: true", b="needs: {gpu0: 20}")
        )
        self.assertTrue(said.startswith("4: models.b.needs: this does not fit beside what stays"))
        self.assertIn("(pinned: a), which can take 8 of 24 gpu0", said)
        self.assert_fits(
            TWO + models(a="needs: {gpu0: 8}, pinned: true", b="needs: [{gpu0: 20}, {gpu1: 20}]")
        )

    def test_pinned_with_places(self) -> None:
        """A pinned model keeps the first of its places beside which all others fit."""
        config = self.assert_fits(
            TWO
            + models(
                a="needs: [{gpu0: 8}, {gpu1: 8}], pinned: true",
                b="needs: {gpu0: 20}",
                c="needs: [{gpu0: 4}, {gpu1: 8}], pinned: true",
            )
        )
        self.assertEqual(config.models["a"].needs, ({"gpu1": 8.0},))
        self.assertEqual(config.models["c"].needs, ({"gpu0": 4.0},))

    def test_many_pinned_with_places(self) -> None:
        """However many ways there are of placing what is pinned, one that is good is found."""
        gpus = [f"gpu{number}" for number in range(6)]
        places = "needs: [" + ", ".join(f"{{{gpu}: 10}}" for gpu in gpus) + "], pinned: true"
        there_is = "resources: {" + ", ".join(f"{gpu}: 24" for gpu in gpus) + "}\n"
        pinned = {f"m{number:02}": places for number in range(10)}
        config = self.assert_fits(there_is + models(**pinned, big="needs: {gpu0: 20}"))
        taken = [next(iter(model.needs[0])) for model in config.models.values()]
        self.assertEqual(taken, [*(gpu for gpu in gpus[1:] for _ in "ab"), "gpu0"])
        self.assertEqual(list(config.models), [*pinned, "big"])

    def test_too_many_pinned_with_places(self) -> None:
        """If there is none, that is said of those that do not fit beside the first places."""
        text = TWO + models(
            **dict.fromkeys("abc", "needs: [{gpu0: 20}, {gpu1: 20}], pinned: true"),
            d="needs: {ram: 1}",
        )
        said = complaints(text)
        self.assertEqual(
            [line.split(":")[1] for line in said], [f" models.{n}.needs" for n in "abc"]
        )
        self.assertIn("which can take 40 of 24 gpu0", said[0])

    def test_sleepers(self) -> None:
        """What others keep while they sleep counts, unless they can be stopped."""
        text = TWO + models(
            a="needs: {gpu0: 20}, asleep_needs: {ram: 60}%s",
            b="needs: {gpu0: 20}, asleep_needs: {ram: 60}, stop: x",
        )
        (said,) = complaints(text % "")
        self.assertIn("models.b.needs", said)
        self.assertIn("asleep, and without a stop hook: a", said)
        self.assert_fits(text % ", stop: x")

    def test_variables(self) -> None:
        """Resources have names that shells can read."""
        self.assertEqual(
            variables(("gpu0", "Host.ram-x")),
            {"gpu0": "LLMUX_RESOURCE_GPU0", "Host.ram-x": "LLMUX_RESOURCE_HOST_RAM_X"},
        )
