"""
Asks a running llmux, from the command line.

It needs nothing but the standard library, so that the answer is there at once.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import attrs

from llmux.addresses import is_loopback, operators_address
from llmux.config import Config
from llmux.errors import LLMuxError
from llmux.overview import render, render_recording, render_reservations
from llmux.settings import Address

DONE, FAILED, NOBODY, INTERRUPTED = 0, 1, 3, 130
"""Exit statuses: done; refused or failed; nobody answers there; ended by ``Ctrl-C``."""

_CONNECT_SECS = 10.0
_STATUS_SECS = 30.0  # an order takes as long as it takes; a look must not
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nothing listens here
_ABOUT_RECORDING = ("recording", "record", "stop_recording")
_SECTIONS = {
    "added": "added",
    "changed": "changed",
    "removed": "removed",
    "needs_restart": "only after a restart",
}


@attrs.frozen
class Command:
    """
    What is asked.

    :param verb: ``status``, ``reservations``, ``recording``, ``reload``, ``release``, ``record``,
        ``stop_recording``, or one of the orders about models.
    :param model: whose, if it is about a model; for ``release`` the id of the reservation, for
        ``record`` the name of the file.
    :param as_json: whether the answer is printed as it came.
    """

    verb: str
    model: str = ""
    as_json: bool = False

    @property
    def is_order(self) -> bool:
        """Whether something is to be done."""
        return self.verb not in ("status", "reservations", "recording")

    @property
    def method(self) -> str:
        """How it is asked."""
        if self.verb in ("release", "stop_recording"):
            return "DELETE"
        return "POST" if self.is_order else "GET"

    @property
    def path(self) -> str:
        """Where it is asked."""
        if self.verb in _ABOUT_RECORDING:
            return "/llmux/recording"
        if not self.model:
            return f"/llmux/{self.verb}"
        name = quote(self.model, safe="", errors="surrogateescape")
        if self.verb == "release":
            return f"/llmux/reservations/{name}"
        return f"/llmux/models/{name}/{self.verb}"

    @property
    def said(self) -> Mapping[str, object] | None:
        """What is said besides."""
        return {"path": self.model} if self.verb == "record" else None


class NoFace(LLMuxError):
    """The configuration says that nobody can be asked."""


class NoAnswer(LLMuxError):
    """Nobody answers, or not llmux."""


class Refused(LLMuxError):
    """
    llmux has refused or failed; the message says why.

    :ivar status: the HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def find_address(path: str, port: int | None) -> Address:
    """
    Find where the llmux of a configuration is asked.

    :param path: the file.
    :param port: the port that llmux was started with, if that is not the file's.
    :raises ConfigError: if the file cannot be read, or is wrong.
    :raises NoFace: if it says that nobody is to be asked.
    """
    config = Config.from_file(path, port=port)
    address = operators_address(config.admin, config.host, config.port)
    if address is None:
        why = (
            "it says admin.listen: off"
            if config.admin.off
            else f"others reach {config.host}:{config.port}, and so it is only where admin.listen"
            " says; set it, for example to 127.0.0.1:3001, and start llmux anew"
        )
        raise NoFace(f"{path}: llmux cannot be asked: {why}")
    return address


def run(command: Command, address: Address, out: TextIO, err: TextIO) -> int:
    """
    Ask, and print the answer.

    :param command: what.
    :param address: where the operator's face is.
    :param out: gets the answer.
    :param err: gets what went wrong.
    :returns: the exit status.
    """
    sent = False
    try:
        connection = _connect(address)
        try:
            sent = True  # from now on it may have been heard
            order = command.is_order
            path, said = command.path, command.said
            _send(connection, command.method, path, address, said, patient=order)
            hint = "; its log says what became of the order" if order else ""
            status, body = _receive(connection, address, hint)
        finally:
            connection.close()
    except NoAnswer as error:
        say(str(error), err)
        return NOBODY
    except KeyboardInterrupt:
        if sent and command.is_order:
            say("llmux: the order stands; llmux status shows what becomes of it", err)
        return INTERRUPTED
    return _tell(command, address, status, body, out, err)


def ask(
    method: str,
    path: str,
    address: Address,
    said: Mapping[str, Any] | None = None,
    *,
    patient: bool = False,
) -> Any:
    """
    Ask once, for programs.

    :param method: of the request.
    :param path: of the request.
    :param address: where the operator's face is.
    :param said: its body.
    :param patient: whether the answer may take as long as it likes.
    :returns: the document that is answered.
    :raises NoAnswer: if nobody answers there, or not llmux.
    :raises Refused: if llmux refuses.
    """
    connection = _connect(address)
    try:
        _send(connection, method, path, address, said, patient=patient)
        status, body = _receive(connection, address, "")
    finally:
        connection.close()
    try:
        document = json.loads(body)
        if 200 <= status < 300:
            return document
        message = _message(document)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise NoAnswer(
            f"what answers on {address} ({status}) is no llmux, or one of another version"
        ) from None
    raise Refused(message, status)


def _connect(address: Address) -> HTTPConnection:
    connection = _Connection(address)
    try:
        connection.connect()
    except OSError as error:
        why = error.strerror or str(error)
        raise NoAnswer(f"llmux does not answer on {address}: {why}; is it running?") from None
    return connection


def _send(
    connection: HTTPConnection,
    method: str,
    path: str,
    address: Address,
    said: Mapping[str, Any] | None = None,
    *,
    patient: bool,
) -> None:
    own = address.path is not None or is_loopback(_reachable(address.host))
    headers = {"Content-Type": "application/json"} if method != "GET" else {}
    headers["Host"] = "localhost" if own else str(address)
    connection.sock.settimeout(None if patient else _STATUS_SECS)
    body = None if said is None else json.dumps(said).encode("ascii")
    try:
        connection.request(method, path, body, headers)
    except OSError as error:
        raise NoAnswer(f"llmux on {address} takes no requests: {error.strerror}") from None


def _receive(connection: HTTPConnection, address: Address, hint: str) -> tuple[int, bytes]:
    try:
        response = connection.getresponse()
        return response.status, response.read()
    except TimeoutError:
        raise NoAnswer(f"llmux on {address} says nothing for {_STATUS_SECS:g} s") from None
    except (OSError, HTTPException):
        raise NoAnswer(f"llmux on {address} went away before it had answered{hint}") from None


class _Connection(HTTPConnection):
    """A connection to an address, be it of a UNIX socket."""

    def __init__(self, address: Address) -> None:
        super().__init__(_reachable(address.host), address.port or None, timeout=_CONNECT_SECS)
        self._path = address.path

    def connect(self) -> None:
        """Connect, and notice when the other machine is gone."""
        if self._path is None:
            super().connect()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        else:
            self.sock = _open_socket(self._path)


def _open_socket(path: Path) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(_CONNECT_SECS)
        opened.connect(str(path))
    except BaseException:
        opened.close()
        raise
    return opened


def _reachable(host: str) -> str:
    """Give an address that can be connected to, where a program listens on all of them."""
    return _EVERYWHERE.get(host, host)


def _tell(
    command: Command, address: Address, status: int, body: bytes, out: TextIO, err: TextIO
) -> int:
    """Print an answer."""
    try:
        document = json.loads(body)
        error = None if status == 200 else _message(document)
        if command.as_json:
            text = body.decode()
        else:
            text = _in_words(command, document, _columns(out)) if error is None else ""
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        say(
            f"what answers on {address} ({status}) is no llmux, or one of another version",
            err,
        )
        return NOBODY
    if text:
        say(text, out)
    if error is not None:
        say(f"llmux: {error}" if "\n" not in error else error, err)
    return DONE if error is None else FAILED


def _message(document: Mapping[str, Any]) -> str:
    error = document["error"]
    if error["type"] != "llmux_error":
        raise ValueError
    message: str = error["message"]
    return message


def _in_words(command: Command, document: Mapping[str, Any], columns: int | None) -> str:
    """Say what a good answer says."""
    if command.verb == "status":
        return render(document, columns)
    if command.verb == "reservations":
        return render_reservations(document["reservations"])
    if command.verb in _ABOUT_RECORDING:
        return render_recording(document)
    if command.verb == "release":
        return f"{document['id']} is given back"
    if command.verb == "reload":
        told = {words: document[key] for key, words in _SECTIONS.items()}
        lines = [f"{words}: {', '.join(names)}" for words, names in told.items() if names]
        return "\n".join(lines) or "no model has changed"
    done: str = document["done"]
    return done


def _columns(out: TextIO) -> int | None:
    """Say how wide the terminal is, if there is one."""
    return shutil.get_terminal_size().columns if out.isatty() else None


def say(text: str, to: TextIO) -> None:
    """Print, whatever the terminal can show, and at once."""
    coding = to.encoding or "utf-8"
    print(text.encode(coding, "backslashreplace").decode(coding), file=to, flush=True)
