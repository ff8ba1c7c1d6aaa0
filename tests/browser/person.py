"""Somebody who uses the chat as people do: by what is written on the screen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Locator

# What Chromium itself says about requests that fail, as they do while there is no gateway.
_EXPECTED = re.compile(r"^(Failed to load resource|WebSocket connection to)")


class Person:
    """One tab.

    Attributes:
        name: What to be called.
        errors: What went wrong in the page.
    """

    def __init__(self, name: str, context: BrowserContext, url: str) -> None:
        self.name = name
        self.errors: list[str] = []
        self.url = url
        self.page = context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not _EXPECTED.match(message.text):
            self.errors.append(message.text)

    def open(self, rest: str = "") -> Person:
        self.page.goto(self.url + rest)
        return self

    def ask_to_join(self, room: str = "lobby") -> Person:
        """Fill in the first form."""
        self.page.get_by_label("Your name").fill(self.name)
        self.page.get_by_label("Room", exact=True).fill(room)
        self.page.get_by_role("button", name="Join", exact=True).click()
        return self

    def join(self, room: str = "lobby") -> Person:
        """Open the chat and wait until it has let one in."""
        self.open().ask_to_join(room).is_in(room)
        return self

    def ask_to_join_too(self, room: str) -> None:
        self._show_rooms()
        self.page.get_by_label("Join or start a room").fill(room)
        self.page.keyboard.press("Enter")

    def join_too(self, room: str) -> None:
        """Join one more room."""
        self.ask_to_join_too(room)
        self.is_in(room)

    def switch_to(self, room: str) -> None:
        self._show_rooms()
        self.room_button(room).click()
        self.is_in(room)

    def _show_rooms(self) -> None:
        # On a phone they have to be asked for.
        button = self.page.locator("#show-rooms")
        if button.is_visible():
            button.click()

    def try_now(self) -> None:
        self.page.get_by_role("button", name="Try now").click()

    def is_in(self, room: str) -> None:
        """Expect to be let in."""
        expect(self.page.get_by_role("heading", level=1)).to_have_text(f"#{room}")
        self.is_online()
        expect(self.people.filter(has_text=re.compile("you$"))).to_have_count(1)

    def is_online(self) -> None:
        """Expect a connection."""
        expect(self.page.locator("#pill")).to_have_text("Online")
        expect(self.banner).to_be_hidden()

    def write(self, text: str) -> None:
        self.field.fill(text)

    def say(self, text: str) -> None:
        self.write(text)
        self.field.press("Enter")

    def sees(self, *names: str) -> None:
        """Expect these people in the room, in this order."""
        expect(self.people).to_have_text(
            [re.compile(f"^.{re.escape(name)}(you)?$") for name in names]
        )

    def sees_all_of(self, *names: str) -> None:
        """Expect these people in the room, and nobody else."""
        expect(self.people).to_have_count(len(names))
        for name in names:
            expect(self.people.get_by_text(name, exact=True)).to_have_count(1)

    def reads(self, text: str) -> None:
        expect(self.log.get_by_text(text, exact=True)).to_have_count(1)

    @property
    def people(self) -> Locator:
        return self.page.locator("#people li")

    @property
    def log(self) -> Locator:
        return self.page.get_by_role("log")

    @property
    def own_messages(self) -> Locator:
        return self.page.locator(".message.own")

    @property
    def field(self) -> Locator:
        return self.page.get_by_label("Message", exact=True)

    @property
    def note(self) -> Locator:
        return self.page.locator("#text-note")

    @property
    def banner(self) -> Locator:
        return self.page.locator("#banner")

    @property
    def state(self) -> Locator:
        """What the banner begins with."""
        return self.page.locator("#state")

    def room_button(self, room: str) -> Locator:
        rooms = self.page.get_by_role("navigation", name="Rooms")
        return rooms.get_by_role("button", name=re.compile(rf"^{re.escape(room)}\b"))
