"""The demo's HTTP face: one pretended model on twisted.web."""

import json
from collections.abc import AsyncIterator, Callable
from itertools import count, islice

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from llmux.demo import speech, wire
from llmux.demo.bed import Bed
from llmux.demo.engine import Engine, Pace
from llmux.demo.memory import NoRoom

_GET, _POST = (b"GET", b"HEAD"), (b"POST",)


@define
class Backend:
    """
    A model that is pretended to load and to speak.

    :ivar name: what the model is called, in its answers too.
    :ivar clock: where the time comes from.
    :ivar load_secs: how long it loads, from when this object is made.
    :ivar pace: how fast it reads and speaks.
    :ivar bed: lets it sleep, if it can.
    :ivar in_flight: how many answers are being spoken right now.
    """

    name: str
    clock: IReactorTime
    load_secs: float
    pace: Pace
    bed: Bed | None = None
    in_flight: int = field(default=0, init=False)
    _started: float = field(init=False)
    _engine: Engine = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._started = self.clock.seconds()
        self._engine = Engine(self.clock, self.pace)

    @property
    def loading(self) -> bool:
        """Whether it cannot answer yet."""
        return self.clock.seconds() - self._started < self.load_secs

    async def speak(self, ask: wire.Ask) -> AsyncIterator[str]:
        """
        Yield the tokens of an answer, each when it is due; if it is no stream, all at its end.

        Each is due by the beginning of the answer, so that late timers do not add up.
        """
        tokens = islice(speech.answer(self.name, ask.prompt), ask.tokens)
        async with self._engine.place() as begun:
            begun += self.pace.reading(ask.prompt_tokens)
            if not ask.stream:
                await self._engine.until(begun + self.pace.speaking(ask.tokens))
            for number, token in enumerate(tokens, start=1):
                await self._engine.until(begun + self.pace.speaking(number))
                yield token


class BackendResource(Resource):
    """
    Answers every request of one backend; whatever goes wrong is answered in JSON too.

    :param backend: the model that speaks.
    :param log: takes one line for each request that has ended, but for those for its health.
    """

    def __init__(self, backend: Backend, log: Callable[[str], object]) -> None:
        Resource.__init__(self)
        self.isLeaf = True
        self._backend = backend
        self._log = log
        self._numbers = count(1)

    def render(self, request: Request) -> int:
        """Begin to answer; a client that leaves ends the answer."""
        finished = request.notifyFinish()
        answering = Deferred.fromCoroutine(self._answer(request))
        finished.addErrback(lambda left: answering.cancel())
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        begun = self._backend.clock.seconds()
        what = (request.method + b" " + request.path).decode("ascii", "replace")
        try:
            note = await self._dispatch(request)
        except wire.BadRequest as error:
            note = str(error)
            _reply(request, 400, wire.error(note, "invalid_request_error"))
        except CancelledError:
            note = "the client left"
        except Exception as error:
            note = f"a fault of the demo's own: {error!r}"
            _fail(request)
        if request.path == b"/health":
            return  # asked many times while a wake hook waits, it would drown everything else
        status = request.code if request.startedWriting else "-"
        took = self._backend.clock.seconds() - begun
        self._log(f"{what} {status} {took:.3f} s {note}".rstrip())

    async def _dispatch(self, request: Request) -> str:
        """
        Answer a request.

        :returns: what the log is to say about it, beside what it says about every request.
        """
        routes = {
            b"/health": (_GET, self._health),
            b"/v1/models": (_GET, self._models),
            b"/v1/chat/completions": (_POST, self._chat),
            b"/v1/completions": (_POST, self._complete),
            b"/v1/embeddings": (_POST, self._embed),
            b"/v1/audio/transcriptions": (_POST, self._transcribe),
        }
        if self._backend.bed is not None:
            routes |= {
                b"/is_sleeping": (_GET, self._is_sleeping),
                b"/sleep": (_POST, self._sleep),
                b"/wake_up": (_POST, self._wake_up),
                b"/collective_rpc": (_POST, self._nothing),
            }
        methods, handler = routes.get(request.path, ((), None))
        if handler is None:
            missing = wire.error("There is nothing at this path", "not_found_error")
            return _reply(request, 404, missing)
        if request.method not in methods:
            request.setHeader(b"allow", b", ".join(methods))
            wrong = wire.error("This path does not know this method", "invalid_request_error")
            return _reply(request, 405, wrong)
        if self._backend.loading and request.path != b"/health":
            request.setHeader(b"retry-after", b"1")
            early = wire.error("The model is loading", "unavailable_error")
            return _reply(request, 503, early)
        bed = self._backend.bed
        if bed is not None and bed.asleep and request.path.startswith(b"/v1/"):
            return _reply(request, 503, wire.error("The model is asleep", "unavailable_error"))
        return await handler(request)

    async def _health(self, request: Request) -> str:
        if self._backend.loading:
            return _reply(request, 503, {"status": "loading"})
        return _reply(request, 200, {"status": "ok"})

    async def _models(self, request: Request) -> str:
        return _reply(request, 200, wire.models(self._backend.name))

    async def _is_sleeping(self, request: Request) -> str:
        assert self._backend.bed is not None
        return _reply(request, 200, {"is_sleeping": self._backend.bed.asleep})

    async def _sleep(self, request: Request) -> str:
        assert request.args is not None
        level = int((request.args.get(b"level") or [b"1"])[0])
        assert self._backend.bed is not None
        return _moved(request, lambda bed: bed.sleep(level), self._backend.bed)

    async def _wake_up(self, request: Request) -> str:
        assert self._backend.bed is not None
        return _moved(request, Bed.wake, self._backend.bed)

    async def _nothing(self, request: Request) -> str:
        return _reply(request, 200, {})

    async def _embed(self, request: Request) -> str:
        body = _read(request)
        return _reply(request, 200, wire.embeddings(body, self._backend.name))

    async def _transcribe(self, request: Request) -> str:
        assert request.args is not None  # a form's fields; Twisted has read them
        return _reply(request, 200, wire.transcription(request.args))

    async def _chat(self, request: Request) -> str:
        body = _read(request)
        return await self._speak(request, wire.read_ask(body, chat=True), "chatcmpl-demo")

    async def _complete(self, request: Request) -> str:
        body = _read(request)
        return await self._speak(request, wire.read_ask(body, chat=False), "cmpl-demo")

    async def _speak(self, request: Request, ask: wire.Ask, prefix: str) -> str:
        created = int(self._backend.clock.seconds())
        identity = f"{prefix}-{next(self._numbers)}"
        answer = wire.Answer(ask, self._backend.name, identity, created)
        self._backend.in_flight += 1
        try:
            tokens = self._backend.speak(ask)
            if ask.stream:
                await _stream(request, answer, tokens)
            else:
                _reply(request, 200, answer.whole("".join([token async for token in tokens])))
        finally:
            self._backend.in_flight -= 1
        return f"{ask.tokens} tokens{', streamed' if ask.stream else ''}"


def _moved(request: Request, move: Callable[[Bed], None], bed: Bed) -> str:
    """Let an engine sleep or wake, and say so."""
    try:
        move(bed)
    except NoRoom as refusal:
        _reply(request, 500, wire.error(str(refusal), "server_error"))
        return str(refusal)
    return _reply(request, 200, {})


def _read(request: Request) -> wire.Json:
    """
    Read a request's body.

    :raises BadRequest: it is not a JSON object.
    """
    assert request.content is not None  # it has been received whole
    return wire.read_body(request.content.read())


async def _stream(request: Request, answer: wire.Answer, tokens: AsyncIterator[str]) -> None:
    """Send an answer as it comes: one event a token, then its end."""
    request.setHeader(b"content-type", b"text/event-stream")
    request.setHeader(b"cache-control", b"no-cache")
    first = True
    async for token in tokens:
        request.write(wire.event(answer.piece(token, first=first)))
        first = False
    request.write(wire.event(answer.piece(None)))
    if answer.ask.include_usage:
        request.write(wire.event(answer.tally()))
    request.write(wire.event("[DONE]"))
    request.finish()


def _reply(request: Request, status: int, content: wire.Json) -> str:
    """
    Send an answer in one piece.

    :returns: nothing to log.
    """
    body = json.dumps(content).encode()
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(body))
    request.write(body)
    request.finish()
    return ""


def _fail(request: Request) -> None:
    """
    End a request that met a fault of this program.

    A stream that has begun is cut: ended in good order, it would look complete.
    """
    if not request.startedWriting:
        _reply(request, 500, wire.error("The demo met a fault of its own", "server_error"))
    else:
        request.loseConnection()
