"""A real browser: Debian's Chromium. A machine without it skips, CI fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from support.broker_process import BrokerProcess

CHROMIUM = shutil.which("chromium")
WAIT_MS = 15_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser that the tests of a module share; while it is open, no other loop can run here."""
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            raise FileNotFoundError("chromium: apt-get install chromium")
        pytest.skip("there is no chromium")
    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser, own: BrokerProcess) -> Iterator[BrowserContext]:
    """A window of its own, which reaches nothing but the broker."""
    context = chromium.new_context(base_url=own.base_url)
    context.set_default_timeout(WAIT_MS)
    elsewhere: list[str] = []

    def look(url: str) -> bool:
        if not url.startswith(own.base_url):
            elsewhere.append(url)
        return False

    context.route(look, lambda route: route.continue_())
    yield context
    context.close()
    assert elsewhere == [], "a page asked another host"


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page; what it complains of fails the test."""
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    yield page
    assert complaints == []


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker for the browser alone."""
    running = BrokerProcess(tmp_path_factory.mktemp("browsed"))
    with closing(running.start()):
        yield running
        print(running.log()[-20_000:])
