"""Another configuration while llmux runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase
from txaio.tx import make_logger

from llmux.config import Address, Admin, Backend, Config, Limits, ModelConfig, PolicyConfig
from llmux.descriptors import PER_CLIENT, RESERVE, raise_limit
from llmux.errors import ConfigError
from llmux.policy import POLICIES, FifoPolicy
from llmux.policy.plugins import BuiltIn, UnknownPolicy
from llmux.policy.quantum import QuantumPolicy
from llmux.service import App, build_app
from llmux.states import State
from llmux.test.fakes import model_config
from llmux.test.loopback import RawBackend, Served, http_answer, http_post, split
from llmux.test.processes import ProcessTests

FILE = """\
state_dir: {state}
models:
  a: {{port: 1, wake: 'true', sleep: 'true'}}
  b: {{port: 2, wake: 'true', sleep: 'true'}}
"""


class FileTests(SynchronousTestCase):
    """What a file brings that is read again."""

    def setUp(self) -> None:
        """Build an app from a file."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "config.yaml"
        self.write(FILE)
        read = partial(Config.from_file, self.path)
        self.app = build_app(read(), reactor, read=read)
        self.seen: list[LogEvent] = []
        self.app.events.log = make_logger(observer=self.seen.append)

    def write(self, text: str) -> None:
        """Write the file."""
        self.path.write_text(text.format(state=self.directory / "state"))

    def test_nothing_new(self) -> None:
        """A file that says the same changes nothing, and the log says so."""
        before = self.app.config
        done = self.successResultOf(self.app.reload())
        self.assertEqual(attrs.astuple(done), ((), (), (), ()))
        self.assertEqual(self.app.config, before)
        (event,) = self.seen
        self.assertEqual(event["event"], "config_reloaded")
        self.assertEqual(event["path"], str(self.path))

    def test_models(self) -> None:
        """Models that are new, gone and different are told apart, and told of in the log."""
        text = FILE.replace("  b:", "  c:").replace("port: 1,", "port: 1, max_waiting: 3,")
        self.write(text)
        done = self.successResultOf(self.app.reload())
        self.assertEqual((done.changed, done.added, done.removed), (("a",), ("c",), ("b",)))
        (event,) = self.seen
        self.assertEqual(
            [event[field] for field in ("changed", "added", "removed", "needs_restart")],
            [["a"], ["c"], ["b"], []],
        )
        self.assertEqual(list(self.app.switcher.states()), ["a", "c"])

    def test_bad_file(self) -> None:
        """A file that is wrong changes nothing at all; every complaint is in the log."""
        self.write(FILE.replace("port: 1,", "port: 1, max_waiting: 3,") + "prot: 3\nhosd: x\n")
        before = self.app.config
        error = self.failureResultOf(self.app.reload(), ConfigError).value
        self.assertIs(self.app.config, before)
        self.assertEqual(self.app.switcher.states(), dict.fromkeys("ab", State.ASLEEP))
        (event,) = self.seen
        self.assertEqual(event["event"], "config_rejected")
        self.assertEqual(event["problems"], str(error).splitlines())
        self.assertEqual(len(event["problems"]), 2)

    def test_file_that_is_gone(self) -> None:
        """A file that cannot be read changes nothing."""
        self.path.unlink()
        self.failureResultOf(self.app.reload(), ConfigError)
        self.assertIn("cannot be read: No such file or directory", self.seen[0]["problems"][0])

    def test_until_restart(self) -> None:
        """What counts only at the start stays as it is, and is named until llmux is restarted."""
        self.write(
            FILE.replace("{state}", "/elsewhere")
            + "host: 0.0.0.0\nport: 4000\nadmin: {{listen: 127.0.0.1:1234}}\nworkers: 2\n"
        )
        for _ in range(2):
            done = self.successResultOf(self.app.reload())
            differs = ("host", "port", "state_dir", "workers", "admin.listen")
            self.assertEqual(done.needs_restart, differs)
        config = self.app.config
        self.assertEqual((config.host, config.port), ("127.0.0.1", 3000))
        self.assertEqual((config.state_dir, config.admin), (self.directory / "state", Admin()))

    def test_record(self) -> None:
        """What is recorded follows the file, but an order holds until the file says otherwise."""
        trace, other = self.directory / "trace.csv", self.directory / "other.csv"
        for line, recorded in (
            (f"record: {trace}\n", trace), (f"record: {trace}\nport: 3001\n", other), ("", None),
        ):  # fmt: skip
            if recorded == other:
                self.app.recorder.start(other)
            self.write(FILE + line)
            self.successResultOf(self.app.reload())
            told = self.app.recorder.as_json()["path"]
            self.assertEqual(told, recorded and str(recorded))
        self.assertTrue(trace.exists())

    def test_program_without_a_file(self) -> None:
        """A program that has made its configuration itself is told that there is no file."""
        app = build_app(self.app.config, reactor)
        app.events.log = make_logger(observer=self.seen.append)
        error = self.failureResultOf(app.reload(), ConfigError).value
        self.assertIn("has not read its configuration from a file", str(error))


class ApplyTests(SynchronousTestCase):
    """What counts from now on, and for whom."""

    def setUp(self) -> None:
        """Build an app."""
        self.app = self.build({"a": model_config("a"), "b": model_config("b")})
        self.seen: list[LogEvent] = []
        self.app.events.log = make_logger(observer=self.seen.append)

    def build(self, models: Mapping[str, ModelConfig]) -> App:
        """Build an app that has some models."""
        return build_app(Config(models=models, state_dir=Path(self.mktemp()).absolute()), reactor)

    def apply(self, **changes: object) -> tuple[str, ...]:
        """Have a configuration count that differs in some fields; give what needs a restart."""
        config = attrs.evolve(self.app.config, **changes)  # type: ignore[arg-type]  # the test's own
        return self.successResultOf(self.app.apply(config)).needs_restart

    def apply_to(self, name: str, **changes: object) -> None:
        """Have another configuration of a model count."""
        model = attrs.evolve(self.app.config.models[name], **changes)  # type: ignore[arg-type]  # the test's own
        self.apply(models={**self.app.config.models, name: model})

    def test_clients(self) -> None:
        """A model's connections are made anew if its address or their terms change, only then."""
        before = dict(self.app.clients)
        for changes, anew in (
            ({"max_waiting": 3}, False),
            ({"backend": Backend("127.0.0.1", 2)}, True),
            ({"connect_timeout_secs": 1.0}, True),
            ({"reuse_secs": 1.0}, True),
            ({"wake": "another"}, False),
        ):
            client = self.app.clients["a"]
            closed: list[str] = []
            client.close_idle = partial(closed.append, "a")  # type: ignore[method-assign]  # to see it
            self.apply_to("a", **changes)
            self.assertIs(self.app.clients["a"] is not client, anew, changes)
            self.assertEqual(closed, ["a"] * anew)
        self.assertIs(self.app.clients["b"], before["b"])
        self.assertEqual(self.app.clients["a"].host, b"127.0.0.1:2")

    def test_settings(self) -> None:
        """A model's requests are relayed as its newest configuration says."""
        self.apply_to("a", first_byte_timeout_secs=3.0)
        self.assertEqual(self.app.house.models["a"].first_byte_timeout_secs, 3.0)

    def test_model_that_is_gone(self) -> None:
        """A model that is gone leaves no client and no hooks behind."""
        closed: list[str] = []
        self.app.clients["b"].close_idle = lambda: closed.append("b")  # type: ignore[method-assign]  # to see it
        self.apply(models={"a": self.app.config.models["a"]})
        self.assertEqual((list(self.app.clients), list(self.app.house.models)), (["a"], ["a"]))
        self.assertEqual(closed, ["b"])

    def test_policy(self) -> None:
        """Another policy decides from now on; the same one goes on with what it has learnt."""
        used: list[object] = []
        self.app.switcher.use_policy = used.append  # type: ignore[method-assign,assignment]  # to see it
        self.apply()
        self.assertEqual(used, [])

        self.apply(policy=PolicyConfig(name="quantum"))
        self.apply(policy=PolicyConfig(name="quantum", options={}))
        self.assertEqual([type(policy) for policy in used], [QuantumPolicy])

    def test_policy_options(self) -> None:
        """With other options it is a new policy, and goes on with what the old one has learnt."""

        class Learning(FifoPolicy):
            learnt: Mapping[str, object] = {"made": "anew"}

            def __init__(self, speed: int = 1) -> None:
                self.speed = speed

            def as_json(self) -> dict[str, object]:
                return dict(self.learnt)

            def learn(self, learnt: Mapping[str, object]) -> None:
                self.learnt = learnt

        POLICIES["learning"] = BuiltIn("learning", Learning, ("speed",))
        self.addCleanup(POLICIES.pop, "learning")
        policy = self.app.switcher.policy
        self.apply(policy=PolicyConfig(name="learning"))
        self.assertEqual(policy.as_json(), {"made": "anew"})
        policy.learn({"much": 1})
        self.apply(policy=PolicyConfig(name="learning", options={"speed": 2}))
        self.assertEqual(policy.as_json(), {"much": 1})
        self.apply(policy=PolicyConfig(name="fifo"))
        self.assertEqual(policy.as_json(), {})

    def test_policy_that_cannot_be_made(self) -> None:
        """With a policy that cannot be made nothing changes at all."""
        before = self.app.config
        config = attrs.evolve(before, port=1, policy=PolicyConfig(name="fibo"))
        self.failureResultOf(self.app.apply(config), UnknownPolicy)
        self.assertIs(self.app.config, before)

    def test_connections(self) -> None:
        """More or fewer clients may be connected from now on, as far as files may be open."""
        self.apply(limits=Limits(max_connections=5))
        self.assertEqual(self.app.site.max_connections, 5)
        self.assertEqual(self.apply(limits=Limits(max_connections=6)), ())
        allowed = int((raise_limit(10**9) - RESERVE) / PER_CLIENT)
        if allowed > 0:  # there is a limit
            needs_restart = self.apply(limits=Limits(max_connections=allowed + 1))
            self.assertEqual(needs_restart, ("limits.max_connections",))
            self.assertEqual(self.app.site.max_connections, allowed)
            self.assertEqual(self.seen[-1]["event"], "connections_limited")

    def test_admin(self) -> None:
        """The operator's face stays where it is until llmux is restarted."""
        admin = Admin(listen=Address("127.0.0.1", 1234))
        self.assertEqual(self.apply(admin=admin), ("admin.listen",))
        self.assertEqual(self.app.config.admin, Admin())

    def test_metrics(self) -> None:
        """A new model is counted by its name; one that is gone is counted as an unknown one."""
        self.apply(models={"c": model_config("c")})
        self.app.metrics.request_answered("c", 200, 1.0)
        self.app.metrics.request_answered("a", 404, 1.0)
        told = self.app.metrics.render().decode()
        self.assertIn('llmux_model_in_flight{model="c"} 0.0', told)
        self.assertIn('llmux_requests_total{model="c",status="200"} 1.0', told)
        self.assertIn('llmux_requests_total{model="",status="404"} 1.0', told)


class ServedTests(ProcessTests):
    """What clients see of it."""

    def setUp(self) -> Any:
        """Serve a model."""
        self.backend = RawBackend(self)
        self.served = Served(self, {"a": self.backend.address})
        return super().setUp()

    def apply(self, **changes: object) -> None:
        """Have a configuration count that differs in some fields."""
        app = self.served.app
        app.apply(attrs.evolve(app.config, **changes))  # type: ignore[arg-type]  # the test's own

    async def status(self, request: bytes) -> bytes:
        """Send a request; give the status of its answer."""
        return split(await self.served.exchange(request))[0].split(b" ")[1]

    async def test_new_model(self) -> None:
        """A new model is listed and can be asked at once, and one that is gone cannot any more."""
        other = RawBackend(self)
        other.answer = http_answer(b"other")
        new = model_config("new", backend=other.address, wake="true", sleep="true")
        self.assertEqual(await self.status(http_post("new")), b"404")
        self.apply(models={"new": new})
        self.assertEqual(await self.status(http_post("new")), b"200")
        self.assertEqual(await self.status(http_post("a")), b"404")
        listed = await self.served.exchange(
            b"GET /v1/models HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
        self.assertIn(b'"new"', listed)
        self.assertNotIn(b'"a"', listed)

    async def test_address(self) -> None:
        """A model that has moved is asked where it is now."""
        self.assertEqual(await self.status(http_post("a")), b"200")
        other = RawBackend(self)
        other.answer = http_answer(b"other")
        model = attrs.evolve(self.served.app.config.models["a"], backend=other.address)
        self.apply(models={"a": model})
        self.assertTrue((await self.served.exchange(http_post("a"))).endswith(b"other"))
        self.assertIn(b"Host: %s" % other.address.authority.encode(), other.requests[0])

    async def test_hooks(self) -> None:
        """A new wake script counts from the next wake on."""
        mark = Path(self.mktemp()).absolute()
        model = attrs.evolve(self.served.app.config.models["a"], wake=f"touch {mark}")
        self.apply(models={"a": model})
        self.assertEqual(await self.status(http_post("a")), b"200")
        self.assertTrue(mark.exists())

    async def test_blocked_paths(self) -> None:
        """A path that is blocked from now on is blocked for the next request."""
        request = http_post("a", target=b"/v1/private")
        self.assertEqual(await self.status(request), b"200")
        self.apply(blocked_paths=("/v1/private",))
        self.assertEqual(await self.status(request), b"403")

    async def test_origins(self) -> None:
        """Web pages of an origin that is new in the configuration may ask at once."""
        origin = b"Origin: https://chat.example\r\nConnection: close\r\n"
        self.assertNotIn(b"Allow-Origin", await self.served.exchange(http_post(head=origin)))
        self.apply(cors_origins=("https://chat.example",))
        self.assertIn(b"Allow-Origin", await self.served.exchange(http_post(head=origin)))

    async def test_forwarded(self) -> None:
        """Backends are told who asks as soon as the configuration says so."""
        await self.status(http_post())
        self.apply(forwarded=True)
        await self.status(http_post())
        first, second = self.backend.requests
        self.assertNotIn(b"X-Forwarded-For", first)
        self.assertIn(b"X-Forwarded-For: 127.0.0.1", second)

    async def test_limits(self) -> None:
        """A smaller limit holds at once, for clients too that are connected already."""
        wire = await self.served.client()
        body = b'{"model": "a", "x": "%s"}' % (b"x" * 100)
        wire.send(http_post(body=body, head=b""))
        await wire.until(b"hello")
        self.apply(limits=Limits(max_body_bytes=100))
        wire.received.clear()
        wire.send(http_post(body=body, head=b""))
        self.assertIn(b"HTTP/1.1 413 ", await wire.until_lost())
