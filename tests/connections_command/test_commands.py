"""What an operator is told before any connection is looked at."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.connections_command.command import command_in, run
from wsgateway.limits import MESSAGE_SIZE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ID = "L0SM9cOFvHcCIhw="
NOWHERE = ("--redis", "redis://127.0.0.1:1")
API = ("--api-id", "abcde12345", "--stage", "dev")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command_in(tmp_path, monkeypatch)


@pytest.fixture
def nobody() -> Iterator[tuple[str, str]]:
    """A Redis that is not there: the port is taken, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield "--redis", f"redis://127.0.0.1:{bound.getsockname()[1]}"


def faults(*arguments: str) -> list[str]:
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "")
    return errors.splitlines()


def test_there_is_nothing_to_see_without_a_redis() -> None:
    [fault] = faults("list")

    assert fault == (
        "--redis: there is none, and a gateway without Redis tells nobody of its connections; "
        "name the Redis that the nodes share: --redis redis://HOST:PORT, or WSGATEWAY_REDIS"
    )


@pytest.mark.parametrize(
    "command", [("list",), ("count",), ("post", ID, "--data", "x"), ("close", ID)]
)
def test_a_redis_that_is_not_there(command: tuple[str, ...], nobody: tuple[str, str]) -> None:
    [fault] = faults(*command, *nobody)

    assert fault.startswith(f"--redis: 127.0.0.1:{nobody[1].rpartition(':')[2]}: ")
    assert fault.endswith("; see whether it runs there")


def test_a_redis_that_cannot_be() -> None:
    [fault] = faults("count", "--redis", "http://127.0.0.1")

    assert fault.startswith("--redis: ")


def test_filters_that_cannot_be_read() -> None:
    told = faults("count", *NOWHERE, "--older-than", "long", "--node", "1")

    assert [fault.split(":")[0] for fault in told] == ["--older-than", "--node"]


def test_every_id_that_is_none_is_told() -> None:
    assert [fault.split(";")[0] for fault in faults("close", "nonsense", "--stagee", *NOWHERE)] == [
        "ID: 'nonsense' is no connection's id",
        "ID: '--stagee' is no connection's id",
    ]


def test_an_id_of_an_api_says_nothing_of_its_stages() -> None:
    assert faults("close", ID, *API[:2], *NOWHERE) == [
        "--stage: with --api-id alone the stage is not known; add --stage NAME"
    ]


def test_there_has_to_be_one_message(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "large").write_bytes(b"x" * (MESSAGE_SIZE_MAX + 1))
    not_one = ["--data: there is not one message; give --data or --data-file"]

    assert faults("post", ID, *NOWHERE) == not_one
    assert faults("post", ID, *NOWHERE, "--data", "x", "--data-file", "binary") == not_one
    for name, problem in {
        "binary": "cannot be read: 'utf-8' codec can't decode byte 0xff in position 0",
        "nowhere": "cannot be read: [Errno 2] No such file or directory: 'nowhere'",
        "large": "has 131073 bytes; a message has at most 131072",
    }.items():
        [fault] = faults("post", ID, *NOWHERE, "--data-file", name)
        assert fault.startswith(f"--data-file: {problem}")


def test_an_api_that_is_not_there(tmp_path: Path) -> None:
    [fault] = faults("list", "--path", "nowhere.yaml", *NOWHERE)
    assert fault.startswith("nowhere.yaml:1: cannot be read")

    (tmp_path / "routes").rename(tmp_path / "elsewhere")
    assert faults("list", *NOWHERE)[1:] == [
        "--api-id: whose connections?; name the API's id, or its definition"
    ]
