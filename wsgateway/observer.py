"""Who stands in the way of what passes through a gateway: tests, and `wsgateway invoke`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgateway.contracts import Dispatch, HttpClient, Invoker


class Observer:
    """Is asked at each seam what to use in its place; this one lets everything pass."""

    def function(self, route_key: str, function: Invoker) -> Invoker:  # noqa: ARG002 - for others
        """Return what is invoked instead of a route's function."""
        return function

    def http(self, client: HttpClient) -> HttpClient:
        """Return what sends requests to backends and AWS services instead of the client."""
        return client

    def dispatch(self, dispatch: Dispatch) -> Dispatch:
        """Return what the listener asks instead of the dispatcher."""
        return dispatch
