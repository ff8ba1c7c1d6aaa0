"""Where credentials, regions and endpoints come from: never from what handlers find."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.aws.servers import BARE, KEYS, NO_FILES, NO_METADATA, moto
from tests.integrations.backends import http_backend
from wsgateway.aws.session import Session

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["moto"]

EXPIRATION = "2099-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def _what_handlers_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "PLACEHOLDER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "placeholder")
    monkeypatch.setenv("AWS_REGION", "handler-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "handler-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://handler.invalid")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://handler.invalid")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/handler")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/handler")


def session(environ: dict[str, str], **options: Any) -> Session:
    return Session(environ, region="eu-west-1", **options)


async def keys(environ: dict[str, str]) -> tuple[str, str, str | None]:
    """Return the credentials that are found; fail if there are none."""
    credentials = await session(environ).get_credentials()
    assert credentials is not None
    frozen = await credentials.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key, frozen.token


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with files of AWS, which are to be written."""
    return NO_METADATA | {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }


def write(files: dict[str, str], *, config: str = "", credentials: str = "") -> None:
    for variable, text in (
        ("AWS_CONFIG_FILE", config),
        ("AWS_SHARED_CREDENTIALS_FILE", credentials),
    ):
        with open(files[variable], "w", encoding="utf-8") as file:  # noqa: PTH123 - a name
            file.write(text)


# --- credentials


async def test_there_are_none_where_only_handlers_have_some() -> None:
    assert await session(BARE).get_credentials() is None


async def test_variables() -> None:
    environ = BARE | KEYS | {"AWS_SESSION_TOKEN": "token"}

    assert await keys(environ) == ("AKIAGATEWAY", "secret", "token")


@pytest.mark.parametrize(
    ("profile", "found"),
    [({}, "DEFAULT"), ({"AWS_PROFILE": "work"}, "WORK"), ({"AWS_DEFAULT_PROFILE": "work"}, "WORK")],
)
async def test_the_shared_credentials_file(
    files: dict[str, str], profile: dict[str, str], found: str
) -> None:
    write(
        files,
        credentials="[default]\naws_access_key_id=DEFAULT\naws_secret_access_key=s\n"
        "[work]\naws_access_key_id=WORK\naws_secret_access_key=s\n",
    )

    assert (await keys(files | profile))[0] == found


async def test_the_config_file(files: dict[str, str]) -> None:
    write(files, config="[profile work]\naws_access_key_id=CONFIG\naws_secret_access_key=s\n")

    assert (await keys(files | {"AWS_PROFILE": "work"}))[0] == "CONFIG"


@pytest.mark.slow
async def test_a_process_which_gets_the_environment_too(
    files: dict[str, str], tmp_path: Path
) -> None:
    helper = tmp_path / "helper.py"
    helper.write_text(
        "import json, os\n"
        'print(json.dumps({"Version": 1, "SecretAccessKey": "s",'
        ' "AccessKeyId": os.environ.get("AWS_ACCESS_KEY_ID", "none is set")}))\n',
        encoding="utf-8",
    )
    write(files, config=f"[default]\ncredential_process = {sys.executable} {helper}\n")

    assert (await keys(files))[0] == "none is set"


@pytest.mark.slow
async def test_a_profile_that_assumes_a_role(files: dict[str, str], moto: str) -> None:
    write(
        files,
        config="[profile work]\nrole_arn = arn:aws:iam::123456789012:role/work\n"
        "source_profile = base\n",
        credentials="[base]\naws_access_key_id=BASE\naws_secret_access_key=s\n",
    )

    found = await keys(files | {"AWS_PROFILE": "work", "AWS_ENDPOINT_URL_STS": moto})

    assert found[0].startswith("ASIA")
    assert found[2] is not None


@pytest.mark.slow
async def test_web_identity(tmp_path: Path, moto: str) -> None:
    token = tmp_path / "token"
    token.write_text("eyJ0", encoding="utf-8")
    environ = BARE | {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/pod",
        "AWS_ENDPOINT_URL_STS": moto,
    }

    assert (await keys(environ))[0].startswith("ASIA")


async def test_a_container() -> None:
    given = {"AccessKeyId": "ECS", "SecretAccessKey": "s", "Token": "t", "Expiration": EXPIRATION}
    async with http_backend() as backend:
        backend.body = json.dumps(given).encode()

        found = await keys(
            BARE
            | {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{backend.url}/role",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Basic x",
            }
        )

    assert found == ("ECS", "s", "t")
    [asked] = backend.received
    assert asked.line == "GET /role"
    assert asked.header("Authorization") == "Basic x"


async def test_an_instance() -> None:
    given = {
        "Code": "Success",
        "AccessKeyId": "EC2",
        "SecretAccessKey": "s",
        "Token": "t",
        "Expiration": EXPIRATION,
    }

    async def answer(request: web.Request) -> web.Response:
        if request.method == "PUT":
            return web.Response(text="metadata-token")
        if request.path.endswith("/security-credentials/"):
            return web.Response(text="gateway")
        return web.json_response(given)

    async with http_backend() as backend:
        backend.answer = answer

        found = await keys(NO_FILES | {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{backend.url}/"})

    assert found == ("EC2", "s", "t")
    assert [asked.line for asked in backend.received] == [
        "PUT /latest/api/token",
        "GET /latest/meta-data/iam/security-credentials/",
        "GET /latest/meta-data/iam/security-credentials/gateway",
    ]


# --- region


@pytest.mark.parametrize(
    ("environ", "region"),
    [
        ({}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "us-west-1"}, "us-west-1"),
        ({"AWS_DEFAULT_REGION": "us-west-1", "AWS_REGION": "us-west-2"}, "us-west-2"),
        ({"AWS_PROFILE": "work"}, "eu-north-1"),
    ],
)
def test_the_region(files: dict[str, str], environ: dict[str, str], region: str) -> None:
    write(files, config="[profile work]\nregion = eu-north-1\n")

    assert session(files | environ).region == region


# --- endpoints

CONFIG = """
[default]
endpoint_url = http://profile
services = here
[profile ignoring]
endpoint_url = http://profile
ignore_configured_endpoint_urls = true
[services here]
sfn =
  endpoint_url = http://profile-sfn
"""
ALL = {"AWS_ENDPOINT_URL": "http://variable"}
ONE = {"AWS_ENDPOINT_URL_SFN": "http://variable-sfn"}
SET = {"endpoint_url": "http://setting"}
SET_ONE = {"endpoint_urls": {"stepfunctions": "http://setting-sfn"}}


@pytest.mark.parametrize(
    ("options", "environ", "states", "others"),
    [
        ({}, {}, "http://profile-sfn", "http://profile"),
        ({}, ALL, "http://variable", "http://variable"),
        ({}, ALL | ONE, "http://variable-sfn", "http://variable"),
        (SET, ALL | ONE, "http://setting", "http://setting"),
        (SET | SET_ONE, ALL | ONE, "http://setting-sfn", "http://setting"),
        (SET_ONE, ALL, "http://setting-sfn", "http://variable"),
        ({}, ALL | {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, None, None),
        ({}, {"AWS_PROFILE": "ignoring"}, None, None),
    ],
)
def test_what_is_called_instead_of_aws(
    files: dict[str, str],
    options: dict[str, Any],
    environ: dict[str, str],
    states: str | None,
    others: str | None,
) -> None:
    write(files, config=CONFIG)
    configured = session(files | environ, **options)

    assert configured.endpoint_url("stepfunctions", "SFN") == states
    assert configured.endpoint_url("dynamodb", "DynamoDB") == others


@pytest.mark.slow
async def test_clients_call_what_is_configured_and_nothing_of_the_handlers() -> None:
    async with session(BARE | KEYS).create_client("sts") as client:
        assert client.meta.endpoint_url == "https://sts.eu-west-1.amazonaws.com"
        assert client.meta.config.retries["total_max_attempts"] == 1
    async with session(BARE | KEYS | ALL).create_client("sts") as client:
        assert client.meta.endpoint_url == "http://variable"
