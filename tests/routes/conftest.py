"""The chat's handlers, with each of the tables they can have."""

from __future__ import annotations

import json
import sys
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.cluster.valkey import Server
from wsgateway.loaders.folder import HandlerFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Message = dict[str, Any]

ROUTES = Path(__file__).parents[2] / "routes"
TABLES = (
    "memory",
    pytest.param("dynamodb", marks=pytest.mark.slow),
    pytest.param("redis", marks=pytest.mark.redis),
)
NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="session")
def aws() -> Iterator[str]:
    """moto's server, which is DynamoDB here."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def dynamodb(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Makes tables as `_table.py` says, with the environment that leads to them."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", aws)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("dynamodb")
    numbers = count(1)
    names: list[str] = []

    def made() -> str:
        names.append(f"chat-{next(numbers)}")
        client.create_table(
            TableName=names[-1],
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
        )
        return names[-1]

    yield made
    for name in names:
        client.delete_table(TableName=name)
    client.close()


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Server]:
    """A server for tests that find it empty."""
    with Server() as server:
        yield server


@pytest.fixture
def valkey_url(shared_valkey: Server) -> str:
    """The URL of a Valkey that is empty."""
    shared_valkey.ask("FLUSHALL")
    return shared_valkey.url


class App:
    """The handlers without a gateway.

    Attributes:
        posted: What connections were sent.
        gone: Connections that are not there any more, to the gateway.
        now_ms: The gateway's clock.
        post_once: What really posts.
    """

    def __init__(self) -> None:
        folder = HandlerFolder(ROUTES)
        self.posted: dict[str, list[Message]] = {}
        self.gone: set[str] = set()
        self.now_ms = NOW_MS
        self._folder = folder
        self._handlers: Mapping[str, Callable[[Any, Any], Any]] = folder.load().handlers
        self._messages = count(1)
        package = self._handlers["join"].__module__.rpartition(".")[0]
        self.helpers: Any = sys.modules[f"{package}._chat"]
        self.table: Any = sys.modules[f"{package}._table"]
        self.post_once = self.helpers.post_once
        vars(self.helpers)["post_once"] = self._post

    def close(self) -> None:
        self._folder.close()
        if isinstance(self.table.TABLE, self.table.RedisTable):
            self.table.TABLE._client.close()

    def _post(self, url: str, connection_id: str, message: Message) -> bool:
        if connection_id in self.gone:
            return False
        # As it comes out of a WebSocket.
        self.posted.setdefault(connection_id, []).append(json.loads(self.helpers._encoded(message)))
        return True

    def event(self, route_key: str, connection_id: str, **more: Any) -> int:
        """Call a handler and return its status."""
        context = {
            "connectionId": connection_id,
            "messageId": f"message-{next(self._messages):03}",
            "requestTimeEpoch": self.now_ms,
            "domainName": "chat.example",
            "stage": "dev",
        }
        result = self._handlers[route_key]({"requestContext": context, **more}, None)
        return int(result["statusCode"])

    def send(self, connection_id: str, action: str, **more: Any) -> int:
        """Let a client send a message."""
        return self.event(action, connection_id, body=json.dumps({"action": action, **more}))

    def join(self, connection_id: str, name: str, room: str = "lobby", **more: Any) -> Message:
        """Let a client join, and return what it is answered."""
        self.send(connection_id, "join", room=room, name=name, **more)
        return self.posted[connection_id][-1]

    def take(self, connection_id: str) -> list[Message]:
        """Return what a connection was sent since the last time."""
        return self.posted.pop(connection_id, [])


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., App]]:
    """Loads the handlers, with variables of theirs."""
    apps: list[App] = []

    def loaded(**environ: str) -> App:
        for name in ("CHAT_TABLE", "CHAT_REDIS", "CHAT_ORIGINS", "CHAT_PEOPLE_MAX"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        apps.append(App())
        return apps[-1]

    yield loaded
    for one in apps:
        one.close()


@pytest.fixture(params=TABLES)
def app(request: pytest.FixtureRequest, load: Callable[..., App]) -> Callable[..., App]:
    """Loads the handlers with each of their tables."""
    match request.param:
        case "dynamodb":
            return partial(load, CHAT_TABLE=request.getfixturevalue("dynamodb")())
        case "redis":
            return partial(load, CHAT_REDIS=request.getfixturevalue("valkey_url"))
        case _:
            return load
