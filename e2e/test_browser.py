"""Pages of other origins in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.browser import Browser, Site
from e2e.program import Backends, Program, chat, wait_until

FIRST = Backends.models[0]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start a browser for all tests here."""
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve the page from another origin than llmux's."""
    site = Site()
    yield site
    site.close()


def show(browser: Browser, page: str) -> Any:
    """Load the page, and give what it knows when its request has come to an end."""
    browser.visit(page)
    wait_until(lambda: browser.evaluate("shown.end"))
    return browser.evaluate("shown")


def asked(program: Program) -> list[tuple[str, int]]:
    """Give method and status of all requests for a chat."""
    return [
        (event["method"], event["status"])
        for event in program.events()
        if event["event"] == "request_ended" and event["path"] == "/v1/chat/completions"
    ]


@pytest.mark.parametrize("everybody", [False, True])
def test_stream(
    everybody: bool,
    browser: Browser,
    site: Site,
    backends: Backends,
    serve: Callable[..., Program],
    environment: dict[str, str],
) -> None:
    """A page of an origin that is allowed shows the answer piece by piece, and knows its id."""
    environment["TOKENS_PER_SEC"] = "10"
    program = serve(cors={"origins": ["*" if everybody else site.origin]})
    shown = show(browser, site.page(program.url, FIRST))
    assert (shown["end"], shown["status"], shown["error"]) == ("done", 200, None)
    wait_until(lambda: asked(program) == [("OPTIONS", 204), ("POST", 200)])
    (logged,) = (e for e in program.events() if e.get("method") == "POST")
    assert shown["requestId"] == logged["request_id"]
    text = browser.evaluate("document.getElementById('answer').textContent")
    answer = chat(program.openai(), FIRST, max_tokens=12, temperature=None)
    if backends.kind == "demo":  # which says the same to everybody, and takes its time
        assert text == answer.choices[0].message.content
        assert shown["reads"] >= 3
    assert len(text.split()) >= 3


def test_error(browser: Browser, site: Site, serve: Callable[..., Program]) -> None:
    """A page of an origin that is allowed can read what went wrong."""
    program = serve(cors={"origins": ["https://chat.example", site.origin]})
    shown = show(browser, site.page(program.url, "nope"))
    assert (shown["end"], shown["status"]) == ("refused", 404)
    assert shown["error"] == {"message": "Model not found: nope", "type": "llmux_error"}
    assert shown["requestId"]
    wait_until(lambda: asked(program) == [("OPTIONS", 204), ("POST", 404)])


def test_stream_that_waits(
    browser: Browser, site: Site, backends: Backends, serve: Callable[..., Program]
) -> None:
    """A page gets signs of life while its model wakes, and then the answer."""
    gate = backends.gate()
    program = serve(cors={"origins": [site.origin]}, keepalive_secs=0.1)
    browser.visit(site.page(program.url, FIRST))
    wait_until(lambda: browser.evaluate("shown.reads") >= 2)
    gate.open()
    wait_until(lambda: browser.evaluate("shown.end"))
    assert browser.evaluate("shown.end") == "done"
    assert browser.evaluate("document.getElementById('answer').textContent")


@pytest.mark.parametrize("backends", ["demo"], indirect=True)
@pytest.mark.parametrize("cors", [{}, {"cors": {"origins": ["https://chat.example"]}}])
def test_page_that_may_not(
    cors: dict[str, Any], browser: Browser, site: Site, serve: Callable[..., Program]
) -> None:
    """The browser lets no page of another origin send its request, let alone read an answer."""
    program = serve(**cors)
    shown = show(browser, site.page(program.url, FIRST))
    assert shown["end"] == "TypeError: Failed to fetch"
    assert (shown["status"], shown["requestId"], shown["reads"]) == (0, None, 0)
    wait_until(lambda: asked(program))
    assert [method for method, _ in asked(program)] == ["OPTIONS"]
