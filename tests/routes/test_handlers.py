"""What the chat's handlers answer, and whom they tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.routes.conftest import NOW_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.routes.conftest import App

    Load = Callable[..., App]


def names(message: dict[str, Any]) -> list[str]:
    return [person["name"] for person in message["people"]]


# --- join


def test_a_newcomer_is_welcomed_and_the_others_are_told(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada", session="ada's")
    chat.send("c1", "sendmessage", text="hello", ref="r1")
    chat.take("c1")

    assert chat.send("c2", "join", room="lobby", name="Bo", session="bo's") == 200

    ada = chat.helpers.author_of("c1", "ada's")
    bo = chat.helpers.author_of("c2", "bo's")
    assert chat.take("c2") == [
        {
            "type": "welcome",
            "room": "lobby",
            "name": "Bo",
            "author": bo,
            "people": [{"name": "Ada", "author": ada}, {"name": "Bo", "author": bo}],
            "messages": [
                {
                    "type": "message",
                    "room": "lobby",
                    "name": "Ada",
                    "text": "hello",
                    "author": ada,
                    "at": NOW_MS,
                    "id": "message-002",
                    "ref": "r1",
                }
            ],
            "rooms": [{"room": "lobby", "people": 2}],
        }
    ]
    assert chat.take("c1") == [
        {"type": "joined", "room": "lobby", "name": "Bo", "author": bo, "at": NOW_MS}
    ]


def test_a_name_that_is_taken_gets_a_number(app: Load) -> None:
    chat = app()
    long = "A" * 32

    assert chat.join("c1", "Ada")["name"] == "Ada"
    assert chat.join("c2", "ada")["name"] == "ada 2"
    assert chat.join("c3", "Ada")["name"] == "Ada 3"
    assert chat.join("c3", "Ada", "kitchen")["name"] == "Ada"
    assert [chat.join(f"d{number}", long)["name"] for number in range(2)] == [long, "A" * 30 + " 2"]


def test_rooms_and_names_are_tidied(app: Load) -> None:
    chat = app()

    welcome = chat.join("c1", "  Ada \n\u202e Lovelace\u0000 ", "  The \t LOBBY ")

    assert welcome["room"] == "the lobby"
    assert welcome["name"] == "Ada Lovelace"


@pytest.mark.parametrize(
    ("asked", "reason", "text"),
    [
        ({"room": "lobby"}, "name", "The name is missing."),
        ({"room": "lobby", "name": " \u200b "}, "name", "The name is missing."),
        ({"room": "lobby", "name": 7}, "name", "The name is missing."),
        ({"room": "lobby", "name": "A" * 33}, "name", "The name is too long: 33 of 32 characters."),
        ({"name": "Ada"}, "room", "The room is missing."),
        ({"name": "Ada", "room": "r" * 33}, "room", "The room is too long: 33 of 32 characters."),
    ],
)
def test_what_cannot_be_joined_is_refused_with_the_reason(
    app: Load, asked: dict[str, Any], reason: str, text: str
) -> None:
    chat = app()

    assert chat.send("c1", "join", **asked) == 400

    [refused] = chat.take("c1")
    assert (refused["type"], refused["reason"], refused["text"]) == ("refused", reason, text)
    assert chat.table.TABLE.rooms() == []


def test_a_full_room_refuses(app: Load) -> None:
    chat = app(CHAT_PEOPLE_MAX="1")
    chat.join("c1", "Ada")
    chat.take("c1")

    assert chat.join("c2", "Bo") == {
        "type": "refused",
        "room": "lobby",
        "reason": "full",
        "text": "The room is full (limit: 1). Try another one.",
    }
    assert chat.take("c1") == []
    assert chat.join("c2", "Bo", "kitchen")["type"] == "welcome"


def test_one_can_be_in_eight_rooms(app: Load) -> None:
    chat = app()
    for number in range(8):
        assert chat.join("c1", "Ada", f"room {number}")["type"] == "welcome"

    assert chat.join("c1", "Ada", "room 8")["reason"] == "rooms"
    assert chat.join("c1", "Ada", "room 7")["type"] == "welcome"


def test_who_joins_again_under_another_name_leaves_under_the_first(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada")
    chat.join("c2", "Bo")
    chat.take("c1")

    assert names(chat.join("c2", "Bob")) == ["Ada", "Bob"]

    assert [(told["type"], told["name"]) for told in chat.take("c1")] == [
        ("left", "Bo"),
        ("joined", "Bob"),
    ]


def test_who_joins_twice_at_once_is_there_once(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = load()
    table = chat.table.TABLE
    members = table.members
    # The first look is taken before the other one is in.
    looks: Iterator[list[Any]] = iter([[]])
    monkeypatch.setattr(table, "members", lambda room: next(looks, members(room)))
    table.add(chat.table.Member("c1", "lobby", "Ada", "author", "", NOW_MS))

    assert names(chat.join("c1", "Ada")) == ["Ada"]


def test_a_lost_connection_is_replaced_without_a_word(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada")
    chat.join("c2", "Bo", session="bo's")
    chat.take("c1")

    welcome = chat.join("c3", "Bo", session="bo's")

    assert names(welcome) == ["Ada", "Bo"]
    assert chat.take("c1") == []
    # The end of the lost one is noticed later.
    chat.event("$disconnect", "c2")
    assert chat.take("c1") == []
    assert [member.connection_id for member in chat.table.TABLE.members("lobby")] == ["c1", "c3"]


def test_without_its_session_a_place_is_not_given_up(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada", session="ada's")
    chat.join("c2", "Bo")

    assert chat.join("c3", "Ada", session="")["name"] == "Ada 2"
    assert chat.join("c4", "Ada", session="x" * 65)["name"] == "Ada 3"
    assert chat.join("c5", "Ada", session="another's")["name"] == "Ada 4"


# --- sendmessage


def test_a_message_goes_to_everybody_in_the_room(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada")
    chat.join("c2", "Bo")
    chat.join("c3", "Cy", "kitchen")
    for connection_id in ("c1", "c2", "c3"):
        chat.take(connection_id)

    assert chat.send("c1", "sendmessage", text="  hello\nBo\n") == 200

    said = {
        "type": "message",
        "room": "lobby",
        "name": "Ada",
        "text": "  hello\nBo",
        "author": chat.helpers.author_of("c1", ""),
        "at": NOW_MS,
        "id": "message-004",
    }
    assert chat.take("c1") == chat.take("c2") == [said]
    assert chat.take("c3") == []


def test_without_a_room_the_last_one_is_meant(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada", "lobby")
    chat.now_ms += 1
    chat.join("c1", "Ada", "kitchen")
    chat.take("c1")

    chat.send("c1", "sendmessage", text="one")
    chat.send("c1", "sendmessage", text="two", room="Lobby")

    assert [said["room"] for said in chat.take("c1")] == ["kitchen", "lobby"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"text": "hello"}, None),
        ({"text": "x" * 2000}, None),
        ({"text": "x" * 2001}, "text"),
        ({"text": " \n"}, "text"),
        ({"text": ["hello"]}, "text"),
        ({}, "text"),
        ({"text": "hello", "room": "kitchen"}, "nowhere"),
        ({"text": "hello", "room": ""}, "room"),
    ],
)
def test_a_message_that_cannot_be_sent_is_answered(
    app: Load, asked: dict[str, Any], reason: str | None
) -> None:
    chat = app()
    chat.join("c1", "Ada")
    chat.take("c1")

    status = chat.send("c1", "sendmessage", ref="r1", **asked)

    [answer] = chat.take("c1")
    assert answer["ref"] == "r1"
    assert answer.get("reason") == reason
    assert status == (400 if reason else 200)


def test_texts_are_cleaned_of_what_no_text_can_hold(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada")
    chat.take("c1")

    chat.event(
        "sendmessage", "c1", body='{"text": "\\ud83d a\\u0000\\u001b[2Jb\\r\\n\\tc \\ud83d\\ude00"}'
    )

    [said] = chat.take("c1")
    assert said["text"] == "\N{REPLACEMENT CHARACTER} a[2Jb\n\tc \N{GRINNING FACE}"


def test_a_newcomer_is_told_as_much_as_fits_into_a_post(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada")
    for number in range(50):
        chat.send("c1", "sendmessage", text=f"{number:02}" + "\N{GRINNING FACE}" * 1998)

    welcome = chat.join("c2", "Bo")

    assert [message["text"][:2] for message in welcome["messages"]] == [
        str(number) for number in range(50 - len(welcome["messages"]), 50)
    ]
    assert 56 * 1024 < len(chat.helpers._encoded(welcome)) < 66 * 1024


# --- leave, $disconnect, connections that are gone


def test_who_leaves_a_room_stays_in_the_others(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada")
    chat.join("c2", "Bo")
    chat.join("c1", "Ada", "kitchen")
    chat.take("c1")
    chat.take("c2")

    assert chat.send("c1", "leave", room="lobby") == 200

    author = chat.helpers.author_of("c1", "")
    left = {"type": "left", "room": "lobby", "name": "Ada", "author": author, "at": NOW_MS}
    assert chat.take("c1") == chat.take("c2") == [left]
    assert chat.table.TABLE.rooms() == [("kitchen", 1), ("lobby", 1)]
    assert chat.send("c1", "leave", room="lobby") == 400
    assert chat.take("c1")[0]["reason"] == "nowhere"


def test_at_the_end_of_a_connection_its_rooms_are_told(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada")
    chat.join("c1", "Ada", "kitchen")
    chat.join("c2", "Bo")
    chat.join("c3", "Cy", "kitchen")
    for connection_id in ("c1", "c2", "c3"):
        chat.take(connection_id)

    assert chat.event("$disconnect", "c1") == 200

    assert [(told["type"], told["room"], told["name"]) for told in chat.take("c2")] == [
        ("left", "lobby", "Ada")
    ]
    assert [(told["type"], told["room"], told["name"]) for told in chat.take("c3")] == [
        ("left", "kitchen", "Ada")
    ]
    assert chat.take("c1") == []
    assert chat.event("$disconnect", "c1") == 200


def test_connections_that_are_gone_are_forgotten(app: Load) -> None:
    chat = app()
    for number, name in enumerate(("Ada", "Bo", "Cy", "Di")):
        chat.join(f"c{number}", name)
        chat.now_ms += 1
    chat.join("c1", "Bo", "kitchen")
    chat.join("c9", "Eve", "kitchen")
    for number in range(10):
        chat.take(f"c{number}")
    chat.gone |= {"c1", "c2"}

    chat.send("c0", "sendmessage", text="hello")

    told = [(one["type"], one["name"]) for one in chat.take("c0")]
    assert sorted(told) == [("left", "Bo"), ("left", "Cy"), ("message", "Ada")]
    assert [(one["type"], one["name"]) for one in chat.take("c9")] == [("left", "Bo")]
    assert [member.name for member in chat.table.TABLE.members("lobby")] == ["Ada", "Di"]
    assert chat.table.TABLE.rooms() == [("lobby", 2), ("kitchen", 1)]


def test_who_is_gone_before_the_welcome_was_never_there(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada")
    chat.take("c1")
    chat.gone.add("c2")

    chat.send("c2", "join", room="lobby", name="Bo")

    assert [told["type"] for told in chat.take("c1")] == ["joined", "left"]
    assert chat.table.TABLE.rooms() == [("lobby", 1)]


def test_a_newcomer_finds_nobody_who_is_gone(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada")
    chat.gone.add("c1")
    chat.now_ms += 1

    assert names(chat.join("c2", "Ada")) == ["Ada 2"]
    assert [told["type"] for told in chat.take("c2")] == ["welcome"]

    chat.now_ms += 1
    assert names(chat.join("c3", "Ada")) == ["Ada 2", "Ada"]


# --- the rest


def test_rooms_are_listed(app: Load) -> None:
    chat = app()
    chat.join("c1", "Ada")
    chat.take("c1")

    assert chat.send("c1", "rooms") == 200

    assert chat.take("c1") == [{"type": "rooms", "rooms": [{"room": "lobby", "people": 1}]}]


def test_anything_else_is_answered_with_what_there_is(app: Load) -> None:
    chat = app()

    assert chat.event("$default", "c1", body="hello") == 400

    [error] = chat.take("c1")
    assert error["reason"] == "action"
    assert '{"action": "join", "room": "lobby", "name": "Ada"}' in error["text"]


@pytest.mark.parametrize("action", ["join", "sendmessage", "leave"])
def test_json_that_only_the_gateway_reads_is_answered(app: Load, action: str) -> None:
    chat = app()

    assert chat.event(action, "c1", body=f"{{action: {action}}}") == 400

    assert chat.take("c1")[0]["reason"] == "json"


@pytest.mark.parametrize(
    ("allowed", "headers", "status"),
    [
        ("", {"Origin": "https://evil.example"}, 200),
        ("https://chat.example", {"Origin": "https://chat.example"}, 200),
        ("https://a.example, https://b.example", {"origin": "https://b.example"}, 200),
        ("https://chat.example", {"Origin": "https://evil.example"}, 403),
        ("https://chat.example", {"Origin": "null"}, 403),
        ("https://chat.example", {}, 200),
    ],
)
def test_pages_from_elsewhere_can_be_kept_out(
    load: Load, allowed: str, headers: dict[str, str], status: int
) -> None:
    chat = load(CHAT_ORIGINS=allowed)

    assert chat.event("$connect", "c1", headers=headers) == status


# --- posting


class Gateway:
    """A client of the callback API."""

    class exceptions:  # noqa: N801 - boto3's name
        class GoneException(ClientError):
            pass

    def __init__(self, code: str) -> None:
        self._error = ClientError({"Error": {"Code": code}}, "PostToConnection")
        if code == "GoneException":
            self._error = self.exceptions.GoneException(self._error.response, "PostToConnection")

    def post_to_connection(self, **_: Any) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("code", "is_there"), [("GoneException", False), ("LimitExceededException", True)]
)
def test_only_who_is_gone_counts_as_gone(
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: str,
    is_there: bool,
) -> None:
    chat = load()
    monkeypatch.setattr(chat.helpers, "_management", lambda url: Gateway(code))

    assert chat.post_once("https://chat.example/dev", "c1", {"type": "left"}) == is_there

    assert (f"not posted to c1: An error occurred ({code})" in caplog.text) == is_there
