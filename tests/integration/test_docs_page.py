"""The page at /docs: it tells of every call, leads nowhere else, and runs nothing."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from support.api import good
from support.broker_process import StartBroker


class Page(HTMLParser):
    """What a page holds: ids, links, tags, text."""

    VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        known = dict(attrs)
        if known.get("id"):
            self.ids.append(str(known["id"]))
        if tag == "a":
            self.links.append(str(known["href"]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def answer(broker: Any) -> httpx.Response:
    """The page of the shared broker."""
    found: httpx.Response = broker.api.http.get("/docs")
    assert found.status_code == 200
    return found


@pytest.fixture(scope="module")
def page(answer: httpx.Response) -> Page:
    """What it holds."""
    return Page(answer.text)


def test_every_call_and_every_type_of_the_description_is_told_of(broker: Any, page: Page) -> None:
    document = good(broker.api.http.get("/openapi.json"))

    for path, item in document["paths"].items():
        for call in item.values():
            assert call["operationId"] in page.ids
            assert re.split(r"[`\[\n]", call["description"])[0].strip() in page.text
        assert path in page.text
    for name in document["components"]["schemas"]:
        assert f"type-{name}" in page.ids


def test_every_field_of_every_type_is_told_of(broker: Any, page: Page) -> None:
    document = good(broker.api.http.get("/openapi.json"))
    for schema in document["components"]["schemas"].values():
        for name in schema.get("properties", {}):
            assert name in page.text


def test_page_is_well_formed_and_its_links_lead_somewhere(page: Page) -> None:
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    within = {link[1:] for link in page.links if link.startswith("#")}
    assert within <= set(page.ids)
    others = {link for link in page.links if not link.startswith(("#", "https://"))}
    assert others == {"openapi.json"}


def test_page_loads_nothing_and_runs_nothing(answer: httpx.Response, page: Page) -> None:
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "form"})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_page_needs_no_key(start_broker: StartBroker) -> None:
    running = start_broker(BROKER_API_KEYS="on", BROKER_ADMIN_KEY="an-admin-key-of-a-test")
    assert running.api.http.get("/docs").status_code == 200
