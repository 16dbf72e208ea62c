"""Tests of how the modules of llmux hang together; they read the source and run none of it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

import llmux

ROOT = Path(llmux.__file__).parent
LONGEST = 350  # lines of a module

# From the bottom to the top.  A module imports from the layers below its own and from its own room,
# and from nowhere else: so whoever reads or changes it has to look downwards alone, and each layer
# can be used, tested and thought about without those above it.  One tuple is one layer, one string
# one room; a package stands for all modules in it that have no place of their own.
LAYERS = (
    # words and rules: no I/O, no time
    (
        "_version", "amounts", "backoff", "bounding covering", "clock", "costs", "demand",
        "engine.names headers", "errors", "garbage", "lease urgency", "states", "tokens",
    ),
    # what each can be had alone
    (
        "alarm", "budget", "descriptors", "document", "engine", "envelope", "events", "eviction",
        "hooks.contract", "hooks.output", "journalfile", "leases", "lock", "logs",
        "metrics observed traffic", "operator", "policy",
        "reservation", "signals", "statedir", "timeline", "tracefile",
    ),
    # what the user says, and what a restart must know
    (
        "addresses config controlpaths fitting names naming policies readers schema settings",
        "journal keeper", "recorder",
    ),
    # HTTP as it comes in
    ("server", "listening systemd"),
    # one model
    ("lifecycle orders outlook admission waiting sharing worth room underway vitals"
        " grant granting",),
    # the three that act: on models, on processes, on sockets
    (
        "switcher conductor agenda switching sleeping waking health recovery roster closing"
        " hookruns estimate census reporting residency deliberation completion door reserving"
        " preparing foresight ordering holder",
        "hooks", "proxy",
    ),
    # HTTP; the switcher on a clock that is only pretended
    ("web", "simulate"),
    # all together
    ("ending", "reload operating recordings status"),
    ("front",),
    ("service serving workers",),
    # the ways in
    ("cli ctl beside overview", "tap"),
    # what embedders import
    ("__init__",),
)  # fmt: skip
ALONE = "demo"  # an example backend; llmux and it know nothing of each other


@attrs.frozen
class Module:
    """
    A module's source.

    :param name: its name below llmux: ``hooks.runner``, and ``hooks`` for the package itself.
    """

    name: str
    source: str
    tree: ast.Module

    def imports(self, *, top: bool = False) -> Iterator[str]:
        """
        Give everything that it imports, as dotted names.

        :param top: whether to leave out what is imported inside of functions.
        """
        for node in walk(self.tree, into_functions=not top):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.name}: imports are absolute here"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def uses(self, package: str, *, top: bool = False) -> bool:
        """Tell whether it imports a module, or anything out of it."""
        return any(below(name, package) for name in self.imports(top=top))

    def words(self) -> set[str]:
        """Give every name and attribute in its code."""
        nodes = list(ast.walk(self.tree))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        return names | attributes


def walk(node: ast.AST, *, into_functions: bool) -> Iterator[ast.AST]:
    """Give a node and all nodes below it."""
    yield node
    for child in ast.iter_child_nodes(node):
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if into_functions or not function:
            yield from walk(child, into_functions=into_functions)


def below(name: str, package: str) -> bool:
    """Tell whether a dotted name is a package or something in it."""
    return name == package or name.startswith(f"{package}.")


def read_modules() -> dict[str, Module]:
    """Read all modules below llmux but the tests."""
    modules = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[0] == "test":
            continue
        if len(parts) > 1 and parts[-1] == "__init__":
            parts.pop()
        name = ".".join(parts)
        source = path.read_text("utf-8")
        modules[name] = Module(name, source, ast.parse(source, str(path)))
    return modules


MODULES = read_modules()


def imported_modules(module: Module, *, top: bool = False) -> set[str]:
    """
    Give the modules of llmux that a module imports from.

    :param top: whether to leave out what is imported inside of functions.
    """
    found = set()
    for name in module.imports(top=top):
        if below(name, "llmux"):
            parts = name.split(".")[1:]
            while parts and ".".join(parts) not in MODULES:  # a name inside of a module
                parts.pop()
            found.add(".".join(parts) or "__init__")
    return found


def place(name: str) -> tuple[int, str] | None:
    """Find a module's layer and room; the longest name that fits counts."""
    fitting = [
        (len(member), layer, room)
        for layer, rooms in enumerate(LAYERS)
        for room in rooms
        for member in room.split()
        if below(name, member)
    ]
    if not fitting:
        return None
    _, layer, room = max(fitting)
    return layer, room


class LayerTests(SynchronousTestCase):
    """Imports point one way."""

    def test_every_module_has_a_place(self) -> None:
        """A module that stands in no layer is given one before it is used."""
        homeless = [name for name in MODULES if not below(name, ALONE) and place(name) is None]
        self.assertEqual(
            homeless, [], f"give {homeless} a place in LAYERS, in {Path(__file__).name}: as low as"
            " what they import allows, and below all that is to import them",
        )  # fmt: skip

    def test_every_place_has_a_module(self) -> None:
        """A module that is gone is gone from the layers, too."""
        members = {member for rooms in LAYERS for room in rooms for member in room.split()}
        gone = sorted(members - set(MODULES))
        self.assertEqual(gone, [], f"take {gone} out of LAYERS, in {Path(__file__).name}")

    def test_imports_point_down(self) -> None:
        """A module imports from the layers below its own, and from its own room."""
        wrong = []
        for module in MODULES.values():
            here = place(module.name)
            for name in sorted(imported_modules(module)):
                there = place(name)
                if here and there and here != there and there[0] >= here[0]:
                    wrong.append(f"{module.name} imports {name}")
        self.assertEqual(
            wrong, [], "these imports point upwards or sideways: hand what is needed in as an"
            " argument, move what both need further down, or, if the picture itself has changed,"
            f" change LAYERS in {Path(__file__).name} and the architecture page with it",
        )  # fmt: skip

    def test_no_circles(self) -> None:
        """Inside of a room, too, imports do not go in a circle."""
        imports = {module.name: imported_modules(module) for module in MODULES.values()}
        while leaves := {name for name, targets in imports.items() if not targets}:
            imports = {
                name: targets - leaves for name, targets in imports.items() if name not in leaves
            }
        self.assertEqual(sorted(imports), [], "these import each other in a circle")

    def test_nobody_imports_the_whole(self) -> None:
        """What embedders import is not what the modules import from each other."""
        users = [m.name for m in MODULES.values() if "__init__" in imported_modules(m)]
        self.assertEqual(users, [])

    def test_the_demo_stands_alone(self) -> None:
        """The example backend needs nothing of llmux, and nothing of llmux needs it."""
        crossing = [
            f"{module.name} imports {name}"
            for module in MODULES.values()
            for name in imported_modules(module)
            if below(module.name, ALONE) is not below(name, ALONE)
        ]
        self.assertEqual(crossing, [])

    def test_packages_over_two_layers(self) -> None:
        """A package of which a part lies deeper imports nothing by itself."""
        split = {
            package
            for name in MODULES
            for package in MODULES
            if below(name, package) and place(name) != place(package)
        }
        self.assertEqual([name for name in split if imported_modules(MODULES[name])], [])

    def test_no_tests_outside(self) -> None:
        """Nothing but tests imports the tests."""
        self.assertEqual([m.name for m in MODULES.values() if m.uses("llmux.test")], [])


class RoomTests(SynchronousTestCase):
    """Each outside thing is known in one room."""

    def assert_only(self, rooms: set[str], known: Callable[[Module], bool]) -> None:
        """Check that what some modules know is known in certain rooms alone, and is known there."""
        modules = [module for module in MODULES.values() if known(module)]
        outside = [m.name for m in modules if not any(below(m.name, room) for room in rooms)]
        self.assertEqual(outside, [], f"only {sorted(rooms)} may know of this")
        idle = [room for room in rooms if not any(below(m.name, room) for m in modules)]
        self.assertEqual(idle, [], "these need it no longer: take them out of this test")

    def test_klein(self) -> None:
        """Only the web knows Klein."""
        self.assert_only({"web"}, lambda module: module.uses("klein"))

    def test_http_client(self) -> None:
        """Only the proxy knows Twisted's HTTP client and treq, and the engine what it is called."""
        clients = ("treq", "twisted.web.client", "twisted.web._newclient")
        self.assert_only(
            {"proxy", "engine"},
            lambda module: not below(module.name, ALONE) and any(map(module.uses, clients)),
        )

    def test_processes(self) -> None:
        """Only the hooks start processes, and what relays in several."""
        words = {
            "spawnProcess", "subprocess", "fork", "forkpty", "execv", "execve", "execvp", "popen",
            "posix_spawn", "system", "getProcessOutput", "create_subprocess_exec",
        }  # fmt: skip

        def spawns(module: Module) -> bool:
            packages = ("subprocess", "multiprocessing", "pty", "twisted.internet.utils")
            return bool(words & module.words()) or any(map(module.uses, packages))

        self.assert_only({"hooks", "beside", "workers"}, spawns)

    def test_prometheus(self) -> None:
        """Only the metrics know prometheus_client, of which the service hands the registry on."""
        self.assert_only(
            {"metrics", "observed", "service", "traffic"}, lambda m: m.uses("prometheus_client")
        )
        names = {n for n in MODULES["service"].imports() if below(n, "prometheus_client")}
        self.assertEqual(names, {"prometheus_client.CollectorRegistry"})

    def test_reactor(self) -> None:
        """Nothing imports the reactor when it is imported itself: whoever runs it chooses it."""
        importers = [
            m.name for m in MODULES.values() if m.uses("twisted.internet.reactor", top=True)
        ]
        self.assertEqual(importers, [])
        self.assert_only(
            {"tap", "demo.server", "workers.__main__"}, lambda m: m.uses("twisted.internet.reactor")
        )

    def test_command_line(self) -> None:
        """The command that asks a running llmux loads no Twisted, and so answers at once."""
        seen: set[str] = set()
        unseen = {"cli"}
        while unseen:
            name = unseen.pop()
            seen.add(name)
            above = {name.rpartition(".")[0]} - {""}  # a package comes with what is in it
            unseen |= (imported_modules(MODULES[name], top=True) | above) - seen
        self.assertIn("overview", seen)
        users = [name for name in sorted(seen) if MODULES[name].uses("twisted", top=True)]
        self.assertEqual(users, [], "the command line imports these when it starts")


class HouseTests(SynchronousTestCase):
    """Every module is a room that can be looked over."""

    def test_length(self) -> None:
        """No module is longer than a few screens."""
        lengths = {m.name: len(m.source.splitlines()) for m in MODULES.values()}
        long = {name: length for name, length in lengths.items() if length > LONGEST}
        self.assertEqual(long, {}, f"over {LONGEST} lines: look for the second noun")

    def test_docstrings(self) -> None:
        """Every module says what it is for."""
        self.assertEqual([m.name for m in MODULES.values() if not ast.get_docstring(m.tree)], [])
