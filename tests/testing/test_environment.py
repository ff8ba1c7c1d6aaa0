from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from os import environ
from typing import TYPE_CHECKING

import boto3
import pytest

from wsgateway.testing import process
from wsgateway.testing.environment import HandlerEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator

# Somebody else's function, which got hold of os.environ long before.
NAME = "WSGATEWAY_TEST_NAME"


@pytest.fixture
def changed() -> Iterator[None]:
    with process.changed():
        yield


def seen() -> str | None:
    return os.environ.get(NAME)


@pytest.mark.usefixtures("changed")
class TestMapping:
    def test_a_variable_is_seen_while_its_environment_is_active(self) -> None:
        with HandlerEnvironment({NAME: "a"}).active():
            assert os.environ[NAME] == "a"
            assert os.getenv(NAME) == "a"
            assert NAME in os.environ

        assert seen() is None

    def test_it_wins_over_the_variable_of_the_process(self, monkeypatch) -> None:
        monkeypatch.setenv(NAME, "of the process")

        with HandlerEnvironment({NAME: "a"}).active():
            assert seen() == "a"

        assert seen() == "of the process"

    def test_what_it_does_not_have_is_the_variable_of_the_process(self, monkeypatch) -> None:
        with HandlerEnvironment({}).active():
            assert seen() is None
            with HandlerEnvironment({NAME: "b"}).active():
                assert seen() == "b"
            assert seen() is None

        monkeypatch.setenv(NAME, "of the process")
        with HandlerEnvironment({}).active():
            assert seen() == "of the process"

    def test_none_hides_the_variable_of_the_process(self, monkeypatch) -> None:
        monkeypatch.setenv(NAME, "of the process")

        with HandlerEnvironment({NAME: None}).active():
            assert seen() is None
            assert NAME not in os.environ
            assert NAME not in list(os.environ)
            with pytest.raises(KeyError, match=NAME):
                os.environ[NAME]

    def test_what_is_set_is_set_in_it_alone(self) -> None:
        environment = HandlerEnvironment({})

        with environment.active():
            os.environ[NAME] = "b"
            assert os.environ.setdefault(NAME, "c") == "b"

        assert seen() is None
        assert environment.variables == {NAME: "b"}

    def test_what_is_deleted_is_deleted_in_it_alone(self, monkeypatch) -> None:
        monkeypatch.setenv(NAME, "of the process")

        with HandlerEnvironment({}).active():
            del os.environ[NAME]
            assert seen() is None
            with pytest.raises(KeyError, match=NAME):
                del os.environ[NAME]
            assert os.environ.pop(NAME, "gone") == "gone"

        assert seen() == "of the process"

    def test_without_one_the_process_is_set(self) -> None:
        os.environ[NAME] = "d"
        child = [sys.executable, "-c", f"import os; print(os.environ[{NAME!r}])"]
        assert subprocess.run(child, check=True, capture_output=True, text=True).stdout == "d\n"

        del os.environ[NAME]

        assert seen() is None

    @pytest.mark.parametrize(("name", "value"), [(NAME, 1), (1, "a"), (NAME, None)])
    def test_what_is_no_text_is_refused(self, name, value) -> None:
        with HandlerEnvironment({}).active(), pytest.raises(TypeError, match="str expected"):
            os.environ[name] = value

    def test_copies_length_and_repr_tell_the_same(self, monkeypatch) -> None:
        monkeypatch.setenv(f"{NAME}_HIDDEN", "x")
        outside = dict(os.environ)

        with HandlerEnvironment({NAME: "a", f"{NAME}_HIDDEN": None}).active():
            expected = {**outside, NAME: "a"}
            del expected[f"{NAME}_HIDDEN"]
            assert dict(os.environ) == os.environ.copy() == os.environ | {} == expected
            assert len(os.environ) == len(expected)
            assert repr(os.environ) == f"environ({dict(os.environ)!r})"

        assert dict(os.environ) == outside

    def test_who_got_hold_of_it_before_sees_the_same(self) -> None:
        with HandlerEnvironment({NAME: "a"}).active():
            assert environ[NAME] == "a"
            assert environ is os.environ

    def test_boto3_finds_its_region(self) -> None:
        session = boto3.Session()
        with HandlerEnvironment({"AWS_DEFAULT_REGION": "ap-south-1"}).active():
            assert boto3.Session().region_name == "ap-south-1"
            assert session.region_name == "ap-south-1"


@pytest.mark.usefixtures("changed")
class TestWhose:
    async def test_tasks_have_their_own(self) -> None:
        async def work(value: str) -> str | None:
            with HandlerEnvironment({NAME: value}).active():
                await asyncio.sleep(0)
                return seen()

        assert list(await asyncio.gather(work("a"), work("b"))) == ["a", "b"]
        assert seen() is None

    async def test_to_thread_takes_it_along(self) -> None:
        with HandlerEnvironment({NAME: "a"}).active():
            assert await asyncio.to_thread(seen) == "a"

    async def test_the_loops_shared_threads_have_that_of_who_calls(self) -> None:
        loop = asyncio.get_running_loop()
        for value in ("a", "b"):
            with HandlerEnvironment({NAME: value}).active():
                assert await loop.run_in_executor(None, seen) == value

        assert await loop.run_in_executor(None, seen) is None

    def test_a_thread_has_that_of_who_starts_it(self) -> None:
        found: list[str | None] = []

        class Subclass(threading.Thread):
            def run(self) -> None:
                found.append(seen())

        with HandlerEnvironment({NAME: "a"}).active():
            threads = [threading.Thread(target=lambda: found.append(seen())), Subclass()]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join()

        assert found == ["a", "a"]

    def test_a_pool_has_that_of_who_submits(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(seen).result() is None
            for value in ("a", "b"):
                with HandlerEnvironment({NAME: value}).active():
                    assert pool.submit(seen).result() == value
                    assert list(pool.map(lambda _: seen(), range(2))) == [value, value]
            assert pool.submit(seen).result() is None

    def test_a_pool_of_multiprocessing_has_that_of_who_makes_it(self) -> None:
        with HandlerEnvironment({NAME: "a"}).active(), ThreadPool(1) as pool:
            assert pool.apply(seen) == "a"

    def test_a_call_that_is_submitted_keeps_its_arguments(self) -> None:
        with HandlerEnvironment({}).active(), ThreadPoolExecutor(1) as pool:
            assert pool.submit(dict, [("a", 1)], fn=2).result() == {"a": 1, "fn": 2}


class TestPuttingBack:
    def test_a_thread_that_outlives_it_sees_the_process(self) -> None:
        go_on = threading.Event()
        found: list[str | None] = []

        def work() -> None:
            found.append(seen())
            go_on.wait(5)
            found.append(seen())

        with process.changed(), HandlerEnvironment({NAME: "a"}).active():
            thread = threading.Thread(target=work)
            thread.start()
            until_s = time.monotonic() + 5
            while not found and time.monotonic() < until_s:
                pass
        go_on.set()
        thread.join(5)

        assert found == ["a", None]
