"""The pages in a browser: by mouse, by keyboard, live, and for everybody's eyes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from support.broker_process import BrokerProcess
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually

ADMIN_KEY = "an-admin-key-of-the-tests"
expect.set_options(timeout=15_000)


@pytest.fixture(scope="module", autouse=True)
def filled(own: BrokerProcess) -> Iterator[None]:
    """Something in every state."""
    api = own.api
    with Endpoint() as well, Endpoint(always(Answer(422, body=b"no such customer"))) as refusing:
        api.ok_subscribe("order", well.url, "shipping")
        api.ok_subscribe("order", refusing.url, "billing")
        api.ok_subscribe("order", refusing.url, "audit", when_exhausted="block")
        api.ok_subscribe("order", well.url, "ledger")
        api.pause("order", "ledger")
        api.put_subscription("order", "pulled")
        for number in range(5):
            api.ok_publish("order", {"n": number}, key=f"k-{number % 2}", type="order.created")
        eventually(lambda: api.ok_status("order", "billing")["dead_letters"] == 5)
        eventually(lambda: api.ok_status("order", "audit")["blocked_keys"] == 2)
        yield


PAGES = [
    "/",
    "/topics",
    "/topics/order",
    "/topics/order/messages",
    "/topics/order/messages/1",
    "/topics/order/tail",
    "/subscriptions",
    "/topics/order/subscriptions/audit",
    "/topics/order/subscriptions/ledger",
    "/topics/order/subscriptions/billing/dead-letters",
    "/topics/order/subscriptions/billing/dead-letters/1/delete",
    "/topics/order/subscriptions/billing/dead-letters/replay",
    "/topics/order/subscriptions/billing/rotate-secret",
    "/topics/order/subscriptions/billing/seek?to=beginning",
    "/topics/order/subscriptions/billing/delete",
    "/topics/order/subscriptions/audit/deliveries/1/dead-letter",
]


@pytest.mark.parametrize("path", PAGES)
def test_page_is_accessible_in_light_and_dark_and_fits_a_phone(page: Page, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="light")
    page.goto(path)
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")  # which changes nothing but colours
    assert violations(page, "color-contrast") == []
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, "something sticks out at the side"


def violations(page: Page, *rules: str) -> list[tuple[str, list[str]]]:
    """Return which of axe's rules a page breaks, all or some of them, and where."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)
    found = Axe().run(page, options=options).response["violations"]
    return [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found]


def test_overview_follows_what_happens_until_it_is_told_not_to(
    page: Page, own: BrokerProcess
) -> None:
    page.goto("/")
    row = page.locator("#row-order-pulled")
    backlog = row.locator("td").nth(1)
    count = own.api.backlog("order", "pulled")
    expect(backlog).to_have_text(str(count))

    own.api.ok_publish("order", 1)
    expect(backlog).to_have_text(str(count + 1))

    switch = page.get_by_role("button", name="Live updates")
    switch.click()
    expect(switch).to_have_attribute("aria-pressed", "false")
    own.api.ok_publish("order", 2)
    with page.expect_request(re.compile("/$"), timeout=15_000):
        switch.click()
    expect(backlog).to_have_text(str(count + 2))


def test_live_update_keeps_the_focus_and_moves_nothing(page: Page, own: BrokerProcess) -> None:
    page.goto("/")
    link = page.get_by_role("link", name="order/ledger")
    link.focus()
    before = page.locator("table").bounding_box()

    own.api.ok_publish("order", 1)
    with page.expect_response(re.compile("/$")):
        pass
    with page.expect_response(re.compile("/$")):
        pass

    expect(link).to_be_focused()
    assert page.locator("table").bounding_box() == before


def test_subscription_is_paused_and_resumed_by_keyboard_alone(
    page: Page, own: BrokerProcess
) -> None:
    page.goto("/topics/order")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, "shipping")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Subscription shipping")
    tab_to(page, "Pause")
    page.keyboard.press("Enter")
    expect(page.get_by_text("What comes waits here")).to_be_visible()
    assert own.api.ok_status("order", "shipping")["state"] == "paused"
    tab_to(page, "Resume")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Resumed.")).to_be_visible()
    assert own.api.ok_status("order", "shipping")["state"] == "active"


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has this name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            return
    raise AssertionError(f"no Tab leads to {name}")


def test_message_is_published_and_followed_to_its_end(page: Page) -> None:
    page.goto("/topics/order")
    page.get_by_label("Type").fill("order.tried")
    page.get_by_label("Key").fill("k-9")
    page.get_by_label("Data, in JSON").fill('{"html": "<b>bold</b>"}')
    page.get_by_role("button", name="Publish").click()
    page.get_by_role("status").get_by_role("link").click()

    expect(page.get_by_text('"html": "<b>bold</b>"')).to_be_visible()
    expect(page.locator("#fate-shipping .chip")).to_have_text("settled")
    expect(page.locator("#fate-billing .chip")).to_have_text("dead letter")
    expect(page.locator("#fate-audit .chip")).to_have_text("blocked")
    expect(page.locator("#fate-audit")).to_contain_text("no such customer")
    expect(page.locator("#fate-ledger .chip")).to_have_text("to come")


def test_dead_letter_is_deleted_only_when_that_is_confirmed(page: Page, own: BrokerProcess) -> None:
    before = own.api.ok_status("order", "billing")["dead_letters"]
    page.goto("/topics/order/subscriptions/billing/dead-letters")
    page.get_by_role("link", name="Delete the dead letter 1", exact=True).click()
    page.get_by_role("link", name="Cancel").click()
    assert own.api.ok_status("order", "billing")["dead_letters"] == before

    page.get_by_role("link", name="Delete the dead letter 1", exact=True).click()
    page.get_by_role("button", name="Delete the dead letter").click()
    expect(page.get_by_text("The dead letter is deleted.")).to_be_visible()
    assert own.api.ok_status("order", "billing")["dead_letters"] == before - 1


def test_tail_shows_what_comes_as_text_and_can_be_stopped(page: Page, own: BrokerProcess) -> None:
    page.goto("/topics/order/tail")
    expect(page.get_by_text("Live: messages appear as they come.")).to_be_visible()

    sequence = own.api.ok_publish("order", "<img src=x onerror=alert(1)>", type="<b>t</b>")
    expect(page.get_by_text("<img src=x onerror=alert(1)>")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    own.api.ok_publish("order", "while it was stopped")
    expect(page.get_by_text("Stopped after 1 message.")).to_be_visible()
    expect(page.locator("#tail tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("while it was stopped")).to_be_visible()

    page.get_by_role("link", name=str(sequence), exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Message {sequence}")


def test_tail_shows_numbers_as_they_were_written(page: Page, own: BrokerProcess) -> None:
    page.goto("/topics/order/tail")
    expect(page.get_by_text("Live: messages appear as they come.")).to_be_visible()

    numbers = b'{"id":9007199254740993,"price":1.10}'
    own.api.post("order", numbers, {"content-type": "application/json"})

    expect(page.get_by_text('{"id":9007199254740993,"price":1.10}')).to_be_visible()


def test_form_of_another_site_does_nothing(chromium: Browser, own: BrokerProcess) -> None:
    target = f"{own.base_url}/topics/order/subscriptions/ledger/resume"
    form = f"<form method=post action='{target}'><button>Win</button></form>"
    page = chromium.new_page()
    page.route(
        "http://evil.example/", lambda route: route.fulfill(content_type="text/html", body=form)
    )
    page.goto("http://evil.example/")
    with page.expect_response(target) as answered:
        page.get_by_role("button").click()
    page.close()

    assert answered.value.status == 403
    assert own.api.ok_status("order", "ledger")["state"] == "paused"


def test_key_opens_the_pages_and_the_tail(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    guarded = BrokerProcess(
        tmp_path_factory.mktemp("guarded"), BROKER_API_KEYS="on", BROKER_ADMIN_KEY=ADMIN_KEY
    )
    with closing(guarded.start()):
        guarded.api.http.headers["authorization"] = f"Bearer {ADMIN_KEY}"
        guarded.api.put_topic("order")
        page = chromium.new_page(base_url=guarded.base_url)
        try:
            page.goto("/topics/order/tail")
            assert violations(page) == []
            page.get_by_label("API key").fill("brk_wrong")
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert")).to_have_text("This is no key of this broker.")
            page.get_by_label("API key").fill(ADMIN_KEY)
            page.keyboard.press("Enter")
            expect(page.get_by_text("Live: messages appear as they come.")).to_be_visible()
            guarded.api.ok_publish("order", "for the eyes of who has a key")
            expect(page.get_by_text("for the eyes of who has a key")).to_be_visible()
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_label("API key")).to_be_visible()
            page.get_by_label("API key").fill(ADMIN_KEY)
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", name="Overview")).to_be_visible()

            page.context.clear_cookies()  # what is live notices by itself
            expect(page.get_by_label("API key")).to_be_visible()
            page.get_by_label("API key").fill(ADMIN_KEY)
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", name="Overview")).to_be_visible()
            page.wait_for_load_state("load")  # with the scripts that are to notice
            guarded.kill()
            expect(page.get_by_text("The broker cannot be reached.")).to_be_visible()
        finally:
            page.close()
