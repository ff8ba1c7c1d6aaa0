"""The variables set for handlers, and when they are left alone."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from wsgateway.functions.environment import handler_environment

URL = "http://127.0.0.1:8080/dev"


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without AWS settings."""
    return {
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
    }


def variables(environ: dict[str, str], *, callback_url: str | None = URL) -> dict[str, str]:
    return handler_environment(
        environ, region="eu-west-1", folder=Path("/srv/routes"), callback_url=callback_url
    )


def test_what_a_machine_without_aws_settings_gets(bare: dict[str, str]) -> None:
    assert variables(bare) == {
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "WSGATEWAYPLACEHOLDER",
        "AWS_SECRET_ACCESS_KEY": "placeholder",
        "LAMBDA_TASK_ROOT": "/srv/routes",
        "WSGATEWAY_CALLBACK_URL": URL,
    }


def test_what_the_user_has_set_stays(bare: dict[str, str]) -> None:
    own = {
        "AWS_REGION": "us-west-2",
        "AWS_DEFAULT_REGION": "us-west-1",
        "AWS_ACCESS_KEY_ID": "mine",
        "LAMBDA_TASK_ROOT": "/mine",
        "WSGATEWAY_CALLBACK_URL": "https://example.com",
    }

    assert variables(bare | own) == {}


def test_one_region_stands_for_the_other(bare: dict[str, str]) -> None:
    assert variables(bare | {"AWS_REGION": "us-west-2"})["AWS_DEFAULT_REGION"] == "us-west-2"
    assert variables(bare | {"AWS_DEFAULT_REGION": "us-west-1"})["AWS_REGION"] == "us-west-1"


@pytest.mark.parametrize(
    ("text", "more", "region"),
    [
        ("[default]\nregion = eu-central-1\n", {}, "eu-central-1"),
        ("[default]\nregion=a\n[profile x]\nregion = b-%\n", {"AWS_PROFILE": "x"}, "b-%"),
        ("[profile x]\nregion = b\n", {"AWS_DEFAULT_PROFILE": "x"}, "b"),
        ("[profile x]\nregion = b\n", {}, "eu-west-1"),
        ("[default]\noutput = json\n", {}, "eu-west-1"),
        ("[default]\nregion = a\n", {"AWS_REGION": "mine"}, "mine"),
        ("region = a\n[[\n", {}, "eu-west-1"),
    ],
)
def test_the_region_of_the_users_profile_is_not_overruled(
    bare: dict[str, str], text: str, more: dict[str, str], region: str
) -> None:
    """A variable would win over the file, and tables would be looked for in another region."""
    Path(bare["AWS_CONFIG_FILE"]).write_text(text, encoding="utf-8")

    assert variables(bare | more)["AWS_DEFAULT_REGION"] == region


def test_there_is_no_callback_url_for_several_stages(bare: dict[str, str]) -> None:
    assert "WSGATEWAY_CALLBACK_URL" not in variables(bare, callback_url=None)


@pytest.mark.parametrize(
    "variable",
    [
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ],
)
def test_credentials_of_the_user_are_not_replaced(bare: dict[str, str], variable: str) -> None:
    placeholders = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}

    assert not placeholders & variables(bare | {variable: "x"}).keys()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("AWS_SHARED_CREDENTIALS_FILE", "[default]\naws_access_key_id = x\n"),
        ("AWS_SHARED_CREDENTIALS_FILE", "[default]\ncredential_process=/bin/x\n"),
        ("AWS_CONFIG_FILE", "[default]\n  AWS_ACCESS_KEY_ID=x\n"),
        ("AWS_CONFIG_FILE", "[default]\nrole_arn = x\ncredential_source = Ec2InstanceMetadata\n"),
        ("AWS_CONFIG_FILE", "[default]\nsso_session = mine\n"),
        ("AWS_CONFIG_FILE", "[default]\nsso_start_url = https://x\n"),
        ("AWS_CONFIG_FILE", "[default]\nlogin_session = x\n"),
        ("AWS_CONFIG_FILE", "[default]\nweb_identity_token_file = x\n"),
    ],
)
def test_credentials_in_the_users_files_are_not_replaced(
    bare: dict[str, str], variable: str, text: str
) -> None:
    Path(bare[variable]).write_text(text, encoding="utf-8")

    assert "AWS_ACCESS_KEY_ID" not in variables(bare)


@pytest.mark.parametrize("text", ["", "[default]\nregion = eu-central-1\n", "# role_arn = x\n"])
def test_a_file_without_credentials_is_none(bare: dict[str, str], text: str) -> None:
    """Many have a `~/.aws/config` for its region only."""
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        Path(bare[variable]).write_text(text, encoding="utf-8")

    assert variables(bare)["AWS_ACCESS_KEY_ID"] == "WSGATEWAYPLACEHOLDER"


def test_a_file_that_cannot_be_read_is_the_users_to_mend(
    bare: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "credentials").write_bytes(b"\xff\xfe")

    assert variables(bare)["AWS_ACCESS_KEY_ID"] == "WSGATEWAYPLACEHOLDER"


def test_a_user_without_a_home_folder_has_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number nobody told it of."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)

    assert variables({})["AWS_ACCESS_KEY_ID"] == "WSGATEWAYPLACEHOLDER"


def test_boto3_can_sign_with_it(bare: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (bare | variables(bare)).items():
        monkeypatch.setenv(name, value)

    session = boto3.Session()

    credentials = session.get_credentials()
    assert credentials is not None
    assert credentials.access_key == "WSGATEWAYPLACEHOLDER"
    assert session.region_name == "eu-west-1"
