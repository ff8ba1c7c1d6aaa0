"""Who is in which room: in memory, in DynamoDB and in Redis alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.valkey import Server
from tests.routes.conftest import NOW_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.routes.conftest import App


class Tables:
    """The module under test, and a table of it for three people in a room."""

    def __init__(self, app: App) -> None:
        self.module = app.table
        self.table: Any = app.table.TABLE

    def member(self, connection_id: str, name: str, room: str = "lobby", at_ms: int = 0) -> Any:
        return self.module.Member(connection_id, room, name, f"author-{name}", "secret", at_ms)

    def add(self, *values: Any, **named: Any) -> Any:
        member = self.member(*values, **named)
        self.table.add(member)
        return member


@pytest.fixture
def tables(app: Callable[..., App]) -> Tables:
    return Tables(app(CHAT_PEOPLE_MAX="3"))


def test_members_are_found_by_room_and_by_connection(tables: Tables) -> None:
    ada = tables.add("c1", "Ada", at_ms=1)
    bo = tables.add("c2", "Bo", at_ms=2)
    in_kitchen = tables.add("c1", "Ada", "kitchen", at_ms=3)

    assert tables.table.members("lobby") == [ada, bo]
    assert tables.table.members("kitchen") == [in_kitchen]
    assert tables.table.members("cellar") == []
    assert tables.table.rooms_of("c1") == [ada, in_kitchen]
    assert tables.table.rooms_of("c9") == []
    assert tables.table.rooms() == [("lobby", 2), ("kitchen", 1)]


def test_a_name_is_taken_in_any_case_of_its_letters(tables: Tables) -> None:
    ada = tables.add("c1", "Ada")

    with pytest.raises(tables.module.NameTaken):
        tables.add("c2", "ADA")

    assert tables.table.members("lobby") == [ada]
    assert tables.table.rooms_of("c2") == []
    assert tables.table.rooms() == [("lobby", 1)]


def test_a_connection_has_one_place_in_a_room(tables: Tables) -> None:
    ada = tables.add("c1", "Ada")

    for name in ("Ada", "Bo"):
        with pytest.raises(tables.module.AlreadyIn):
            tables.add("c1", name)

    assert tables.table.members("lobby") == [ada]
    assert tables.table.rooms_of("c1") == [ada]
    assert tables.table.rooms() == [("lobby", 1)]


def test_a_room_has_room_for_so_many(tables: Tables) -> None:
    for number in range(3):
        tables.add(f"c{number}", f"Guest {number}")

    with pytest.raises(tables.module.RoomFull):
        tables.add("c3", "Ada")

    assert tables.table.rooms() == [("lobby", 3)]
    tables.table.remove("lobby", "c0")
    tables.add("c3", "Ada")


def test_a_member_is_removed_once(tables: Tables) -> None:
    ada = tables.add("c1", "Ada")
    in_kitchen = tables.add("c1", "Ada", "kitchen")

    assert tables.table.remove("lobby", "c1") == ada
    assert tables.table.remove("lobby", "c1") is None
    assert tables.table.remove("lobby", "c9") is None

    assert tables.table.rooms_of("c1") == [in_kitchen]
    assert tables.table.rooms() == [("kitchen", 1)]
    tables.add("c2", "Ada")


def test_the_fullest_rooms_are_listed_first(tables: Tables) -> None:
    for number in range(60):
        tables.add(f"c{number}", "Ada", f"room {number:02}")
    tables.add("c60", "Bo", "room 59")

    rooms = tables.table.rooms()

    assert rooms[:3] == [("room 59", 2), ("room 00", 1), ("room 01", 1)]
    assert len(rooms) == 50


def test_what_was_said_is_told_in_order_and_for_a_while(tables: Tables) -> None:
    minute_ms = 60_000
    for at_ms in (2 * minute_ms, minute_ms, 3 * minute_ms):
        tables.table.say("lobby", NOW_MS + at_ms, {"id": f"after {at_ms}"})
    tables.table.say("kitchen", NOW_MS, {"id": "elsewhere"})

    def said(now_ms: int) -> list[str]:
        return [message["id"] for message in tables.table.said("lobby", now_ms)]

    assert said(NOW_MS + 4 * minute_ms) == ["after 60000", "after 120000", "after 180000"]
    assert said(NOW_MS + 11 * minute_ms - 1) == ["after 60000", "after 120000", "after 180000"]
    assert said(NOW_MS + 11 * minute_ms) == ["after 120000", "after 180000"]
    assert said(NOW_MS + 20 * minute_ms) == []


def test_of_what_was_said_so_much_is_kept(tables: Tables) -> None:
    for number in range(60):
        tables.table.say("lobby", NOW_MS + number, {"id": str(number)})

    said = [message["id"] for message in tables.table.said("lobby", NOW_MS + 60)]

    assert said == [str(number) for number in range(10, 60)]


# DynamoDB promises that transactions exclude each other; moto does not keep it.
@pytest.mark.parametrize(
    "app", ["memory", pytest.param("redis", marks=pytest.mark.redis)], indirect=True
)
def test_one_of_many_at_once_gets_a_name(app: Callable[..., App]) -> None:
    tables = Tables(app())

    def try_to_add(number: int) -> bool:
        try:
            tables.add(f"c{number}", "Ada")
        except tables.module.NameTaken:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        added = list(threads.map(try_to_add, range(16)))

    assert added.count(True) == 1
    assert tables.table.rooms() == [("lobby", 1)]


def test_memory_forgets_the_rooms_that_were_silent_longest(load: Callable[..., App]) -> None:
    table = load().table.MemoryTable()
    for number in range(501):
        table.say(f"room {number}", NOW_MS, {"id": str(number)})

    assert table.said("room 0", NOW_MS) == []
    assert table.said("room 1", NOW_MS) == [{"id": "1"}]


@pytest.mark.redis
def test_redis_keeps_nothing_for_good(
    load: Callable[..., App], valkey_url: str, shared_valkey: Server
) -> None:
    tables = Tables(load(CHAT_REDIS=valkey_url))
    # Names are compared as Python compares them, and are not always ASCII.
    tables.add("c1", "Stra\N{LATIN SMALL LETTER SHARP S}e")
    tables.add("c1", "\N{GRINNING FACE}", "kitchen")
    tables.table.say("lobby", NOW_MS, {"id": "1"})

    tables.table.remove("lobby", "c1")
    tables.table.remove("kitchen", "c1")

    assert shared_valkey.ask("KEYS", "*") == [b"chat:said:lobby"]
    left_s = shared_valkey.ask("TTL", "chat:said:lobby")
    assert isinstance(left_s, int)
    assert 590 < left_s <= 600


@pytest.mark.redis
@pytest.mark.slow
def test_a_redis_that_was_restarted_is_found_again(load: Callable[..., App]) -> None:
    with Server() as server:
        tables = Tables(load(CHAT_REDIS=server.url))
        tables.add("c1", "Ada")

        server.restart()

        # Also the scripts have to be told again.
        bo = tables.add("c2", "Bo")
        assert tables.table.members("lobby") == [bo]
        assert tables.table.remove("lobby", "c1") is None


class Busy:
    """A DynamoDB in which transactions meet."""

    class exceptions:  # noqa: N801 - boto3's name
        class TransactionCanceledException(Exception):
            def __init__(self, *codes: str) -> None:
                super().__init__()
                self.response = {"CancellationReasons": [{"Code": code} for code in codes]}

    def __init__(self, conflicts: int) -> None:
        self.calls = 0
        self._conflicts = conflicts

    def transact_write_items(self, **_: Any) -> None:
        self.calls += 1
        if self.calls <= self._conflicts:
            raise self.exceptions.TransactionCanceledException("None", "TransactionConflict")


@pytest.mark.parametrize(("conflicts", "calls"), [(0, 1), (9, 10), (10, 10)])
def test_transactions_that_meet_are_tried_again(
    load: Callable[..., App], monkeypatch: pytest.MonkeyPatch, conflicts: int, calls: int
) -> None:
    module = load().table
    waits: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    client = Busy(conflicts)
    table = module.DynamoTable("chat", client)
    member = module.Member("c1", "lobby", "Ada", "author", "", NOW_MS)

    if conflicts < 10:
        table.add(member)
    else:
        with pytest.raises(client.exceptions.TransactionCanceledException):
            table.add(member)

    assert client.calls == calls
    assert len(waits) == calls - 1
    assert max(waits, default=0) <= 0.5
