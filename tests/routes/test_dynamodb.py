"""The chat over DynamoDB, behind a real gateway."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

from tests.routes.process import Chat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from websockets.sync.client import ClientConnection

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def open_client(chat: Chat) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{chat.port}/dev", proxy=None)


def ask(client: ClientConnection, **message: Any) -> Any:
    client.send(json.dumps(message))
    return json.loads(client.recv(10))


def test_what_was_said_outlives_the_gateway_and_who_was_there_does_not(
    tmp_path: Path, aws: str, dynamodb: Callable[[], str]
) -> None:
    chat = Chat(tmp_path)
    try:
        chat.start(
            CHAT_TABLE=dynamodb(),
            AWS_ENDPOINT_URL_DYNAMODB=aws,
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
        )
        with open_client(chat) as client:
            ask(client, action="join", room="lobby", name="Ada")
            ask(client, action="sendmessage", text="remember this")
            # No `$disconnect` is run for her.
            chat.kill()

        chat.start()
        with open_client(chat) as client:
            welcome = ask(client, action="join", room="lobby", name="Bo")
            assert [message["text"] for message in welcome["messages"]] == ["remember this"]
            assert [person["name"] for person in welcome["people"]] == ["Bo"]
            assert welcome["rooms"] == [{"room": "lobby", "people": 1}]
        chat.stop()
    finally:
        chat.kill()
