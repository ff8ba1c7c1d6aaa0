"""The chat over Redis, behind two real gateways."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

from tests.routes.process import Chat

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.sync.client import ClientConnection

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(60)]


def open_client(chat: Chat) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{chat.port}/dev", proxy=None)


def told(client: ClientConnection) -> Any:
    return json.loads(client.recv(10))


def ask(client: ClientConnection, **message: Any) -> Any:
    client.send(json.dumps(message))
    return told(client)


def test_people_on_two_gateways_are_in_one_room(tmp_path: Path, valkey_url: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = Chat(tmp_path / "one"), Chat(tmp_path / "two")
    try:
        one.start(CHAT_REDIS=valkey_url, WSGATEWAY_REDIS=valkey_url)
        two.start(CHAT_REDIS=valkey_url, WSGATEWAY_REDIS=valkey_url)
        with open_client(one) as ada:
            ask(ada, action="join", room="lobby", name="Ada")
            ask(ada, action="sendmessage", text="is anybody there?")
            with open_client(two) as bo:
                welcome = ask(bo, action="join", room="lobby", name="Bo")
                assert [person["name"] for person in welcome["people"]] == ["Ada", "Bo"]
                assert [message["text"] for message in welcome["messages"]] == ["is anybody there?"]
                assert (told(ada)["type"], welcome["rooms"]) == (
                    "joined",
                    [{"room": "lobby", "people": 2}],
                )

                ask(bo, action="sendmessage", text="I am")

                assert told(ada)["text"] == "I am"
            left = told(ada)
            assert (left["type"], left["name"]) == ("left", "Bo")
        two.stop()
        one.stop()
    finally:
        one.kill()
        two.kill()
