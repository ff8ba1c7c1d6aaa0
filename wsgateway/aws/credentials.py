"""Which credentials is a request signed with: the gateway's own, or those of a role it assumes?

Both are fetched when they are first needed, by one task for all who wait, and again in the
background some minutes before they expire: no message waits for that.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aioboto3  # type: ignore[import-untyped]
import structlog
from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials

from wsgateway.errors import InvokeRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wsgateway.aws.session import Session

log = structlog.stdlib.get_logger(__name__)

# The shortest that STS gives are good for 15 minutes.
_REFRESH_BEFORE_S: Final = 300.0
# What a request may take, and clocks may differ by.
_EXPIRED_BEFORE_S: Final = 60.0
# Beyond what any one source takes by itself: metadata endpoints, a login helper, STS.
_FETCH_TIMEOUT_S: Final = 15.0
# A failure is everybody's answer this long: a metadata endpoint that is not there takes a second to
# say so, and STS throttles.
_FAILED_FOR_S: Final = 2.0
# What API Gateway's own sessions are named, which policies may rely on.
_SESSION_NAME: Final = "BackplaneAssumeRoleSession"


class Fetched(NamedTuple):
    """Credentials and when they expire, as an epoch in seconds; None is never."""

    credentials: ReadOnlyCredentials
    expires_at_s: float | None


class Source:
    """Credentials from one place.

    Args:
        name: For messages: what is not there when they cannot be had.
        fetch: Gets them; raises whatever botocore does.
    """

    def __init__(self, name: str, fetch: Callable[[], Awaitable[Fetched]]) -> None:
        self._name = name
        self._fetch = fetch
        self._fetched: Fetched | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._failure = ""
        self._failed_until_s = 0.0

    def current(self) -> ReadOnlyCredentials | None:
        """Return what is there and good for long enough; begins to renew it where that is due."""
        if self._fetched is None:
            return None
        credentials, expires_at_s = self._fetched
        if expires_at_s is None:
            return credentials
        left_s = expires_at_s - time.time()
        if left_s > _REFRESH_BEFORE_S:
            return credentials
        if time.monotonic() >= self._failed_until_s:
            _ = self._begin()
        return credentials if left_s > _EXPIRED_BEFORE_S else None

    async def get(self) -> ReadOnlyCredentials:
        """Return the credentials, and wait for them where they have to be fetched.

        Raises:
            InvokeRefused: They cannot be had; says why.
        """
        if (credentials := self.current()) is not None:
            return credentials
        if time.monotonic() >= self._failed_until_s:
            # Who gives up waiting leaves the task to the others.
            await asyncio.wait([self._begin()])
            if (credentials := self.current()) is not None:
                return credentials
        raise InvokeRefused(self._failure)

    async def close(self) -> None:
        """Give up what is being fetched."""
        if self._fetching is not None:
            self._failure = f"{self._name}: the gateway stops"
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _begin(self) -> asyncio.Task[None]:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._renew())
        return self._fetching

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_TIMEOUT_S):
                self._fetched = await self._fetch()
            if not self._is_new():
                self._failed(f"{self._name}: those that are given expire too soon")
        except InvokeRefused as error:
            self._failed(str(error))
        except TimeoutError:
            self._failed(f"{self._name}: no answer in {_FETCH_TIMEOUT_S:g} s")
        # Files, processes, endpoints and STS fail with errors of many kinds.
        except Exception as error:  # noqa: BLE001 - said wherever these credentials are needed
            self._failed(f"{self._name}: {type(error).__name__}: {error}")

    def _is_new(self) -> bool:
        assert self._fetched is not None
        expires_at_s = self._fetched.expires_at_s
        return expires_at_s is None or expires_at_s - time.time() > _REFRESH_BEFORE_S

    def _failed(self, failure: str) -> None:
        self._failure = failure
        self._failed_until_s = time.monotonic() + _FAILED_FOR_S
        if self._fetched is not None:
            log.warning("credentials could not be renewed", reason=failure)


class Credentials:
    """The gateway's own credentials, and those of roles."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._own = Source("the gateway has no AWS credentials", self._fetch_own)
        self._roles: dict[str, Source] = {}
        self._clients: dict[str, Any] = {}
        self._opening = asyncio.Lock()
        self._opened = AsyncExitStack()

    def source(self, role_arn: str | None, region: str) -> Source:
        """Return where credentials come from.

        Args:
            role_arn: The role to assume; None for the gateway's own.
            region: Whose STS is asked the first time; what it gives is good in all regions.
        """
        if role_arn is None:
            return self._own
        source = self._roles.get(role_arn)
        if source is None:

            def fetch(arn: str = role_arn) -> Awaitable[Fetched]:
                return self._assume(arn, region)

            source = self._roles[role_arn] = Source(f"{role_arn} cannot be assumed", fetch)
        return source

    async def close(self) -> None:
        """Close what was opened."""
        for source in (self._own, *self._roles.values()):
            await source.close()
        await self._opened.aclose()

    async def _fetch_own(self) -> Fetched:
        credentials = await self._session.get_credentials()
        if credentials is None:
            raise InvokeRefused(
                f"the gateway has no AWS credentials: none in {self._session.described}"
            )
        frozen = await credentials.get_frozen_credentials()
        return Fetched(frozen, _expires_at_s(credentials))

    async def _assume(self, role_arn: str, region: str) -> Fetched:
        # First, for its own reason why there are none.
        await self._own.get()
        client = await self._sts(region)
        answer = await client.assume_role(RoleArn=role_arn, RoleSessionName=_SESSION_NAME)
        given = answer["Credentials"]
        return Fetched(
            ReadOnlyCredentials(
                given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]
            ),
            given["Expiration"].timestamp(),
        )

    async def _sts(self, region: str) -> Any:
        async with self._opening:
            client = self._clients.get(region)
            if client is None:
                await asyncio.to_thread(self._session.prepare, "sts")
                session = aioboto3.Session(botocore_session=self._session)
                client = self._clients[region] = await self._opened.enter_async_context(
                    session.client("sts", region_name=region)
                )
        return client


def _expires_at_s(credentials: RefreshableCredentials | object) -> float | None:
    if not isinstance(credentials, RefreshableCredentials):
        return None
    # botocore tells nobody but itself.
    return credentials._expiry_time.timestamp()  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001
