"""The environment variables that Lambda sets for functions, for handlers in this process.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
"""

from __future__ import annotations

import re
from configparser import ConfigParser, Error as ConfigParserError
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# What boto3 looks at before it would find no credentials:
# https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
_CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
# The same in boto3's files, which may hold only a region or an output format.
_CREDENTIAL_MEMBER = re.compile(
    r"^[ \t]*(aws_access_key_id|credential_process|login_session|role_arn|sso_\w+"
    r"|web_identity_token_file)[ \t]*=",
    re.IGNORECASE | re.MULTILINE,
)
# Well-formed and worthless: they let boto3 sign, and no AWS account has them.
_PLACEHOLDER_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "WSGATEWAYPLACEHOLDER",
    "AWS_SECRET_ACCESS_KEY": "placeholder",
}


def handler_environment(
    environ: Mapping[str, str], *, region: str, folder: Path, callback_url: str | None
) -> dict[str, str]:
    """Return the variables to set beside those the user has set.

    Args:
        environ: What is set.
        region: For boto3, where neither variables nor the user's profile name one.
        folder: Where the handlers are.
        callback_url: For posting to connections; None when there is more than one stage.
    """
    region = _profile_region(environ) or region
    variables = {
        "AWS_REGION": environ.get("AWS_DEFAULT_REGION", region),
        "AWS_DEFAULT_REGION": environ.get("AWS_REGION", region),
        "LAMBDA_TASK_ROOT": str(folder.resolve()),
    }
    if callback_url is not None:
        variables["WSGATEWAY_CALLBACK_URL"] = callback_url
    if not _has_credentials(environ):
        variables |= _PLACEHOLDER_CREDENTIALS
    return {name: value for name, value in variables.items() if name not in environ}


def _has_credentials(environ: Mapping[str, str]) -> bool:
    files = (
        environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    )
    return any(name in environ for name in _CREDENTIAL_VARIABLES) or any(
        _CREDENTIAL_MEMBER.search(_text(Path(file))) for file in files
    )


def _profile_region(environ: Mapping[str, str]) -> str | None:
    parser = ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(_text(Path(environ.get("AWS_CONFIG_FILE", "~/.aws/config"))))
    except ConfigParserError:
        return None
    profile = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    section = profile if profile == "default" else f"profile {profile}"
    return parser.get(section, "region", fallback=None)


def _text(file: Path) -> str:
    try:
        return file.expanduser().read_text(encoding="utf-8", errors="replace")
    # Without HOME, a user whom the machine does not know has no home folder.
    except (OSError, RuntimeError):
        return ""
