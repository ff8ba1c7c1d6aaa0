"""The fixtures, in projects of their own: pytest reads its configuration once per process."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tests.testing.project import run_pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TESTS = """
import asyncio
import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.asyncio, pytest.mark.wsgateway(stage_variables={"a": "module"})]


async def answer(gateway):
    async with gateway.connect() as client:
        await client.send("?")
        return await client.receive_json()


async def test_the_configured_folder_is_served(gateway):
    assert await answer(gateway) == {"count": 1, "stage": "dev", "variables": {"a": "module"}}


async def test_each_test_has_its_own(gateway):
    assert (await answer(gateway))["count"] == 1
    assert (await answer(gateway))["count"] == 2


@pytest.mark.wsgateway(stage="prod")
async def test_marks_add_up(gateway):
    assert await answer(gateway) == {"count": 1, "stage": "prod", "variables": {"a": "module"}}


@pytest.mark.wsgateway("other", stage_variables={"a": "test"})
async def test_the_nearest_mark_wins(gateway):
    assert await answer(gateway) == {"count": 1, "stage": "dev", "variables": {"a": "test"}}


async def test_several_at_once(wsgateway_serve, gateway):
    gateways = [
        gateway, await wsgateway_serve(), await wsgateway_serve(Path(__file__).parent / "handlers"),
        await wsgateway_serve({"$default": handler}, two_way=["$default"]),
    ]
    answers = await asyncio.gather(*map(answer, gateways))
    assert [each["count"] for each in answers] == [1, 1, 1, 99]
    assert "WSGATEWAY_CALLBACK_URL" not in os.environ


def handler(event, context):
    return {"statusCode": 200, "body": '{"count": 99}'}
"""


def write_project(folder: Path, *, configuration: str, tests: str = TESTS) -> None:
    (folder / "pytest.ini").write_text("[pytest]\n" + dedent(configuration))
    (folder / "test_it.py").write_text(tests)
    for name in ("handlers", "other"):
        (folder / name).mkdir()
        (folder / name / "api.yaml").write_text(
            "routes:\n  $default: {routeResponseSelectionExpression: $default}\n"
        )
        (folder / name / "default.py").write_text(
            dedent(
                """
                import json

                calls = []

                def handler(event, context):
                    calls.append(event)
                    answer = {
                        "count": len(calls),
                        "stage": event["requestContext"]["stage"],
                        "variables": event.get("stageVariables"),
                    }
                    return {"statusCode": 200, "body": json.dumps(answer)}
                """
            )
        )


@pytest.mark.parametrize("mode", ["strict", "auto"])
@pytest.mark.parametrize("scope", ["function", "module"])
def test_the_fixtures_work_in_every_mode_and_scope(tmp_path, mode, scope) -> None:
    configuration = f"""
        asyncio_mode = {mode}
        asyncio_default_fixture_loop_scope = {scope}
        asyncio_default_test_loop_scope = {scope}
        wsgateway_source = handlers
        """
    write_project(tmp_path, configuration=configuration)

    ran = run_pytest(tmp_path, "--strict-markers")

    assert (ran.returncode, ran.passed) == (0, 5), ran.output


def test_what_is_lacking_is_told(tmp_path) -> None:
    tests = """
async def test_no_source(gateway):
    pass

async def test_no_source_either(wsgateway_serve):
    await wsgateway_serve()

async def test_no_such_folder(wsgateway_serve):
    await wsgateway_serve("nowhere")
"""
    configuration = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function"
    write_project(tmp_path, configuration=configuration, tests=tests)

    ran = run_pytest(tmp_path)

    assert ran.returncode == 1
    assert ran.output.count("there is nothing to serve: set wsgateway_source") >= 2, ran.output
    assert f"{tmp_path}/nowhere: there is no such folder" in ran.output


def test_another_loop_is_told(tmp_path) -> None:
    tests = """
async def test_it(wsgateway_serve):
    await wsgateway_serve("handlers")
"""
    configuration = """
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = module
        asyncio_default_test_loop_scope = function
        """
    write_project(tmp_path, configuration=configuration, tests=tests)

    ran = run_pytest(tmp_path)

    assert "set asyncio_default_fixture_loop_scope to the test's loop_scope" in ran.output


def test_without_pytest_asyncio_the_fixtures_say_so(tmp_path) -> None:
    tests = "def test_it(gateway):\n    pass\n\ndef test_another():\n    pass\n"
    write_project(tmp_path, configuration="wsgateway_source = handlers", tests=tests)

    ran = run_pytest(tmp_path, without="pytest_asyncio")

    assert "need pytest-asyncio: pip install 'wsgateway[testing]'" in ran.output, ran.output
    assert ran.passed == 1


def test_the_plugin_costs_nothing_where_it_is_not_used(tmp_path) -> None:
    tests = """
import sys

def test_it():
    assert not {"boto3", "uvicorn", "pydantic", "wsgateway.testing"} & sys.modules.keys()
"""
    configuration = "asyncio_default_fixture_loop_scope = function"
    write_project(tmp_path, configuration=configuration, tests=tests)

    ran = run_pytest(tmp_path)

    assert (ran.returncode, ran.passed) == (0, 1), ran.output


def test_the_fixtures_are_listed(tmp_path) -> None:
    write_project(tmp_path, configuration="asyncio_default_fixture_loop_scope = function")

    listed = run_pytest(tmp_path, "--fixtures").output
    marked = run_pytest(tmp_path, "--markers").output

    assert "A running gateway, told what to serve by wsgateway_source" in listed
    assert "Run gateways that are stopped after the test" in listed
    assert "@pytest.mark.wsgateway(source=None, **options)" in marked
