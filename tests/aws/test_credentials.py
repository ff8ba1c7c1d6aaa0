"""How credentials are fetched, shared and renewed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.credentials import ReadOnlyCredentials

from tests.aws.servers import BARE, KEYS, moto
from tests.listener.raw import eventually
from wsgateway.aws import credentials as under_test
from wsgateway.aws.credentials import Credentials, Fetched, Source
from wsgateway.aws.session import Session
from wsgateway.errors import InvokeRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["moto"]

ROLE = "arn:aws:iam::123456789012:role/gateway"
HOUR_S = 3600.0


class Given:
    """Gives credentials that are numbered, and last as long as it is told.

    Attributes:
        lasts_s: None for ever.
        failure: Raised instead.
        go_on: Awaited before each.
    """

    def __init__(self) -> None:
        self.count = 0
        self.lasts_s: float | None = HOUR_S
        self.failure: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def fetch(self) -> Fetched:
        self.count += 1
        number = self.count
        await self.go_on.wait()
        if self.failure is not None:
            raise self.failure
        expires_at_s = None if self.lasts_s is None else time.time() + self.lasts_s
        return Fetched(ReadOnlyCredentials(f"key{number}", "secret", None), expires_at_s)


@pytest.fixture
async def given() -> Given:
    return Given()


@pytest.fixture
async def source(given: Given) -> AsyncIterator[Source]:
    source = Source("nothing", given.fetch)
    yield source
    await source.close()


async def key(source: Source) -> str:
    access_key = (await source.get()).access_key
    assert access_key is not None
    return access_key


@pytest.mark.parametrize("lasts_s", [None, HOUR_S])
async def test_they_are_fetched_once_while_they_are_good(
    source: Source, given: Given, lasts_s: float | None
) -> None:
    given.lasts_s = lasts_s
    assert source.current() is None

    assert [await key(source), await key(source)] == ["key1", "key1"]
    assert source.current() is not None
    assert given.count == 1


async def test_all_who_wait_share_one_fetch(source: Source, given: Given) -> None:
    given.go_on.clear()
    waiting = [asyncio.create_task(key(source)) for _ in range(5)]
    await eventually(lambda: given.count == 1)
    waiting[0].cancel()
    given.go_on.set()

    assert await asyncio.gather(*waiting[1:]) == ["key1"] * 4
    assert given.count == 1


async def test_they_are_renewed_in_the_background_before_they_expire(
    source: Source, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "_FAILED_FOR_S", 0.0)
    given.lasts_s = 200.0
    assert await key(source) == "key1"
    given.lasts_s = HOUR_S
    given.go_on.clear()

    assert await key(source) == "key1"
    await eventually(lambda: given.count == 2)
    given.go_on.set()

    await eventually(lambda: (source.current() or pytest.fail("gone")).access_key == "key2")
    assert given.count == 2


async def test_what_is_about_to_expire_is_not_used(
    source: Source, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "_FAILED_FOR_S", 0.0)
    given.lasts_s = 30.0
    with pytest.raises(InvokeRefused, match=r"^nothing: those that are given expire too soon$"):
        await source.get()
    given.lasts_s = HOUR_S

    assert await key(source) == "key2"


async def test_a_failure_is_everybodys_for_a_while(source: Source, given: Given) -> None:
    given.failure = ValueError("no such file")

    for _ in range(3):
        with pytest.raises(InvokeRefused, match=r"^nothing: ValueError: no such file$"):
            await source.get()
    assert given.count == 1


async def test_after_a_failure_it_is_tried_again(
    source: Source, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "_FAILED_FOR_S", 0.0)
    given.failure = ValueError("no such file")
    with pytest.raises(InvokeRefused):
        await source.get()
    given.failure = None

    assert await key(source) == "key2"


async def test_what_cannot_be_renewed_is_used_until_it_expires(
    source: Source, given: Given
) -> None:
    given.lasts_s = 200.0
    await source.get()
    given.failure = InvokeRefused("STS is down")

    assert [await key(source), await key(source)] == ["key1", "key1"]


async def test_a_fetch_is_given_up_in_the_end(
    source: Source, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "_FETCH_TIMEOUT_S", 0.01)
    given.go_on.clear()

    with pytest.raises(InvokeRefused, match=r"^nothing: no answer in 0.01 s$"):
        await source.get()


async def test_closing_gives_up_what_is_being_fetched(given: Given) -> None:
    source = Source("nothing", given.fetch)
    given.go_on.clear()
    waiting = asyncio.create_task(source.get())
    await eventually(lambda: given.count == 1)

    await source.close()

    with pytest.raises(InvokeRefused, match=r"^nothing: the gateway stops$"):
        await waiting


# --- the gateway's own and roles


@pytest.fixture
async def credentials() -> AsyncIterator[Callable[[dict[str, str]], Credentials]]:
    made: list[Credentials] = []

    def make(environ: dict[str, str]) -> Credentials:
        made.append(Credentials(Session(BARE | environ, region="eu-west-1")))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_the_gateways_own(credentials: Callable[[dict[str, str]], Credentials]) -> None:
    found = await credentials(KEYS).source(None, "us-east-1").get()

    assert (found.access_key, found.secret_key) == ("AKIAGATEWAY", "secret")


NOWHERE = (
    "none in AWS_ACCESS_KEY_ID, the profile 'default' in /nowhere/keys and /nowhere/config, "
    "AWS_WEB_IDENTITY_TOKEN_FILE, the container's endpoint and the instance's metadata"
)
HALF = "PartialCredentialsError: Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY"
WHY: dict[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, NOWHERE),
    "half": ({"AWS_ACCESS_KEY_ID": "x"}, HALF),
    "profile": (
        {"AWS_PROFILE": "typo"},
        "ProfileNotFound: The config profile (typo) could not be found",
    ),
    "token": (
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere", "AWS_ROLE_ARN": ROLE},
        "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere'",
    ),
}


@pytest.mark.parametrize("case", WHY)
async def test_why_there_are_none(
    credentials: Callable[[dict[str, str]], Credentials], case: str
) -> None:
    environ, said = WHY[case]

    with pytest.raises(InvokeRefused) as caught:
        await credentials(environ).source(None, "us-east-1").get()

    assert str(caught.value) == f"the gateway has no AWS credentials: {said}"


@pytest.mark.slow
async def test_a_role_is_assumed_once(
    credentials: Callable[[dict[str, str]], Credentials], moto: str
) -> None:
    made = credentials(KEYS | {"AWS_ENDPOINT_URL_STS": moto})

    assert made.source(ROLE, "eu-west-1") is made.source(ROLE, "us-east-1")
    found = await asyncio.gather(*(made.source(ROLE, "eu-west-1").get() for _ in range(3)))
    other = await made.source(f"{ROLE}2", "eu-west-1").get()

    assert len({one.access_key for one in found}) == 1
    client = boto3.client(
        "sts",
        region_name="eu-west-1",
        endpoint_url=moto,
        aws_access_key_id=found[0].access_key,
        aws_secret_access_key=found[0].secret_key,
        aws_session_token=found[0].token,
    )
    assert client.get_caller_identity()["Arn"] == (
        "arn:aws:sts::123456789012:assumed-role/gateway/BackplaneAssumeRoleSession"
    )
    client.close()
    assert other.access_key != found[0].access_key


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "^the gateway has no AWS credentials: none in "),
        (
            KEYS | {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1"},
            f"^{ROLE} cannot be assumed: EndpointConnectionError: Could not connect to ",
        ),
    ],
)
async def test_why_a_role_is_not_assumed(
    credentials: Callable[[dict[str, str]], Credentials], environ: dict[str, str], said: str
) -> None:
    with pytest.raises(InvokeRefused, match=said):
        await credentials(environ).source(ROLE, "eu-west-1").get()
