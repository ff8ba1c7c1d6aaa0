from __future__ import annotations

import os

import pytest

from wsgateway.entropy import random_bytes


def test_the_bytes_are_those_of_the_operating_system_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched: list[bytes] = []
    urandom = os.urandom

    def fetch(size: int) -> bytes:
        fetched.append(urandom(size))
        return fetched[-1]

    monkeypatch.setattr("os.urandom", fetch)
    random_bytes.forget()

    taken = b"".join(random_bytes(16) for _ in range(512))

    assert taken == b"".join(fetched)
    assert len(fetched) == 2


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_000])
def test_any_size_is_given(size: int) -> None:
    random_bytes(10)

    assert len(random_bytes(size)) == size
    assert len(random_bytes(8)) == 8


def test_what_a_size_leaves_over_is_not_given_twice() -> None:
    taken = [random_bytes(26) for _ in range(2000)]

    assert len(set(taken)) == 2000


def test_a_child_process_has_bytes_of_its_own() -> None:
    random_bytes(1)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, random_bytes(32))
        os._exit(0)
    os.waitpid(child, 0)

    assert os.read(reader, 32) != random_bytes(32)
    os.close(reader)
    os.close(writer)
