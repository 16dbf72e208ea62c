"""
A model's server, small and quick to start: run by its path, ``python -I -S engine.py PORT HOUSE``.

It answers at once, but for requests that say otherwise: with ``"stream"`` it sends the beginning of
an answer, and with ``"silent"`` nothing, until there is a file ``go_on`` in its house; with
``"flood"`` it does not come to an end.
"""

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

HOUSE = Path(sys.argv[2])
MODEL = os.environ["LLMUX_MODEL"]
FIRST = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst \r\n"
LAST = b"4\r\nlast\r\n0\r\n\r\n"


def whole(body: str, status: str = "200 OK") -> bytes:
    """Make an answer with a length."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def wait() -> None:
    """Wait to be let on."""
    while not (HOUSE / "go_on").exists():
        time.sleep(0.02)


def answer(connection: socket.socket, head: bytes, body: bytes) -> None:
    """Answer one request."""
    if b" /health " in head.partition(b"\r\n")[0]:
        connection.sendall(whole("", "503 Unavailable" if (HOUSE / "sick").exists() else "200 OK"))
        return
    with (HOUSE / "asked").open("a") as asked:
        asked.write(f"{MODEL}\n")
    if b'"silent"' in body:
        wait()
    if b'"flood"' in body:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
    elif b'"stream"' in body:
        connection.sendall(FIRST)
        wait()
        connection.sendall(LAST)
    else:
        connection.sendall(whole(json.dumps({"served_by": MODEL, "pid": os.getpid()})))


def serve(connection: socket.socket) -> None:
    """Answer all requests of a connection."""
    received = b""
    try:
        while True:
            while b"\r\n\r\n" not in received:
                more = connection.recv(65536)
                if not more:
                    return
                received += more
            head, _, received = received.partition(b"\r\n\r\n")
            length = int((head.lower().partition(b"content-length:")[2].split() or [b"0"])[0])
            while len(received) < length:
                more = connection.recv(65536)
                if not more:
                    return
                received += more
            body, received = received[:length], received[length:]
            answer(connection, head, body)
    except OSError:
        pass
    finally:
        connection.close()


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    Path("engine.ready").touch()
    while True:
        accepted, _ = listening.accept()
        threading.Thread(target=serve, args=(accepted,), daemon=True).start()
