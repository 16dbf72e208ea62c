"""Backends behind TLS."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest

from e2e.program import Program, answering, free_port, start
from llmux.test.certificates import make_pem


@pytest.mark.parametrize("trusted", [True, False])
def test_backend(
    trusted: bool, tmp_path: Path, programs: list[Program], environment: dict[str, str]
) -> None:
    """A backend over TLS is relayed to, small bodies and large ones; one nobody trusts is not."""
    pem = tmp_path / "certificate.pem"
    pem.write_bytes(make_pem("localhost"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    if trusted:
        environment["SSL_CERT_FILE"] = str(pem)
    port, config = free_port(), tmp_path / "config.json"
    with answering(context) as backend:
        model = {"url": f"https://localhost:{backend}", "wake": "true", "sleep": "true"}
        config.write_text(json.dumps({"models": {"a": model}, "port": port}))
        program = start(programs, config, port, environment)
        for size in (1, 100_000, 5_000_000, 1):
            body = {"model": "a", "filler": "x" * size}
            status, answer = program.post("/v1/chat/completions", body)
            expected = (200, "{}") if trusted else (502, answer)
            assert (status, answer) == expected
            assert trusted or "certificate" in answer
