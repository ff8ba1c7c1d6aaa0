"""People chat in a real browser, through a real gateway."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Route, WebSocketRoute

    from tests.browser.person import Person
    from tests.routes.process import Chat

    People = Callable[..., Person]

# The first one may have to install Chromium.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_two_tabs_chat_and_one_that_closes_is_seen_to_leave(chat: Chat, person: People) -> None:
    chat.start()
    ada = person("Ada").join()
    bo = person("Bo").join()
    ada.sees("Ada", "Bo")
    bo.sees("Ada", "Bo")

    ada.say("Hello Bo")
    bo.reads("Hello Bo")
    bo.say("Hello Ada")
    ada.reads("Hello Ada")
    ada.reads("Bo joined")
    expect(ada.own_messages).to_have_text([re.compile("^YouHello Bo")])
    expect(bo.own_messages).to_have_text([re.compile("^YouHello Ada")])

    bo.page.close()
    ada.reads("Bo left")
    ada.sees("Ada")


def test_after_a_restart_of_the_gateway_both_come_back(chat: Chat, person: People) -> None:
    chat.start()
    ada, bo = person("Ada").join(), person("Bo").join()
    ada.join_too("kitchen")
    ada.say("Before")
    ada.switch_to("lobby")

    chat.stop()
    for one in (ada, bo):
        expect(one.state).to_have_text("Offline.")
    ada.write("Kept for later")
    ada.page.keyboard.press("Enter")
    expect(ada.note).to_contain_text("Not sent")
    expect(ada.field).to_have_value("Kept for later")
    chat.start()

    for one in (ada, bo):
        # Whoever has tried often waits longer for the next time.
        expect(one.banner).to_be_hidden(timeout=60_000)
        one.is_in("lobby")
    for one in (ada, bo):
        one.sees_all_of("Ada", "Bo")
    ada.page.keyboard.press("Enter")
    bo.reads("Kept for later")
    bo.say("Welcome back")
    ada.reads("Welcome back")
    # They did not leave, the connection did.
    expect(ada.log.get_by_text("Bo joined")).to_have_count(1)
    expect(ada.log.get_by_text("left")).to_have_count(0)
    # She is back in her other room as well, and what she has read of it is still there.
    ada.switch_to("kitchen")
    ada.reads("Before")
    ada.sees("Ada")


def test_a_gateway_that_comes_up_while_the_page_asks_why_is_not_taken_for_one_that_refuses(
    chat: Chat, person: People
) -> None:
    chat.start()
    ada = person("Ada").join()
    chat.stop()
    expect(ada.state).to_have_text("Offline.")
    questions: list[str] = []

    def start(route: Route) -> None:
        if not questions:
            chat.start()
        questions.append(route.request.url)
        route.continue_()

    ada.page.route(re.compile("/(health|dev)$"), start)

    # It tries again by itself, soon: a button to press may be gone by now.
    ada.is_in("lobby")
    assert len(questions) >= 2


def test_a_connection_that_connect_refuses_shows_what_is_known(chat: Chat, person: People) -> None:
    chat.start(CHAT_ORIGINS="https://chat.example")
    ada = person("Ada").open().ask_to_join()

    expect(ada.state).to_have_text("Refused.")
    expect(ada.banner).to_contain_text("its $connect route did not let this page in")
    expect(ada.page.get_by_role("status").first).to_contain_text("Refused.")
    assert '"route":"$connect","status":403' in chat.errors

    # The one who runs it has read the log.
    chat.stop()
    chat.start(CHAT_ORIGINS=chat.page_url.rstrip("/").removesuffix("/_wsgateway"))
    ada.try_now()
    ada.is_in("lobby")


def test_an_unknown_stage_shows_that_it_is_unknown(chat: Chat, person: People) -> None:
    chat.start()
    ada = person("Ada").open("?stage=nope").ask_to_join()

    expect(ada.state).to_have_text("Refused.")
    expect(ada.banner).to_contain_text("The gateway has no stage called “nope”.")


def test_a_full_room_says_so_and_another_one_lets_in(chat: Chat, person: People) -> None:
    chat.start(CHAT_PEOPLE_MAX="1")
    person("Ada").join()
    bo = person("Bo").open().ask_to_join()

    expect(bo.state).to_have_text("Refused.")
    expect(bo.banner).to_contain_text("The room is full (limit: 1).")
    bo.ask_to_join("kitchen").is_in("kitchen")

    # Here there is something to come back to.
    bo.ask_to_join_too("lobby")
    expect(bo.log).to_contain_text("You are not in this room. The room is full")
    expect(bo.room_button("lobby")).to_contain_text("not in")
    expect(bo.page.locator("#pill")).to_have_text("Online")


def test_nobody_answers(chat: Chat, person: People) -> None:
    chat.start()
    ada = person("Ada").open()
    chat.stop()

    ada.ask_to_join()

    expect(ada.state).to_have_text("Offline.")
    expect(ada.banner).to_contain_text("Nothing answers at this address.")
    expect(ada.banner).to_contain_text(re.compile(r"Next try in \d+ s"))
    chat.start()
    ada.is_in("lobby")


def test_unread_messages_are_marked_until_they_are_read(chat: Chat, person: People) -> None:
    chat.start()
    ada, bo = person("Ada").join(), person("Bo").join()
    ada.join_too("kitchen")
    expect(ada.page).to_have_title("kitchen · Chat")

    bo.say("One")
    bo.say("Two")

    expect(ada.room_button("lobby")).to_have_accessible_name("lobby 2 unread")
    expect(ada.page).to_have_title("(2) kitchen · Chat")
    ada.switch_to("lobby")
    expect(ada.page).to_have_title("lobby · Chat")
    expect(ada.room_button("lobby")).to_have_accessible_name("lobby")
    expect(ada.log.locator("li").filter(has_text=re.compile("^New$"))).to_have_count(1)
    bo.say("Three")
    ada.reads("Three")
    expect(ada.page).to_have_title("lobby · Chat")


def test_what_is_below_the_visible_end_is_unread(chat: Chat, person: People) -> None:
    chat.start()
    ada, bo = person("Ada").join(), person("Bo").join()
    for number in range(30):
        ada.say(f"Line {number}")
    ada.reads("Line 29")
    ada.log.evaluate("log => { log.scrollTop = 0; }")
    newer = ada.page.get_by_role("button", name="Newest")
    expect(newer).to_be_visible()

    bo.say("Down here")

    expect(ada.page).to_have_title("(1) lobby · Chat")
    ada.page.get_by_role("button", name="1 new").click()
    expect(ada.page).to_have_title("lobby · Chat")
    expect(ada.log.get_by_text("Down here")).to_be_in_viewport()


def test_a_newcomer_reads_the_last_minutes(chat: Chat, person: People) -> None:
    chat.start()
    ada = person("Ada").join()
    ada.say("First\nand second line")
    ada.say("See https://example.org/page.")
    ada.reads("https://example.org/page")

    bo = person("Bo").join()

    bo.reads("First and second line")
    link = bo.log.get_by_role("link")
    expect(link).to_have_attribute("href", "https://example.org/page")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(bo.log.locator("time").first).to_have_text(re.compile(r"\d:\d\d"))
    # It was said before he came.
    expect(bo.page).to_have_title("lobby · Chat")


def test_two_of_one_name_are_told_apart(chat: Chat, person: People) -> None:
    chat.start()
    one, other = person("Ada").join(), person("Ada").join()

    one.sees("Ada", "Ada 2")
    other.reads("Somebody here has that name already, so you are Ada 2.")
    other.say("Hello")
    expect(one.own_messages).to_have_count(0)
    expect(one.log).to_contain_text("Ada 2Hello")


def test_markup_is_text(chat: Chat, person: People) -> None:
    chat.start()
    bait = "<img src=x onerror=\"document.title='caught'\"><b>bold</b>"
    ada = person("<i>Ada</i>").join("<u>room</u>")
    bo = person("Bo").join("<u>room</u>")

    ada.say(bait)

    bo.reads(bait)
    expect(bo.page.locator("#chat i, #chat b, #chat u, #log img")).to_have_count(0)
    expect(bo.page).to_have_title("<u>room</u> · Chat")


def test_a_reload_keeps_name_and_rooms(chat: Chat, person: People) -> None:
    chat.start()
    ada, bo = person("Ada").join(), person("Bo").join()
    ada.join_too("kitchen")
    ada.switch_to("lobby")

    ada.page.reload()

    ada.is_in("lobby")
    ada.sees_all_of("Ada", "Bo")
    bo.sees_all_of("Ada", "Bo")
    expect(ada.room_button("kitchen")).to_be_visible()


def test_a_new_tab_knows_the_name_and_the_room_of_its_address(chat: Chat, person: People) -> None:
    chat.start()
    ada = person("Ada").join("book club")
    assert ada.page.url.endswith("#room=book+club")

    tab = ada.page.context.new_page()
    tab.goto(ada.page.url)

    expect(tab.get_by_label("Your name")).to_have_value("Ada")
    expect(tab.get_by_label("Room", exact=True)).to_have_value("book club")


def test_rooms_are_left_one_by_one(chat: Chat, person: People) -> None:
    chat.start()
    ada, bo = person("Ada").join(), person("Bo").join()
    ada.join_too("kitchen")
    leave = ada.page.get_by_role("button", name="Leave room")

    leave.click()
    ada.is_in("lobby")
    expect(ada.room_button("kitchen")).to_have_count(0)

    leave.click()
    expect(ada.page.get_by_label("Your name")).to_have_value("Ada")
    bo.reads("Ada left")
    ada.ask_to_join().is_in("lobby")


def test_other_rooms_are_offered(chat: Chat, person: People) -> None:
    chat.start()
    person("Bo").join("kitchen")
    ada = person("Ada").join()

    ada.room_button("kitchen").click()

    ada.is_in("kitchen")
    ada.sees("Bo", "Ada")


def test_everything_can_be_done_with_the_keyboard(chat: Chat, person: People) -> None:
    chat.start()
    ada = person("Ada").open()
    keys = ada.page.keyboard
    expect(ada.page.get_by_label("Your name")).to_be_focused()
    keys.type("Ada")
    keys.press("Enter")
    ada.is_in("lobby")
    expect(ada.field).to_be_focused()
    keys.type("One")
    keys.press("Shift+Enter")
    keys.type("Two")
    keys.press("Enter")
    expect(ada.own_messages).to_have_count(1)
    expect(ada.own_messages).to_contain_text("One\nTwo", use_inner_text=True)

    ada.page.get_by_label("Join or start a room").focus()
    keys.type("kitchen")
    keys.press("Enter")
    ada.is_in("kitchen")
    expect(ada.field).to_be_focused()
    keys.press("Alt+ArrowUp")
    ada.is_in("lobby")
    keys.press("Alt+ArrowUp")
    ada.is_in("kitchen")

    ada.page.reload()
    ada.is_in("kitchen")
    keys.press("Tab")
    expect(ada.page.get_by_role("link", name="Skip to the message field")).to_be_focused()
    keys.press("Enter")
    expect(ada.field).to_be_focused()
    assert ada.page.url.endswith("#room=kitchen")


def test_on_a_phone_panels_open_and_close(chat: Chat, person: People) -> None:
    chat.start()
    ada = person("Ada", viewport={"width": 390, "height": 844}, reduced_motion="reduce").join()
    rooms = ada.page.get_by_role("navigation", name="Rooms")
    opener = ada.page.get_by_role("button", name="Rooms", exact=True)
    expect(rooms).to_be_hidden()

    opener.click()

    expect(opener).to_have_attribute("aria-expanded", "true")
    expect(rooms.get_by_role("button", name="Close rooms")).to_be_focused()
    ada.page.keyboard.press("Escape")
    expect(rooms).to_be_hidden()
    expect(opener).to_be_focused()
    ada.page.get_by_role("button", name="1 here").click()
    expect(ada.page.get_by_role("complementary", name="Here now")).to_be_visible()
    ada.page.mouse.click(20, 400)
    expect(ada.page.get_by_role("complementary", name="Here now")).to_be_hidden()


class Wire:
    """What lies between a page and the gateway.

    Attributes:
        is_cut: It loses everything and says nothing.
        is_slow: Welcomes wait for `hurry`.
    """

    def __init__(self) -> None:
        self.is_cut = False
        self.is_slow = False
        self._waiting: list[Callable[[], None]] = []

    def carry(self, page: WebSocketRoute) -> None:
        gateway = page.connect_to_server()
        page.on_message(lambda message: None if self.is_cut else gateway.send(message))
        gateway.on_message(lambda message: self._to_page(page, message))

    def _to_page(self, page: WebSocketRoute, message: str | bytes) -> None:
        if self.is_cut:
            return
        if self.is_slow and '"type": "welcome"' in str(message):
            self._waiting.append(lambda: page.send(message))
        else:
            page.send(message)

    def hurry(self) -> None:
        for send in self._waiting:
            send()


def test_who_comes_while_ones_own_welcome_is_on_its_way_is_seen(chat: Chat, person: People) -> None:
    chat.start()
    ada = person("Ada")
    wire = Wire()
    wire.is_slow = True
    ada.page.route_web_socket(re.compile("/dev$"), wire.carry)
    ada.open().ask_to_join()
    # Ada is in the room, and does not know it yet.
    bo = person("Bo").join()
    bo.sees_all_of("Ada", "Bo")

    wire.hurry()

    ada.is_in("lobby")
    ada.sees_all_of("Ada", "Bo")


def test_a_connection_that_died_in_silence_is_noticed(chat: Chat, person: People) -> None:
    chat.start()
    ada = person("Ada")
    wire = Wire()
    ada.page.route_web_socket(re.compile("/dev$"), wire.carry)
    ada.page.clock.install()
    ada.join()

    wire.is_cut = True
    ada.page.clock.fast_forward("04:00")
    ada.page.clock.fast_forward("00:10")

    expect(ada.state).to_have_text("Offline.")
    expect(ada.banner).to_contain_text("The connection was lost.")
    wire.is_cut = False
    ada.is_in("lobby")
    # In the place of the dead one, which the gateway still has.
    ada.sees("Ada")
