"""Which connections flags ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.connections_command.records import NOW_MS, record
from wsgateway.connections_command.filters import make_filter
from wsgateway.errors import OperatorFaults

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    ("flags", "is_taken"),
    [
        ({}, True),
        ({"stage": "prod,dev"}, True),
        ({"stage": "prod"}, False),
        ({"source_ip": "192.0.2.7"}, True),
        ({"source_ip": "192.0.2.0/24"}, True),
        ({"source_ip": "192.0.2.8"}, False),
        ({"source_ip": "2001:db8::/32"}, False),
        ({"older_than": "100"}, True),
        ({"older_than": "100s"}, True),
        ({"older_than": "1.5m"}, True),
        ({"older_than": "101s"}, False),
        ({"older_than": "1h"}, False),
        ({"user_agent": "mozilla"}, True),
        ({"user_agent": "curl"}, False),
        ({"node": "000001"}, True),
        ({"node": "F80002"}, False),
        ({"stage": "dev", "older_than": "1m", "user_agent": "curl"}, False),
    ],
)
def test_filters(flags: Mapping[str, str], is_taken: bool) -> None:
    wanted = make_filter(**flags)

    assert wanted.takes(record(), NOW_MS) is is_taken
    assert wanted.takes_all is (flags == {})


def test_a_client_of_ipv4_at_an_ipv6_socket_has_its_ipv4_address() -> None:
    wanted = make_filter(source_ip="192.0.2.0/24")

    assert wanted.takes(record(source_ip="::ffff:192.0.2.7"), NOW_MS)
    assert not wanted.takes(record(source_ip="nowhere"), NOW_MS)


def test_who_tells_nothing_of_itself_is_not_found_by_that() -> None:
    assert not make_filter(user_agent="x").takes(record(user_agent=None), NOW_MS)


def test_filters_that_cannot_be_read_are_told_all_at_once() -> None:
    with pytest.raises(OperatorFaults) as raised:
        make_filter(source_ip="here", older_than="long", node="1")

    assert [str(fault) for fault in raised.value.faults] == [
        "--source-ip: 'here' is no address; write 192.0.2.7, or 192.0.2.0/24",
        "--older-than: 'long' is no duration; write 90s, 10m or 2h",
        "--node: '1' is no node; write six hexadecimal digits, as `connections list` shows them",
    ]
