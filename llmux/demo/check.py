"""
Asks a backend whether it is healthy; run as a program, it says so with its exit status.

Shell scripts ask in a loop, so it is to be run by its path: ``python llmux/demo/check.py URL``.
``python -m llmux.demo.check URL`` takes twenty times as long: it loads all of llmux first.
"""

import socket
import sys
from urllib.parse import urlsplit


def healthy(url: str, timeout: float = 2.0) -> bool:
    """
    Tell whether a plain HTTP address answers 200.

    :param url: what to ask, such as ``http://127.0.0.1:8101/health``.
    :param timeout: how long one step of the exchange may take, in seconds.
    """
    parts = urlsplit(url)
    path = parts.path or "/"
    request = f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n"
    try:
        address = (parts.hostname or "127.0.0.1", parts.port or 80)
        with socket.create_connection(address, timeout) as peer:
            peer.sendall(request.encode())
            with peer.makefile("rb") as answer:
                status_line = answer.readline(1000).split()
    except OSError:
        return False
    return status_line[1:2] == [b"200"]


if __name__ == "__main__":
    sys.exit(0 if healthy(sys.argv[1]) else 1)
