"""
What the tests of the hooks in ``examples/`` are made of.

The scripts are the real ones, run by a real shell; the servers and tools that they deal with are
stand-ins, which the test's process answers for over HTTP.
"""

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReactorTCP
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from llmux.test.processes import ProcessTests

CHECKOUT = Path(__file__).parents[2]
EXAMPLES = CHECKOUT / "examples"

NO_EXAMPLES = None if EXAMPLES.is_dir() else "there are no examples: this is not a checkout"
MISSING = NO_EXAMPLES or (None if shutil.which("curl") else "curl is missing")

#: A container engine and a systemctl: it notes how it was called, and keeps one status.
TOOL = r"""#!/bin/sh
echo "$*" >>"$FAKE/calls"
case ${0##*/} in systemctl) up=active down=inactive ;; *) up=running down=exited ;; esac
case $1 in container | --user) shift ;; esac
case " $(cat "$FAKE/fails") " in *" $1 "*) echo "$1 fails" >&2; exit 1 ;; esac
status=$(cat "$FAKE/status")
case $1 in
    inspect)
        [ "$status" != none ] || { echo "Error: No such container: x" >&2; exit 1; }
        case $* in *Checkpointed*) status="$status $(cat "$FAKE/checkpointed")" ;; esac
        echo "$status" ;;
    ls) [ "$status" != running ] || echo box ;;
    show) echo "$status" ;;
    is-active) [ "$status" = active ] ;;
    start | unpause) echo $up >"$FAKE/status"; echo false >"$FAKE/checkpointed" ;;
    restore) echo $up >"$FAKE/status"; echo false >"$FAKE/checkpointed" ;;
    checkpoint) echo $down >"$FAKE/status"; echo true >"$FAKE/checkpointed" ;;
    stop) echo $down >"$FAKE/status" ;;
    kill) echo failed >"$FAKE/status" ;;
    logs) echo "its last words" ;;
esac
"""

#: A clock that is a second further at each look.
DATE = r"""#!/bin/sh
now=$(($(cat "$FAKE/now") + 1))
echo "$now" >"$FAKE/now"
echo "$now"
"""

#: The variables that hooks get from whoever runs the tests; any other could be a hook's setting.
INHERITED = ("HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR")


@frozen
class Ended:
    """
    How a hook ended.

    :ivar output: all that it and whatever it started have printed by then.
    """

    status: int
    output: str


class Hook(ProcessProtocol):
    """
    A hook that runs; like llmux, it does not wait for what the hook leaves behind.

    :ivar exited: fires with its exit status, or -1 if a signal ended it.
    """

    def __init__(self) -> None:
        self.exited: Deferred[int] = Deferred()

    def processExited(self, reason: Failure) -> None:
        """Note how it ended."""
        status = getattr(reason.value, "exitCode", None)
        self.exited.callback(-1 if status is None else status)


@define(eq=False, slots=False)
class Server(Resource):
    """
    An HTTP server that says what the test wants.

    :ivar answers: what to do for each path: it gives the status and the body.
    :ivar calls: the requests other than ``GET``, with their bodies.
    """

    answers: dict[str, Callable[[], tuple[int, object]]] = field(factory=dict)
    calls: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        Resource.__init__(self)
        self.isLeaf = True

    def render(self, request: Request) -> bytes:
        """Answer."""
        assert request.content is not None
        if request.method != b"GET":
            body = request.content.read().decode()
            self.calls.append(f"{request.uri.decode()} {body}".rstrip())
        answer = self.answers.get(request.path.decode(), lambda: (404, {}))
        status, content = answer()
        request.setResponseCode(status)
        return json.dumps(content).encode()


class ExampleTests(ProcessTests):
    """
    What the tests of one example share.

    :cvar example: its folder.
    :cvar model: the model that the hooks are run for.
    :cvar settings: what each hook's line in the config sets.
    """

    example = ""
    model = "some/model"
    settings: ClassVar[dict[str, str]] = {}
    skip = MISSING

    def setUp(self) -> Any:
        """Make a place for what is kept, and stand-ins on the PATH."""
        started = super().setUp()
        self.place = Path(self.mktemp()).absolute() / "a place"
        self.state = self.place / "models" / "some%2Fmodel"
        self.state.mkdir(parents=True)
        for name in ("calls", "fails"):
            (self.place / name).touch()
        (self.place / "checkpointed").write_text("false")
        self.set_status("none")
        self.port = self._reserve_port()
        self.over = False
        self.addCleanup(self._end_servers)
        return started

    def _reserve_port(self) -> int:
        """
        Find a port that nobody listens on.

        As long as it is bound here, nobody gets it who asks for any port; who asks for this one,
        does.
        """
        reserved = socket.socket()
        self.addCleanup(reserved.close)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
        return port

    def _end_servers(self) -> None:
        """End whatever the hooks have written the number of into a file."""
        self.over = True
        for pid_file in self.state.glob("*.pid"):
            pid = int(pid_file.read_text())
            for kill in (os.killpg, os.kill):
                try:
                    kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def install(self, name: str, program: str) -> Path:
        """Put a program on the PATH of the hooks."""
        path = self.place / name
        path.write_text(program)
        path.chmod(0o755)
        return path

    def hurry(self) -> None:
        """Let time pass as fast as the hooks look at the clock."""
        (self.place / "now").write_text("0")
        self.install("date", DATE)
        self.install("sleep", "#!/bin/sh\n")

    def set_status(self, status: str) -> None:
        """Set the status that the stand-in for a tool keeps."""
        (self.place / "status").write_text(status)

    @property
    def status(self) -> str:
        """The status that the stand-in for a tool keeps."""
        return (self.place / "status").read_text().strip()

    @property
    def calls(self) -> list[str]:
        """How the stand-in for a tool was called, but for questions."""
        questions = ("container inspect", "container ls", "--user show", "--user is-active")
        lines = (self.place / "calls").read_text().splitlines()
        return [line for line in lines if not line.startswith(questions)]

    def healthy(self) -> tuple[int, object]:
        """Answer for a server that is healthy while its status says that it runs."""
        return (200 if self.status in ("running", "active", "up") else 503), {}

    def serve(self, resource: Any) -> None:
        """Answer at the model's address."""
        from twisted.internet import reactor

        factory: Any = resource if isinstance(resource, Factory) else Site(resource)
        port = IReactorTCP(reactor).listenTCP(self.port, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)

    async def run_hook(self, hook: str, **settings: str) -> Ended:
        """Run a hook to its end, in the environment that llmux gives it."""
        from twisted.internet import reactor

        # A test that has run out of time is over before it has ended.
        assert not self.over, "nobody would end what this hook starts"
        environment = {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            "PATH": f"{self.place}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "FAKE": str(self.place),
            "LLMUX_MODEL": self.model,
            "LLMUX_HOOK": hook,
            "LLMUX_PORT": str(self.port),
            "LLMUX_URL": f"http://127.0.0.1:{self.port}",
            "LLMUX_DEADLINE": "600.5",
            "LLMUX_STATE_DIR": str(self.state),
            **self.settings,
            **settings,
        }
        running = Hook()
        with (self.place / "output").open("wb") as output, open(os.devnull, "rb") as nothing:
            files = {0: nothing.fileno(), 1: output.fileno(), 2: output.fileno()}
            process = IReactorProcess(reactor).spawnProcess(
                running,
                "/bin/sh",
                ["sh", "-c", f"exec examples/{self.example}/{hook}.sh"],
                env=environment,
                path=str(CHECKOUT),
                childFDs=files,
            )
        self.addCleanup(_end, process)
        status = await running.exited
        return Ended(status, (self.place / "output").read_text())

    async def assert_hook(self, hook: str, **settings: str) -> str:
        """Run a hook, which is to succeed, and give its output."""
        ended = await self.run_hook(hook, **settings)
        self.assertEqual(ended.status, 0, ended.output)
        return ended.output

    async def assert_hook_fails(self, hook: str, **settings: str) -> str:
        """Run a hook, which is to fail, and give its output."""
        ended = await self.run_hook(hook, **settings)
        self.assertGreater(ended.status, 0, ended.output)
        return ended.output


def _end(process: IProcessTransport) -> None:
    if process.pid is not None:
        process.signalProcess("KILL")
