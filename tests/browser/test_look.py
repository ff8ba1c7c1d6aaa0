"""What the page looks like: on a phone and on a desktop, light and dark."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.browser.person import Person
    from tests.routes.process import Chat

    People = Callable[..., Person]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
ROOT = Path(__file__).parents[2]
TOO_WIDE = """() => [document.documentElement, ...document.querySelectorAll(".panel, .talk, .scroll")]
    .filter((element) => element.scrollWidth > element.clientWidth)
    .map((element) => element.id)"""
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where pictures go: CHAT_SCREENSHOTS=docs/screenshots keeps them."""
    kept = os.environ.get("CHAT_SCREENSHOTS")
    return ROOT / kept if kept else tmp_path


def assert_readable(page: Page) -> None:
    """Every text stands out from its ground, and nothing is wider than the screen."""
    found = page.evaluate(CONTRAST)
    assert found["count"] >= 5
    assert found["poor"] == []
    assert page.evaluate(TOO_WIDE) == []


class Camera:
    """Takes pictures of a page, light and dark, and looks at them."""

    def __init__(self, page: Page, folder: Path, size: str) -> None:
        self._page = page
        self._folder = folder
        self._size = size

    def picture(self, name: str) -> None:
        for scheme in ("light", "dark"):
            self._page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            self._page.screenshot(path=self._folder / f"{name}-{self._size}-{scheme}.png")
            assert_readable(self._page)


@pytest.mark.parametrize("size", SIZES)
def test_every_view_in_pictures(chat: Chat, person: People, screenshots: Path, size: str) -> None:
    chat.start()
    ada = person("Ada", viewport=SIZES[size], locale="en-GB").open()
    camera = Camera(ada.page, screenshots, size)
    ada.page.get_by_label("Your name").fill("Ada")
    camera.picture("entry")

    grace, linus = person("Grace").join(), person("Linus").join()
    grace.say("Has anybody tried the new build?")
    linus.reads("Has anybody tried the new build?")
    linus.say("Yes, on two nodes. Everybody was closed with 1001 and came back within a second.")
    linus.say("Numbers: https://example.org/drain")
    grace.reads("https://example.org/drain")
    ada.ask_to_join().is_in("lobby")
    ada.say("That is quick! Did anything get lost on the way?")
    linus.reads("That is quick! Did anything get lost on the way?")
    linus.say("Not one message. What was on its way was answered first.")
    grace.reads("Not one message. What was on its way was answered first.")
    grace.say("Then let us write it down:\n1. drain\n2. wait\n3. stop")
    ada.join_too("kitchen")
    bo = person("Bo").join("kitchen")
    ada.reads("Bo joined")
    ada.switch_to("lobby")
    ada.say("I will ☕")
    bo.say("Lunch is ready")
    bo.say("Soup today")
    expect(ada.page).to_have_title("(2) lobby · Chat")
    grace.reads("I will ☕")
    camera.picture("room")
    if size == "phone":
        ada.page.get_by_role("button", name="Rooms").click()
        camera.picture("rooms")
        ada.page.keyboard.press("Escape")
        ada.page.get_by_role("button", name="3 here").click()
        camera.picture("people")
        ada.page.keyboard.press("Escape")

    chat.stop()
    expect(ada.banner).to_contain_text("Offline. Nothing answers")
    camera.picture("offline")


@pytest.mark.parametrize("size", SIZES)
def test_a_refusal_in_pictures(chat: Chat, person: People, screenshots: Path, size: str) -> None:
    chat.start(CHAT_ORIGINS="https://chat.example")
    ada = person("Ada", viewport=SIZES[size]).open().ask_to_join()

    expect(ada.state).to_have_text("Refused.")

    Camera(ada.page, screenshots, size).picture("refused")


@pytest.mark.parametrize("size", SIZES)
def test_long_names_and_words_stay_in_their_place(chat: Chat, person: People, size: str) -> None:
    chat.start()
    long = "Wolfeschlegelsteinhausenbergerdo"
    ada = person(long, viewport=SIZES[size], reduced_motion="reduce").join(long.lower())
    bo = person("Bo").join(long.lower())
    bo.say("x" * 500)
    ada.reads("x" * 500)
    assert_readable(ada.page)

    ada.join_too("kitchen")
    if size == "phone":
        ada.page.get_by_role("button", name="Rooms").click()
    assert_readable(ada.page)
