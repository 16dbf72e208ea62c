"""Tests of :mod:`llmux.policy.plugins` and :mod:`llmux.policies`: policies by their names."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from llmux.config import PolicyConfig
from llmux.policies import configured_policy
from llmux.policy import POLICIES, ISwitchPolicyPlugin
from llmux.policy.balanced import BalancedPolicy
from llmux.policy.plugins import UnknownPolicy, UnusablePolicy, make_policy, policy_names
from llmux.policy.quantum import QuantumPolicy
from llmux.simulate.policies import check_names
from llmux.simulate.policies import make_policy as make_simulated
from llmux.test.dropins import install
from llmux.test.test_config import MINIMAL, load
from llmux.test.test_schema import complaints

DROPIN = """
from twisted.plugin import IPlugin
from zope.interface import implementer

from llmux.policy import FifoPolicy, ISwitchPolicyPlugin


class Mine(FifoPolicy):
    pass


@implementer(IPlugin, ISwitchPolicyPlugin)
class Plugin:
    name = "mine"

    def make(self, options):
        if "wrong" in options:
            raise ValueError(f"wrong is {options['wrong']!r}, which is wrong")
        if "broken" in options:
            raise ZeroDivisionError("planted")
        return "no policy" if "nothing" in options else Mine()


plugin = Plugin()
"""
NAMELESS = DROPIN.replace('name = "mine"', "name = None")


def configured(policy: str) -> PolicyConfig:
    """Read what a file says of the policy."""
    return load(f"{MINIMAL}policy: {policy}\n").policy


class BuiltInTests(SynchronousTestCase):
    """llmux's own policies."""

    def test_contract(self) -> None:
        """Each is made by a plugin, under the name that the configuration gives it."""
        for name, plugin in POLICIES.items():
            self.assertTrue(verifyObject(ISwitchPolicyPlugin, plugin))
            self.assertEqual(plugin.name, name)

    def test_default(self) -> None:
        """A file that says nothing gets the policy of the documentation, without options."""
        config = load(MINIMAL)
        self.assertEqual(config.policy, PolicyConfig(name="balanced", options={}))
        self.assertIsInstance(configured_policy(config.policy), BalancedPolicy)

    def test_options(self) -> None:
        """A policy is made with the options that the file gives it."""
        chosen = configured("{name: quantum, options: {switch_costs: 4.5}}")
        self.assertEqual(chosen, PolicyConfig(name="quantum", options={"switch_costs": 4.5}))
        self.assertIsInstance(configured_policy(chosen), QuantumPolicy)
        self.assertEqual(configured("{name: quantum, options: }"), PolicyConfig(name="quantum"))

    def test_plain_values(self) -> None:
        """Options have the types of YAML 1.2, whatever else PyYAML would make of them."""
        install(self, "llmux_plain", DROPIN)
        options = (
            "{text: no, quoted: '1', octal: 010, one: 1, half: .5, yes: true, none: ~,"
            " list: [1, {deep: null}]}"
        )
        self.assertEqual(
            configured(f"{{name: mine, options: {options}}}").options,
            {
                "text": "no", "quoted": "1", "octal": 10, "one": 1, "half": 0.5, "yes": True,
                "none": None, "list": [1, {"deep": None}],
            },
        )  # fmt: skip

    def test_unknown_option(self) -> None:
        """An option that a policy does not have is complained about, with those that it has."""
        for name, known in (("fifo", "none"), ("quantum", "one of: switch_costs")):
            self.assertEqual(
                complaints(f"{MINIMAL}policy: {{name: {name}, options: {{x: 1}}}}\n"),
                [f"c.yaml:6: policy.options: {name} has no option 'x'; use {known}"],
            )

    def test_senseless_option(self) -> None:
        """So is one whose value makes no sense."""
        for value in ("0", "-1", "'3'", "true", "null", "[]"):
            policy = f"policy: {{name: quantum, options: {{switch_costs: {value}}}}}\n"
            (complaint,) = complaints(MINIMAL + policy)
            self.assertIn("policy.options: switch_costs is ", complaint)

    def test_no_mapping(self) -> None:
        """Options are a mapping, and stand nowhere but in their section."""
        self.assertEqual(
            complaints(f"{MINIMAL}policy: {{options: [a]}}\n"),
            ["c.yaml:6: policy.options: this must be a mapping, with key: value lines"],
        )
        (complaint,) = complaints(f"{MINIMAL}hooks: {{options: {{}}}}\n")
        self.assertIn("it belongs under policy:", complaint)

    def test_unknown_name(self) -> None:
        """A name that no policy has is complained about, with what was meant and all there are."""
        self.assertEqual(
            complaints(f"{MINIMAL}policy: {{name: ballanced}}\n"),
            ["c.yaml:6: policy.name: no policy is called so; did you mean balanced?; there are:"
             " fifo, quantum, balanced (it is 'ballanced')"],
        )  # fmt: skip

    def test_others_are_let_alone(self) -> None:
        """Whoever asks for one of llmux's own has nobody else's code loaded."""
        install(self, "llmux_costly", "raise RuntimeError('this is not to be loaded')")
        for name in POLICIES:
            make_policy(name, {})
        self.assertEqual(self.flushLoggedErrors(), [])


class InstalledTests(SynchronousTestCase):
    """Policies that others have installed."""

    def test_found(self) -> None:
        """One that is installed is found by its name, and simulated like llmux's own."""
        install(self, "llmux_mine", DROPIN)
        self.assertEqual(policy_names(), (*POLICIES, "mine"))
        self.assertEqual(configured("{name: mine}").name, "mine")
        self.assertEqual(check_names(["mine", "fifo-2.4.0"]), ("mine", "fifo-2.4.0"))
        for policy in (make_policy("mine", {}), make_simulated("mine", PolicyConfig())):
            self.assertEqual(type(policy).__name__, "Mine")

    def test_options(self) -> None:
        """Its complaints about its options are those of the file; its failures are, too."""
        install(self, "llmux_options", DROPIN)
        expected = {
            "wrong": "wrong is 1, which is wrong",
            "broken": "it fails: ZeroDivisionError: planted",
            "nothing": "'no policy' is made, which is no ISwitchPolicy",
        }
        for option, message in expected.items():
            self.assertEqual(
                complaints(f"{MINIMAL}policy: {{name: mine, options: {{{option}: 1}}}}\n"),
                [f"c.yaml:6: policy.options: {message}"],
            )
            self.assertRaises(UnusablePolicy, make_policy, "mine", {option: 1})

    def test_simulated_options(self) -> None:
        """Options are those of the policy that they are configured for, and of no other."""
        install(self, "llmux_other", DROPIN)
        settings = PolicyConfig(name="mine", options={"wrong": 1})
        self.assertRaises(UnusablePolicy, make_simulated, "mine", settings)
        self.assertIsInstance(make_simulated("quantum", settings), QuantumPolicy)

    def test_broken_module(self) -> None:
        """A plugin that cannot be imported is logged, and hurts nobody."""
        install(self, "llmux_broken", "raise RuntimeError('planted')")
        install(self, "llmux_whole", DROPIN)
        make_policy("mine", {})
        self.assertTrue(self.flushLoggedErrors(RuntimeError))

    def test_nameless(self) -> None:
        """One without a name is left out."""
        install(self, "llmux_nameless", NAMELESS)
        self.assertEqual(policy_names(), tuple(POLICIES))
        error = self.assertRaises(UnknownPolicy, make_policy, "mine", {})
        self.assertEqual(str(error), "there is no policy 'mine', but fifo, quantum, balanced")
