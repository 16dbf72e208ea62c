"""The operator's face over real sockets: what it tells, and what it does with orders."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from llmux.errors import LLMuxError
from llmux.operator import IOperator, OrderRefused
from llmux.test.desks import JSON, Desk, ask, order
from llmux.test.fakes import FakeOperator
from llmux.test.loopback import RawBackend, Served, split, until
from llmux.test.statuses import a_hook, a_model, a_status, a_switch, faults
from llmux.web.admin import AdminFace, is_operators
from llmux.web.guard import Reach

WAKE = order(b"/llmux/models/a/wake")


def done(sentence: object) -> Any:
    """Make what lets the first order succeed."""
    return lambda operator: operator.pending[0].callback(sentence)


def failed(error: Exception) -> Any:
    """Make what lets the first order fail."""
    return lambda operator: operator.pending[0].errback(error)


class FakeOperatorTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """The pretended operator can be asked all that the real one can."""
        self.assertTrue(verifyObject(IOperator, FakeOperator()))

    def test_status(self) -> None:
        """The pretended documents have the promised shape, and the check sees what has not."""
        full = a_status(a_model("a", hooks={"wake": a_hook()}), switch=a_switch())
        self.assertEqual(faults(a_status()), [])
        self.assertEqual(faults(full), [])
        broken = a_status(a_model("a", leases="2", more=1), pid=None)
        del broken["now"]
        self.assertEqual(
            sorted(faults(broken)),
            ["models[0].leases is '2'", "models[0].more is unknown", "now is missing",
             "pid is None"],
        )  # fmt: skip

    def test_error(self) -> None:
        """A refused order is one of the errors that llmux foresees."""
        error = OrderRefused(409, "not now")
        self.assertIsInstance(error, LLMuxError)
        self.assertEqual((error.status, error.message, str(error)), (409, "not now", "not now"))


class ReadingTests(TestCase):
    def setUp(self) -> None:
        """Serve the face."""
        self.desk = Desk(self)

    async def test_status(self) -> None:
        """The status document is given as JSON, and is not to be kept."""
        status, headers, body = await self.desk.exchange(ask(b"/llmux/status"))
        self.assertEqual((status, headers[b"content-type"]), (200, [b"application/json"]))
        self.assertEqual(headers[b"cache-control"], [b"no-store"])
        self.assertEqual(headers[b"x-content-type-options"], [b"nosniff"])
        self.assertEqual(len(headers[b"x-request-id"]), 1)
        self.assertEqual(json.loads(body), self.desk.operator.document)

    async def test_timeline(self) -> None:
        """So is what models did."""
        status, headers, body = await self.desk.exchange(ask(b"/llmux/timeline"))
        self.assertEqual((status, headers[b"content-type"]), (200, [b"application/json"]))
        self.assertEqual(json.loads(body), self.desk.operator.timeline())

    async def test_recording(self) -> None:
        """So is what is recorded."""
        status, headers, body = await self.desk.exchange(ask(b"/llmux/recording"))
        self.assertEqual((status, headers[b"content-type"]), (200, [b"application/json"]))
        self.assertEqual(json.loads(body), self.desk.operator.recording())

    async def test_head(self) -> None:
        """HEAD is answered as GET is, without the body."""
        for path in (b"/llmux/status", b"/health", b"/llmux/models/a/output?hook=wake"):
            status, headers, body = await self.desk.exchange(ask(path, b"HEAD"))
            self.assertEqual((status, body), (200, b""))
            self.assertNotEqual(headers[b"content-length"], [b"0"])

    async def test_health(self) -> None:
        """A listener of its own says what it is."""
        status, _, body = await self.desk.exchange(ask(b"/health"))
        self.assertEqual((status, json.loads(body)), (200, {"status": "ok"}))

    async def test_output(self) -> None:
        """What a hook has printed is given as text."""
        status, headers, body = await self.desk.exchange(ask(b"/llmux/models/a/output?hook=wake"))
        self.assertEqual((status, headers[b"content-type"]), (200, [b"text/plain; charset=utf-8"]))
        self.assertEqual(body.decode(), "loading\nr\xe4ady\n")

    async def test_output_of_nothing(self) -> None:
        """Without a hook, or with one that nobody has, it is said which there are."""
        for query, expected in ((b"", 400), (b"?hook=", 404), (b"?hook=w", 404),
                                (b"?hook=wake&hook=sleep", 400), (b"?hook=%ff", 404)):  # fmt: skip
            status, message = await self.desk.refused(ask(b"/llmux/models/a/output" + query))
            self.assertEqual(status, expected, query)
            self.assertIn("wake, sleep, alive, freed, kill", message)
        answer = await self.desk.refused(ask(b"/llmux/models/b/output?hook=wake"))
        self.assertEqual(answer, (404, "Model not found: b"))

    async def test_logged(self) -> None:
        """Looking leaves a debug event for each request, and no other."""
        await self.desk.exchange(ask(b"/llmux/status?x=1", head=b"X-Request-Id: r1\r\n"))
        await self.desk.exchange(ask(b"/llmux/nothing"))
        told = [(e["request_id"], e["method"], e["path"], e["status"])
                for e in self.desk.logged("own_path_asked")]  # fmt: skip
        self.assertEqual(told[0], ("r1", "GET", "/llmux/status", 200))
        self.assertEqual(told[1][1:], ("GET", "/llmux/nothing", 404))
        self.assertEqual(self.desk.logged("operator_asked"), [])

    async def test_bug(self) -> None:
        """What nobody foresaw is a 500 without details, and is logged with its traceback."""
        self.desk.operator.document = {"a": object()}
        answer = await self.desk.refused(ask(b"/llmux/status"))
        self.assertEqual(answer, (500, "Internal error; the server's log says more"))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)


class OrderTests(TestCase):
    def setUp(self) -> None:
        """Serve the face."""
        self.desk = Desk(self)

    async def test_done(self) -> None:
        """An order is answered when it has been carried out, with what was done."""
        for verb in (b"wake", b"sleep", b"kill"):
            wire = await self.desk.give(order(b"/llmux/models/a/" + verb))
            self.assertEqual(self.desk.operator.orders[-1].encode(), verb + b" a")
            self.assertEqual(wire.received, b"")
            self.desk.operator.pending[-1].callback("a did it")
            status, _, body = split(await wire.until_lost())
            self.assertEqual((status, json.loads(body)), (b"HTTP/1.1 200 OK", {"done": "a did it"}))

    async def test_reload(self) -> None:
        """What a new configuration has changed is told as it is."""
        told = {"changed": ["a"], "added": [], "removed": [], "needs_restart": ["port"]}
        answer = await self.desk.carry_out(order(b"/llmux/reload", body=b" {} "), done(told))
        self.assertEqual(answer, (200, told))
        self.assertEqual(self.desk.operator.orders, ["reload"])

    async def test_record(self) -> None:
        """Recording begins with the name of a file and ends without; the log tells of both."""
        path = b"/llmux/recording"
        status, _, body = await self.desk.exchange(order(path, body=b'{"path": "x.csv"}'))
        self.assertEqual((status, json.loads(body)["path"]), (200, "x.csv"))
        end = order(path).replace(b"POST", b"DELETE", 1)
        status, _, body = await self.desk.exchange(end)
        self.assertEqual((status, json.loads(body)["path"]), (200, None))
        self.assertEqual(self.desk.operator.orders, ["record x.csv", "stop_recording"])
        logged = [event["order"] for event in self.desk.logged("operator_asked")]
        self.assertEqual(logged, ["record", "stop_recording"])
        status, message = await self.desk.refused(order(path, body=b'{"path": "/x.csv"}'))
        self.assertEqual((status, message), (400, "This is no name"))

    async def test_record_what(self) -> None:
        """An order to record that names no file, or says more, is refused."""
        for body in (
            b"", b"{}", b"[]", b'"x.csv"', b'{"path": 1}', b'{"path": "x", "rows": 1}', b"{",
            b'{"path": "%s"}' % (b"x" * 2000), b'{"name": "x"}',
        ):  # fmt: skip
            status, message = await self.desk.refused(order(b"/llmux/recording", body=body))
            self.assertEqual(status, 400, body)
            self.assertIn("name of a file", message)
        more = order(b"/llmux/recording", body=b'{"path": "x"}').replace(b"POST", b"DELETE", 1)
        self.assertEqual((await self.desk.refused(more))[0], 400)
        self.assertEqual(self.desk.operator.orders, [])

    async def test_refused(self) -> None:
        """An order that is refused, or fails, is answered with why."""
        for status in (404, 409, 503, 400):
            wire = await self.desk.give(WAKE)
            self.desk.operator.pending[-1].errback(OrderRefused(status, "line 1\nline 2"))
            head, _, body = split(await wire.until_lost())
            self.assertEqual(int(head.split()[1]), status)
            told = {"message": "line 1\nline 2", "type": "llmux_error"}
            self.assertEqual(json.loads(body), {"error": told})

    async def test_bug(self) -> None:
        """An order that fails in a way nobody foresaw is a 500, and is logged."""
        answer = await self.desk.carry_out(WAKE, failed(RuntimeError("planted")))
        self.assertEqual(answer[0], 500)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual([e["status"] for e in self.desk.logged("operator_answered")], [500])

    async def test_names(self) -> None:
        """A model can be called anything, encoded or with plain slashes; the verb comes last."""
        for path, name in (
            (b"facebook/opt-125m", "facebook/opt-125m"), (b"facebook%2Fopt-125m",
            "facebook/opt-125m"), (b"qwen3:8b", "qwen3:8b"), (b"qwen3%3A8b", "qwen3:8b"),
            (b"m%C3%BCller", "m\xfcller"), (b"a%20b%25%3F", "a b%?"), (b"wake", "wake"),
            (b"x/wake/sleep", "x/wake/sleep"), (b"/a//b/", "/a//b/"), (b"..", ".."),
            (b"%FF", "\ufffd"), (b"a+b", "a+b"),
        ):  # fmt: skip
            wire = await self.desk.give(order(b"/llmux/models/" + path + b"/wake?ignored"))
            self.assertEqual(self.desk.operator.orders[-1], f"wake {name}")
            wire.abort()

    async def test_client_that_leaves(self) -> None:
        """A client that leaves takes no order back, and nothing goes wrong for it."""
        wire = await self.desk.give(WAKE)
        wire.abort()
        await until(lambda: self.desk.logged("own_path_asked"), "the client's end")
        self.assertEqual(self.desk.logged("own_path_asked")[0]["status"], 499)
        self.assertFalse(self.desk.operator.pending[0].called)
        self.assertEqual(self.desk.logged("operator_answered"), [])
        self.desk.operator.pending[0].callback("a is awake")
        self.assertEqual(self.desk.logged("operator_answered")[0]["status"], 200)
        answer = await self.desk.carry_out(order(b"/llmux/reload"), lambda operator:
                                           operator.pending[1].callback({}))  # fmt: skip
        self.assertEqual(answer, (200, {}))

    async def test_client_that_leaves_a_failure(self) -> None:
        """An order that fails when its client has left is in the log, and nowhere else."""
        wire = await self.desk.give(WAKE)
        wire.abort()
        await until(lambda: not self.desk.site.connections, "the client's end")
        self.desk.operator.pending[0].errback(OrderRefused(503, "no"))
        self.assertEqual(self.desk.logged("operator_answered")[0]["status"], 503)

    async def test_client_that_leaves_while_it_sends(self) -> None:
        """An order that has not come whole is none."""
        wire = await self.desk.wire()
        head = JSON + b"Content-Length: 2\r\nExpect: 100-continue\r\n"
        wire.send(order(b"/llmux/reload", head))
        await wire.until(b"100 Continue")
        wire.abort()
        await until(lambda: self.desk.logged("own_path_asked"), "the client's end")
        self.assertEqual(self.desk.logged("own_path_asked")[0]["status"], 499)
        self.assertEqual(self.desk.operator.orders, [])

    async def test_logged(self) -> None:
        """An order is logged when it comes, with who gave it, and when it has ended."""
        wire = await self.desk.give(order(b"/llmux/models/a/wake", JSON + b"X-Request-Id: r1\r\n"))
        (asked,) = self.desk.logged("operator_asked")
        told = {name: asked[name] for name in ("order", "model", "client", "request_id")}
        expected = {"order": "wake", "model": "a", "client": "127.0.0.1", "request_id": "r1"}
        self.assertEqual(told, expected)
        self.assertEqual(self.desk.logged("operator_answered"), [])
        self.desk.operator.pending[0].errback(OrderRefused(409, "no"))
        await wire.until_lost()
        (answered,) = self.desk.logged("operator_answered")
        self.assertEqual(
            {name: answered[name] for name in ("order", "model", "status", "request_id")},
            {"order": "wake", "model": "a", "status": 409, "request_id": "r1"},
        )
        self.assertIn("duration_secs", answered)


class DoorTests(TestCase):
    """Nobody but the operator gets anywhere."""

    def setUp(self) -> None:
        """Serve the face."""
        self.desk = Desk(self)

    async def assert_refused(self, request: bytes, expected: int) -> None:
        """Check that a request is refused, and that nothing was ordered."""
        status, _ = await self.desk.refused(request)
        self.assertEqual(status, expected, request)
        self.assertEqual(self.desk.operator.orders, [])
        self.assertEqual(self.desk.logged("operator_asked"), [])

    async def test_pages(self) -> None:
        """A web page can neither read nor order anything."""
        for head in (b"Origin: http://evil.example\r\n", b"Sec-Fetch-Site: cross-site\r\n"):
            await self.assert_refused(ask(b"/llmux/status", head=head), 403)
            await self.assert_refused(ask(b"/health", head=head), 403)
            await self.assert_refused(order(b"/llmux/models/a/kill", JSON + head), 403)
        await self.assert_refused(order(b"/llmux/models/a/kill", b""), 415)

    async def test_preflight(self) -> None:
        """A browser that asks what it may do is told that it may nothing."""
        asks = b"Access-Control-Request-Method: POST\r\n"
        head = b"Origin: http://evil.example\r\n" + asks
        await self.assert_refused(ask(b"/llmux/reload", b"OPTIONS", head), 403)
        await self.assert_refused(ask(b"/llmux/reload", b"OPTIONS", asks), 405)

    async def test_rebinding(self) -> None:
        """A page whose name was pointed at this machine can do nothing, either."""
        for request in (ask(b"/llmux/status"), WAKE):
            rebound = request.replace(b"localhost", b"evil.example")
            await self.assert_refused(rebound, 403)

    async def test_methods(self) -> None:
        """A wrong method is told the right ones."""
        for request, allowed in (
            (order(b"/llmux/status"), b"GET, HEAD"), (order(b"/health"), b"GET, HEAD"),
            (order(b"/llmux/models/a/output?hook=wake"), b"GET, HEAD"),
            (ask(b"/llmux/models/a/wake"), b"POST"), (ask(b"/llmux/reload", b"HEAD"), b"POST"),
            (ask(b"/llmux/models/a/kill", b"DELETE", JSON), b"POST"),
        ):  # fmt: skip
            status, headers, _ = await self.desk.exchange(request)
            self.assertEqual((status, headers[b"allow"]), (405, [allowed]))
        self.assertEqual(self.desk.operator.orders, [])

    async def test_unknown_paths(self) -> None:
        """Whatever is not one of the paths, to the letter, is not there."""
        for path in (
            b"/llmux", b"/llmux/", b"/llmux/statu", b"/llmux/status/", b"/llmux//status",
            b"//llmux/status", b"/%6clmux/status", b"/llmux%2Fstatus", b"/LLMUX/status",
            b"/llmux/./status", b"/llmux/models", b"/llmux/models/", b"/llmux/models/a",
            b"/llmux/models/wake", b"/llmux/models//wake", b"/llmux/models/a/", b"/",
            b"/llmux/models/a/wak%65", b"/llmux/models/a/reload", b"/llmux/models/a/status",
            b"/llmux/models/a/health", b"/v1/models", b"/metrics", b"/health/", b"/llmux/wake",
            b"/llmux/health",
        ):  # fmt: skip
            await self.assert_refused(ask(path), 404)
            await self.assert_refused(order(path), 404)

    async def test_bodies(self) -> None:
        """An order that says more than its path is refused: nobody would do what it says."""
        for body in (
            b'{"model": "b"}', b"[]", b"null", b"1", b"{", b"\xff", b"[" * 2000, b" " * 2000,
            b"[" * 1000, b"{}{}", b'""', b"{}" + b" " * 2000, b"{}" + b" " * 1022 + b"x",
        ):  # fmt: skip
            await self.assert_refused(order(b"/llmux/reload", body=body), 400)

    async def test_strange_http(self) -> None:
        """What is refused to clients is refused here, and nothing else is looked at."""
        for head, expected in ((b"Expect: cake\r\n", 417), (b"Content-Length: x\r\n", 400)):
            await self.assert_refused(order(b"/llmux/reload", JSON + head), expected)
        await self.assert_refused(order(b"/llmux/caf\xc3\xa9"), 400)


class SocketTests(TestCase):
    async def test_unix(self) -> None:
        """Over a UNIX socket the name in Host does not matter; a page's origin does."""
        path = Path(tempfile.mkdtemp(prefix="llmux-test-")) / "admin.sock"
        self.addCleanup(path.parent.rmdir)
        desk = Desk(self, Reach.SOCKET, path)
        status, _, _ = await desk.exchange(ask(b"/llmux/status").replace(b"localhost", b"x"))
        self.assertEqual(status, 200)
        wire = await desk.give(WAKE)
        desk.operator.pending[0].callback("a is awake")
        self.assertIn(b"a is awake", await wire.until_lost())
        self.assertEqual(desk.logged("operator_asked")[0]["client"], "unix")
        for head, expected in ((b"Origin: http://evil.example\r\n", 403),
                               (b"Expect: cake\r\n", 417)):  # fmt: skip
            answer = await desk.refused(ask(b"/llmux/status", head=head))
            self.assertEqual(answer[0], expected)


class FrontDoorTests(TestCase):
    """The face where clients are served."""

    def setUp(self) -> None:
        """Serve one model, to pages of any origin."""
        self.backend = RawBackend(self)
        self.served = Served(self, {"a": self.backend.address}, {"cors_origins": ("*",)})
        self.operator = FakeOperator()

    def open_face(self) -> None:
        """Have the operator's face there, too."""
        app = self.served.app
        app.resource.admin = AdminFace(self.operator, Reach.LOOPBACK, _reactor(), app.events, dict)

    async def answer(self, request: bytes) -> tuple[int, str]:
        """Give status and body of an answer that no web page may read."""
        status, headers, body = split(await self.served.exchange(request))
        self.assertEqual([name for name in headers if name.startswith(b"access-control")], [])
        self.assertEqual(self.backend.requests, [])
        return int(status.split()[1]), body.decode()

    async def test_here(self) -> None:
        """Where the face is with the clients, the operator is answered and clients are served."""
        self.open_face()
        status, body = await self.answer(ask(b"/llmux/status"))
        self.assertEqual((status, json.loads(body)), (200, self.operator.document))
        answer: Deferred[bytes] = Deferred.fromCoroutine(self.served.exchange(WAKE))
        await until(lambda: self.operator.orders == ["wake a"], "the order")
        self.operator.pending[0].callback("a is awake")
        self.assertTrue((await answer).endswith(b'{"done": "a is awake"}'))
        relayed = await self.served.exchange(order(b"/v1/x", body=b'{"model": "a"}'))
        self.assertTrue(relayed.endswith(b"hello"))
        self.assertIn(b'"status": "ok"', await self.served.exchange(ask(b"/health")))

    async def test_pages(self) -> None:
        """Pages that may ask the models may not ask the operator's face."""
        self.open_face()
        page = b"Origin: http://chat.example\r\n"
        preflight = page + b"Access-Control-Request-Method: POST\r\n"
        for request in (
            ask(b"/llmux/status", head=page),
            order(b"/llmux/models/a/wake", JSON + page),
            ask(b"/llmux/reload", b"OPTIONS", preflight),
            ask(b"/%6clmux/reload", b"OPTIONS", preflight),
        ):
            self.assertEqual((await self.answer(request))[0], 403)
        self.assertEqual(self.operator.orders, [])
        models = await self.served.exchange(ask(b"/v1/models", head=page))
        self.assertIn(b"Access-Control-Allow-Origin", models)

    async def test_disguises(self) -> None:
        """A path that somebody might take for the operator's is nobody's."""
        self.open_face()
        for path in (b"/llmux//status", b"/%6Clmux/status", b"/LLMUX/status", b"//llmux/status"):
            self.assertEqual((await self.answer(ask(path)))[0], 404, path)

    async def test_not_here(self) -> None:
        """Where the face is not, its paths are not there, and no backend is asked for them."""
        model = b'{"model": "a"}'
        preflight = b"Origin: http://chat.example\r\nAccess-Control-Request-Method: POST\r\n"
        for path in (
            b"/llmux", b"/llmux/", b"/llmux/status", b"/llmux//status", b"/%6clmux/status",
            b"/%256clmux/x", b"//llmux/status", b"/LLMUX/status", b"/x/../llmux/status",
            b"/llmux%2fstatus", b"/llmux?model=a", b"/upstream/a/../../llmux/status",
        ):  # fmt: skip
            for request in (
                ask(path),
                order(path, body=model),
                order(path, b"", model),
                ask(path, b"DELETE", JSON, model),
                ask(path, b"OPTIONS", preflight),
                ask(path, b"GET", b"Upgrade: websocket\r\nConnection: upgrade\r\n"),
            ):
                status, body = await self.answer(request)
                self.assertEqual(status, 404, request)
                self.assertIn("admin.listen", body)
        refused = await self.answer(order(b"/llmux/reload", JSON + b"Expect: cake\r\n"))
        self.assertEqual(refused[0], 417)

    async def test_face_of_a_backend(self) -> None:
        """A backend that is an llmux itself cannot be steered through this one."""
        for path in (b"/upstream/a/llmux/status", b"/upstream/a/llmux/models/b/kill"):
            answer = await self.served.exchange(order(path))
            self.assertTrue(answer.startswith(b"HTTP/1.1 403 "), answer)
        self.assertEqual(self.backend.requests, [])

    async def test_others_are_relayed(self) -> None:
        """Paths that only look a little like the operator's belong to the backends."""
        for path in (b"/llmuxx", b"/v1/llmux", b"/%20llmux", b"/upstream/a/v1/llmux"):
            answer = await self.served.exchange(order(path, body=b'{"model": "a"}'))
            self.assertTrue(answer.endswith(b"hello"), path)
        self.assertEqual(len(self.backend.requests), 4)

    async def test_client_that_leaves_while_it_sends(self) -> None:
        """A request for the face that has not come whole is none of the clients' requests."""
        client = await self.served.client()
        head = JSON + b"Content-Length: 2\r\nExpect: 100-continue\r\n"
        client.send(order(b"/llmux/reload", head))
        await client.until(b"100 Continue")
        client.abort()
        await until(lambda: not self.served.app.site.connections, "the client's end")
        self.assertEqual(self.served.sample("llmux_requests_total", model="", status="499"), 0)


class PathTests(SynchronousTestCase):
    def test_is_operators(self) -> None:
        """A path is the operator's in whatever way it is written, and only if it begins so."""
        for path in (
            b"/llmux",
            b"/llmux/",
            b"/LlMux/x",
            b"/%6c%6C%6d%75%78",
            b"\\llmux",
            b"//llmux",
        ):
            self.assertTrue(is_operators(path), path)
        for path in (b"/", b"/v1/chat/completions", b"/llmuxes", b"/v1/models/llmux", b"/%2flm"):
            self.assertFalse(is_operators(path), path)


def _reactor() -> Any:
    return reactor
