"""A browser without a screen, and a site with one page for it that asks llmux."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from e2e.program import WAIT, free_port, wait_until

PAGE = """\
<!doctype html>
<meta charset="utf-8">
<title>Chat</title>
<p id="answer"></p>
<script>
const asked = new URLSearchParams(location.search);
const shown = {end: "", status: 0, requestId: null, reads: 0, error: null};

async function chat() {
  const answer = await fetch(asked.get("url") + "/v1/chat/completions", {
    method: "POST",
    headers: {"Authorization": "Bearer none", "Content-Type": "application/json"},
    body: JSON.stringify({
      model: asked.get("model"),
      messages: [{role: "user", content: "Say something about switching."}],
      max_tokens: 12,
      stream: true,
    }),
  });
  shown.status = answer.status;
  shown.requestId = answer.headers.get("X-Request-Id");
  if (!answer.ok) {
    shown.error = (await answer.json()).error;
    return "refused";
  }
  let rest = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return rest === "" ? "done" : "cut short";
    shown.reads += 1;
    const events = (rest + value).split("\\n\\n");
    rest = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: ") || event === "data: [DONE]") continue;
      const choice = JSON.parse(event.slice(6)).choices[0];
      document.getElementById("answer").append(choice?.delta.content ?? "");
    }
  }
}

chat().catch(error => String(error)).then(end => { shown.end = end; });
</script>
"""

_FLAGS = (
    "--headless",
    "--no-sandbox",  # which root may not have
    "--disable-gpu",
    "--disable-dev-shm-usage",  # it is small in containers
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
)


def find_browser() -> tuple[str, str]:
    """Give the paths of Chromium and of its driver, or skip the test."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium with its chromedriver on PATH")
    return chromium, driver


class Site:
    """One page, served from an origin of its own; it asks llmux as its query says."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _PageHandler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def page(self, url: str, model: str) -> str:
        """Give the address of a page that asks for a chat with a model."""
        return f"{self.origin}/?{urlencode({'url': url, 'model': model})}"

    def close(self) -> None:
        """Serve it no more."""
        self._server.shutdown()
        self._server.server_close()


class _PageHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # http.server's name
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Browser:
    """
    Chromium, driven through WebDriver (https://www.w3.org/TR/webdriver2/).

    :param directory: takes its profile and its log.
    """

    def __init__(self, directory: Path) -> None:
        chromium, driver = find_browser()
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._session = ""
        with (directory / "chromedriver.log").open("wb") as log:
            self._driver = subprocess.Popen(
                [driver, f"--port={port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_until(self._is_ready)
            options = {
                "binary": chromium,
                "args": [*_FLAGS, f"--user-data-dir={directory}/profile"],
            }
            wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
            begun = self._ask("POST", "/session", {"capabilities": wanted})
            self._session = f"/session/{begun['sessionId']}"
        except BaseException:
            self.close()
            raise

    def visit(self, address: str) -> None:
        """Load a page."""
        self._ask("POST", f"{self._session}/url", {"url": address})

    def evaluate(self, expression: str) -> Any:
        """Give the value of a JavaScript expression on the page."""
        script = {"script": f"return {expression};", "args": []}
        return self._ask("POST", f"{self._session}/execute/sync", script)

    def resize(self, width: int, height: int = 900) -> None:
        """Let the page be as wide and high as this, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        self._ask("POST", f"{self._session}/goog/cdp/execute", command)

    def complaints(self) -> list[str]:
        """Give what the browser's console has said since it was last asked."""
        said = self._ask("POST", f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in said]

    def close(self) -> None:
        """End it; with the session the browser's own processes end."""
        try:
            if self._session:
                self._ask("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait(WAIT)

    def _is_ready(self) -> bool:
        assert self._driver.poll() is None, "chromedriver has ended"
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except OSError:
            return False

    def _ask(self, method: str, path: str, content: object = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=2 * WAIT) as answer:
            return json.load(answer)["value"]
