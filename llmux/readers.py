"""
How the values of a configuration are read from its nodes, and what is said when they cannot be.

A reader takes a node and gives a value, or raises :class:`Complaint`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar
from urllib.parse import urlsplit

from llmux.amounts import Amounts
from llmux.document import Listing, Mapping, Node, Scalar
from llmux.urgency import HIGHEST_PRIORITY

_Value = TypeVar("_Value")

# Numbers as YAML 1.2 has them (core schema): 010 is ten, 1_000 and 30:00 are text.
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 30  # characters
_RESOURCE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+(%[a-zA-Z0-9._-]+)?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_ADDRESS = "this must be host:port (127.0.0.1:3001), unix:/path of a socket, or off"
_PORT = "a port is a whole number from 1 to 65535"
_BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}


class Complaint(Exception):
    """A value that cannot be taken; the message says why and what would be."""


Reader = Callable[[Node], _Value]


def text(node: Node) -> str:
    """Take any scalar's text: ``no`` and ``3.1`` too."""
    if not isinstance(node, Scalar):
        raise Complaint("this must be a single value, not a list or a mapping")
    if node.is_null() or not node.text.strip():
        raise Complaint("this is empty")
    if "\0" in node.text:
        raise Complaint("this holds a NUL character")
    return node.text


def hook_script(node: Node) -> str:
    """Take a script: the path of an executable file, or the text of a shell script."""
    try:
        return text(node)
    except Complaint as complaint:
        raise Complaint(f"{complaint}; a hook is a shell script or the path of one") from None


def directory(node: Node) -> Path:
    """Take a directory's path: absolute, or from where llmux was started, or from ``~``."""
    try:
        return Path(text(node)).expanduser().absolute()
    except RuntimeError:
        raise Complaint("nobody knows this home directory; write the whole path") from None


def trace_file(node: Node) -> Path:
    """Take the path of a file that a trace is written to, as :func:`directory` takes one."""
    path = directory(node)
    if path.suffix == ".gz":
        raise Complaint("a trace is not compressed while it grows; leave .gz away")
    return path


def number(node: Node) -> float:
    """Take a number as YAML 1.2 writes it."""
    word = _plain(node, "a number")
    if len(word) > _LONGEST_NUMBER:
        raise Complaint("this number has too many digits")
    if _INTEGER.fullmatch(word):
        return int(word, 0) if word[:2] in ("0o", "0x") else int(word)
    if _FLOAT.fullmatch(word):
        return float(word)
    raise Complaint("this must be a number")


def local_port(node: Node) -> int:
    """Take a TCP port."""
    value = number(node)
    if not 1 <= value <= 65535 or value != int(value):
        raise Complaint(_PORT)
    return int(value)


def priority(node: Node) -> int:
    """Take the priority of requests within their class."""
    value = number(node)
    if abs(value) > HIGHEST_PRIORITY or value != int(value):
        raise Complaint(
            f"a priority is a whole number from {-HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}"
        )
    return int(value)


def seconds(node: Node) -> float:
    """Take a duration in seconds; fractions are allowed."""
    value = number(node)
    if value < 0 or not math.isfinite(value):
        raise Complaint("a duration is a number of seconds, 0 or more")
    return float(value)


def deadline(node: Node) -> float:
    """Take a duration in seconds that something may last; none at all makes no sense."""
    value = seconds(node)
    if value == 0:
        raise Complaint("a deadline is a number of seconds, more than 0")
    return value


def optional_seconds(node: Node) -> float | None:
    """Take a duration in seconds, or ``null``: none."""
    return None if _is_null(node) else seconds(node)


def optional_deadline(node: Node) -> float | None:
    """Take a duration in seconds that something may last, or ``null``: for ever."""
    return None if _is_null(node) else deadline(node)


def boolean(node: Node) -> bool:
    """Take ``true`` or ``false``, the two that YAML 1.2 knows."""
    value = _BOOLEANS.get(_plain(node, "true or false"))
    if value is None:
        raise Complaint("this must be true or false")
    return value


def one_of(names: Collection[str]) -> Reader[str]:
    """Make a reader that takes one of some names."""

    def name(node: Node) -> str:
        word = text(node)
        if word not in names:
            raise Complaint(f"this must be one of: {', '.join(names)}{near_miss(word, names)}")
        return word

    return name


def url(node: Node) -> tuple[str, int, bool]:
    """Take ``http://host[:port]`` or ``https://host[:port]`` as (host, port, whether it is TLS)."""
    try:
        parts = urlsplit(text(node))
        port = parts.port
    except ValueError as error:
        raise Complaint(f"this is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Complaint("a url looks like http://127.0.0.1:8001")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise Complaint("a url names a server alone (http://host:port): no user, path or query")
    if not _HOST.fullmatch(parts.hostname):
        raise Complaint("a url's host is an ASCII name or an address")
    if port == 0:
        raise Complaint(_PORT)
    if parts.scheme == "https":
        _check_certifiable(parts.hostname)
    return parts.hostname, port or _DEFAULT_PORTS[parts.scheme], parts.scheme == "https"


def address(node: Node) -> tuple[str, int, Path | None] | None:
    """
    Take ``host:port``, ``unix:/path`` or ``off``.

    :returns: (host, port, path), the path being ``None`` for TCP; or ``None``: nowhere.
    """
    word = text(node)
    if word == "off":
        return None
    kind, _, rest = word.partition(":")
    if kind == "unix":
        if not rest.startswith("/"):
            raise Complaint("a UNIX socket is written unix:/run/llmux/admin.sock")
        return "", 0, Path(rest)
    try:
        parts = urlsplit(f"//{word}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Complaint(_ADDRESS) from None
    if not host or port is None or word != parts.netloc or "@" in word:
        raise Complaint(_ADDRESS)
    if port == 0:
        raise Complaint(_PORT)
    return host, port, None


def _check_certifiable(host: str) -> None:
    """Check that a certificate can be for a host."""
    from twisted.internet.ssl import optionsForClientTLS  # only who has https has to wait for it

    try:
        optionsForClientTLS(host)
    except ValueError as error:
        raise Complaint(f"no certificate can be for this host: {error}") from error


def count(node: Node) -> int:
    """Take a whole number of things, one at least."""
    value = number(node)
    if value < 1 or not math.isfinite(value) or value != int(value):
        raise Complaint("this must be a whole number, 1 or more")
    return int(value)


def optional_count(node: Node) -> int | None:
    """Take a whole number of things, or ``null``: as many as there are."""
    return None if _is_null(node) else count(node)


def size(node: Node) -> int:
    """Take a whole number of bytes, one at least."""
    try:
        return count(node)
    except Complaint:
        raise Complaint(
            "a size is a whole number of bytes, 1 or more, without a unit: 268435456 is 256 MiB"
        ) from None


def writable_directory(node: Node) -> Path:
    """Take the path of a directory that files can be made in, which is tried."""
    path = directory(node)
    try:
        TemporaryFile(dir=path).close()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Complaint(f"no file can be made in this directory: {why}") from None
    return path


def blocked_path(node: Node) -> str:
    """Take a path that stands for itself and for all that is below it."""
    path = text(node)
    if not path.startswith("/"):
        raise Complaint("a path begins with /")
    if re.search(r"[?#*]", path):
        raise Complaint("a path has no query and no wildcard: it blocks all that is below it, too")
    if not path.strip("/."):
        raise Complaint("this would block every path")
    return path


def origin(node: Node) -> str:
    """Take an origin of web pages, and give it as browsers write it; or ``*``: all of them."""
    word = text(node).lower()
    if word == "*":
        return word
    found = _ORIGIN.match(word)
    rest = word[found.end() :] if found else word
    if found is None or (rest and rest[0] not in "/?#"):
        raise Complaint(
            "an origin looks like https://chat.example or http://127.0.0.1:8080; * is every origin"
        )
    if rest:
        raise Complaint(f"an origin is a scheme, a host and a port alone: write {found.group()}")
    scheme, host, port = found.groups()
    if port is None or int(port) == _DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    if not 1 <= int(port) <= 65535:
        raise Complaint(_PORT)
    return f"{scheme}://{host}:{int(port)}"


def amounts(node: Node) -> Amounts:
    """Take amounts of resources: ``{gpu0: 20, ram: 8}``, in whatever unit."""
    if not isinstance(node, Mapping):
        raise Complaint("this must be a mapping from resources to amounts, such as {gpu0: 20}")
    taken = {}
    for resource, value in node.entries.items():
        if not _RESOURCE.fullmatch(resource):
            raise Complaint(
                f"{resource!r} cannot be the name of a resource: letters, digits, _ . and -,"
                " beginning with a letter"
            )
        try:
            taken[resource] = float(number(value))
        except Complaint as complaint:
            raise Complaint(f"{resource}: {complaint}") from None
        if not 0 <= taken[resource] < math.inf:
            raise Complaint(f"{resource}: an amount is a number, 0 or more")
    return taken


def alternatives(node: Node) -> tuple[Amounts, ...]:
    """Take what a model needs, or a list of alternatives to that."""
    if not isinstance(node, Listing):
        return (amounts(node),)
    if not node.items:
        raise Complaint("no alternatives: what needs nothing has {}")
    return tuple(map(amounts, node.items))


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null()


def _plain(node: Node, what: str) -> str:
    if not isinstance(node, Scalar):
        raise Complaint(f"this must be {what}, not a list or a mapping")
    if not node.plain:
        raise Complaint(f"this is text; write {what} without quotes")
    return node.text


def near_miss(word: str, known: Collection[str]) -> str:
    """Say which known word was probably meant, if that can be guessed."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
