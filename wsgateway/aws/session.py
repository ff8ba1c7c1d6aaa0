"""What is AWS's configuration, as it was before variables were set for handlers?

Handlers in this process find placeholder credentials in `os.environ` and may set variables of
their own. The gateway uses none of them: everything here is read from the environment that it was
started with. The order is boto3's: variables, the profile's files (a role to assume, web identity,
SSO, keys, a process), the container's endpoint, the instance's metadata.

https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.credentials import (  # type: ignore[import-untyped]
    AioAssumeRoleProvider,
    AioAssumeRoleWithWebIdentityProvider,
    AioCanonicalNameCredentialSourcer,
    AioContainerProvider,
    AioCredentialResolver,
    AioEnvProvider,
    AioInstanceMetadataProvider,
    AioProcessProvider,
    AioProfileProviderBuilder,
)
from aiobotocore.session import AioSession  # type: ignore[import-untyped]
from aiobotocore.utils import AioInstanceMetadataFetcher  # type: ignore[import-untyped]
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConfigChainFactory
from botocore.utils import ensure_boolean, resolve_imds_endpoint_mode

if TYPE_CHECKING:
    from collections.abc import Mapping

# A message is waiting for what these clients fetch.
_CONNECT_TIMEOUT_S: Final = 3.0
_READ_TIMEOUT_S: Final = 5.0

_WEB_IDENTITY: Final = {
    "web_identity_token_file": "AWS_WEB_IDENTITY_TOKEN_FILE",
    "role_arn": "AWS_ROLE_ARN",
    "role_session_name": "AWS_ROLE_SESSION_NAME",
}


class Session(AioSession):  # type: ignore[misc]
    """A session of aiobotocore that reads no variables but the ones it is given.

    Args:
        environ: The environment, without what is set for handlers.
        region: Where neither variables nor the profile name one.
        endpoint_url: What is called instead of AWS.
        endpoint_urls: The same by service, as boto3 names its clients: `lambda`, `stepfunctions`.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        region: str,
        endpoint_url: str | None = None,
        endpoint_urls: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._environ = dict(environ)
        self._endpoint_url = endpoint_url
        self._endpoint_urls = dict(endpoint_urls or {})
        chains = ConfigChainFactory(self, self._environ)
        store = self.get_component("config_store")
        for name, (key, variables, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
            if name == "region":
                # boto3 does not know the variable that all other SDKs, and Lambda, use.
                variables, default = ["AWS_REGION", "AWS_DEFAULT_REGION"], region  # noqa: PLW2901
            chain = chains.create_config_chain(
                instance_name=name,
                env_var_names=variables,
                config_property_names=key,
                default=default,
                conversion_func=convert,
            )
            store.set_config_provider(name, chain)
        self.lazy_register_component("credential_provider", self._provider_chain)
        self.set_default_client_config(
            AioConfig(
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=_READ_TIMEOUT_S,
                retries={"total_max_attempts": 1},
                # `create_client` looks for them, and botocore would in os.environ.
                ignore_configured_endpoint_urls=True,
            )
        )

    @property
    def region(self) -> str:
        """The region where nothing else is said."""
        return str(self.get_config_variable("region"))

    @property
    def described(self) -> str:
        """Say where credentials are looked for, for whoever has to mend it."""
        profile = self.get_config_variable("profile") or "default"
        return (
            f"AWS_ACCESS_KEY_ID, the profile {profile!r} in "
            f"{self.get_config_variable('credentials_file')} and "
            f"{self.get_config_variable('config_file')}, AWS_WEB_IDENTITY_TOKEN_FILE, the "
            "container's endpoint and the instance's metadata"
        )

    def prepare(self, service_name: str) -> None:
        """Read what making a client would read on the event loop; blocks for 100 ms."""
        loader = self.get_component("data_loader")
        for kind in ("service-2", "endpoint-rule-set-1"):
            loader.load_service_model(service_name, kind)
        for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
            loader.load_data(name)

    def create_client(self, service_name: str, **options: Any) -> Any:
        """Return the context of a client, which calls what is configured instead of AWS."""
        if options.get("endpoint_url") is None:
            options["endpoint_url"] = self.endpoint_url(service_name, service_name)
        return super().create_client(service_name, **options)

    def endpoint_url(self, service_name: str, service_id: str) -> str | None:
        """Return what is called instead of AWS; None where nothing is set.

        The gateway's settings come first, then variables, then the profile; in each of them what is
        said of the service, then what is said of all.
        https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html

        Args:
            service_name: boto3's name of the client.
            service_id: What variables and the profile name the service with.
        """
        set_here = self._endpoint_urls.get(service_name) or self._endpoint_url
        if set_here:
            return set_here
        profile = self.get_scoped_config()
        ignored = self._environ.get(
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", profile.get("ignore_configured_endpoint_urls")
        )
        if ensure_boolean(ignored or False):
            return None
        snake = service_id.replace(" ", "_").replace("-", "_")
        services = self.full_config.get("services", {}).get(profile.get("services"), {})
        found = (
            self._environ.get(f"AWS_ENDPOINT_URL_{snake.upper()}")
            or self._environ.get("AWS_ENDPOINT_URL")
            or services.get(snake.lower(), {}).get("endpoint_url")
            or profile.get("endpoint_url")
        )
        return None if found is None else str(found)

    def _provider_chain(self) -> AioCredentialResolver:
        profile = self.get_config_variable("profile") or "default"
        from_variables = AioEnvProvider(self._environ)
        from_container = AioContainerProvider(self._environ)
        from_instance = AioInstanceMetadataProvider(
            iam_role_fetcher=AioInstanceMetadataFetcher(
                timeout=self.get_config_variable("metadata_service_timeout"),
                num_attempts=self.get_config_variable("metadata_service_num_attempts"),
                user_agent=self.user_agent(),
                env=self._environ,
                config={
                    "ec2_metadata_service_endpoint": self.get_config_variable(
                        "ec2_metadata_service_endpoint"
                    ),
                    "ec2_metadata_service_endpoint_mode": resolve_imds_endpoint_mode(self),
                    "ec2_metadata_v1_disabled": self.get_config_variable(
                        "ec2_metadata_v1_disabled"
                    ),
                },
            )
        )
        cache: dict[str, object] = {}
        builder = _ProfileProviders(
            self, cache=cache, region_name=self.region, environ=self._environ
        )
        create_client = partial(self.create_client, region_name=self.region)
        return AioCredentialResolver(
            [
                from_variables,
                AioAssumeRoleProvider(
                    load_config=lambda: self.full_config,
                    client_creator=create_client,
                    cache=cache,
                    profile_name=profile,
                    credential_sourcer=AioCanonicalNameCredentialSourcer(
                        [from_variables, from_container, from_instance]
                    ),
                    profile_provider_builder=builder,
                ),
                self._from_web_identity(cache, create_client),
                *builder.providers(profile_name=profile, disable_env_vars=True),
                from_container,
                from_instance,
            ]
        )

    def _from_web_identity(self, cache: dict[str, object], create_client: Any) -> Any:
        # The provider reads os.environ, but also any profile that it is given.
        profile = {
            key: self._environ[variable]
            for key, variable in _WEB_IDENTITY.items()
            if variable in self._environ
        }
        return AioAssumeRoleWithWebIdentityProvider(
            load_config=lambda: {"profiles": {"variables": profile}},
            client_creator=create_client,
            profile_name="variables",
            cache=cache,
            disable_env_vars=True,
        )


class _ProfileProviders(AioProfileProviderBuilder):  # type: ignore[misc]
    """The providers of a profile, of which a process gets the environment too."""

    def __init__(self, *args: Any, environ: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._environ = environ

    def _create_process_provider(self, profile_name: str) -> AioProcessProvider:
        return AioProcessProvider(
            profile_name=profile_name,
            load_config=lambda: self._session.full_config,
            popen=partial(asyncio.create_subprocess_exec, env=self._environ),
        )
