"""A gateway that serves the chat, and people who open it in Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.browser.chromium import FLAGS, find_chromium
from tests.browser.person import Person
from tests.routes.process import Chat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

expect.set_options(timeout=15_000)


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    """A chat that has to be started."""
    one = Chat(tmp_path)
    yield one
    one.kill()


# Not for the session: while Playwright runs, asyncio takes its loop for a running one, and
# coroutine tests of other modules could not run in this process.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium
        one = chromium.launch(
            executable_path=find_chromium(chromium.executable_path), args=list(FLAGS)
        )
        yield one
        one.close()


@pytest.fixture
def person(browser: Browser, chat: Chat) -> Iterator[Callable[..., Person]]:
    """Opens the chat as somebody who shares nothing with the others.

    At the end nothing may have gone wrong in anybody's page.
    """
    people: list[Person] = []

    def opened(name: str, **options: Any) -> Person:
        one = Person(name, browser.new_context(**options), chat.page_url)
        people.append(one)
        return one

    yield opened
    for one in people:
        one.page.context.close()
    assert [error for one in people for error in one.errors] == []
